//! The tiny programs that run inside containers, as bytes to be put there.
//!
//! Owns: PID 1 of `--init` and the program of the bundled hello-world image. Each is one source file below `src/bin` without std or libc, which
//! `build.rs` compiles with `rustc -Cpanic=abort -Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-static`; compiled by cargo with its
//! own panic strategy they are ordinary programs of the same behaviour, so that checks and lints see them.

/// PID 1 of `--init`, a static ELF program: `ferry-init -- program arguments…`.
///
/// Starts the program in a process group of its own (the foreground one, where there is a terminal), passes signals on to it, reaps every
/// orphan, and ends with the program's code, or 128 and the number of the signal that ended it. A program that cannot be started gives 127 when it
/// is missing, else 126.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ferry-init"));

/// The program of hello-world, a static ELF program.
pub const HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ferry-hello"));

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::path::PathBuf;
    use std::process::{Command, Output, Stdio};

    use super::*;

    struct Program(PathBuf);

    impl Program {
        fn new(name: &str, bytes: &[u8]) -> Program {
            let path = std::env::temp_dir().join(format!("ferry-init-test-{name}-{}", std::process::id()));
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&path).unwrap();
            file.write_all(bytes).unwrap();
            drop(file);
            Program(path)
        }

        fn run(&self, arguments: &[&str]) -> Output {
            // Another test's fork may hold the file open for writing for a moment.
            loop {
                let made = Command::new(&self.0).arg0("ferry-init").args(arguments).stdin(Stdio::null()).output();
                match made {
                    Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                    other => return other.unwrap(),
                }
            }
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn programs_are_tiny_and_static() {
        for program in [INIT, HELLO] {
            assert!(program.starts_with(b"\x7fELF") && program.len() < 16 * 1024, "{} bytes", program.len());
            assert!(!program.windows(7).any(|window| window == b"ld-linu"));
        }
    }

    #[test]
    fn hello_tells_its_steps() {
        let output = Program::new("hello", HELLO).run(&[]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("\nHello from ferry!\n") && text.contains("digest") && text.contains("shim"));
    }

    #[test]
    fn init_ends_as_its_program_does() {
        let init = Program::new("codes", INIT);
        assert_eq!(init.run(&["--", "/bin/sh", "-c", "exit 7"]).status.code(), Some(7));
        assert_eq!(init.run(&["--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
        assert_eq!(init.run(&["--", "/nonexistent"]).status.code(), Some(127));
        assert_eq!(init.run(&["--", "no-such-program"]).status.code(), Some(127));
        assert_eq!(init.run(&["--", "/etc/passwd"]).status.code(), Some(126));
        assert_eq!(init.run(&[]).status.code(), Some(1));
        let output = init.run(&["--", "sh", "-c", "echo \"$1\"; echo err >&2", "x", "a b"]);
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"a b\n".as_slice(), b"err\n".as_slice()));
    }

    #[test]
    fn init_passes_signals_on() {
        let init = Program::new("signals", INIT);
        let script = "trap 'exit 42' TERM; kill -TERM $PPID; while :; do sleep 0.01; done";
        assert_eq!(init.run(&["--", "sh", "-c", script]).status.code(), Some(42));
    }
}
