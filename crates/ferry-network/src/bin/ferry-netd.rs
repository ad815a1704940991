//! Holds the sockets of published ports while the daemon is down; see `ferry_network::netd`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    match ferry_network::run_netd(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "ferry-netd: {error}");
            ExitCode::FAILURE
        }
    }
}
