//! `ferry-runtime`: runc's command line over the library, for engines that drive a runtime as a program.
//!
//! Owns: bundles, state files below `--root`, the wording of the command line. An option that it does not know or cannot honour is an error.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
