//! Commands on containers.

mod api_socket;
pub(super) mod attach;
pub(super) mod commit;
mod compare;
pub(super) mod cp;
pub(super) mod create;
pub(super) mod debug;
pub(super) mod diff;
pub(super) mod exec;
pub(super) mod export;
pub(super) mod kill;
pub(in crate::commands) mod list;
pub(super) mod logs;
mod own_limits;
pub(super) mod pause;
pub(super) mod port;
pub(super) mod prune;
pub(super) mod remove;
pub(super) mod rename;
pub(super) mod restart;
pub(super) mod run;
pub(super) mod start;
pub(super) mod stats;
pub(super) mod stop;
pub(super) mod top;
pub(super) mod update;
pub(super) mod wait;
pub(super) mod why;

use crate::failure::Failure;

/// Wraps an error of `create` and `run` as Docker's client does, with the exit code that tells who failed.
fn with_help(program: &str, command: &str, code: u8, message: &str) -> Failure {
    Failure::with_code(code, format!("{program}: {message}\n\nRun '{program} {command} --help' for more information"))
}

/// 127 for a command that is not there, 126 for one that cannot be executed, else 125.
fn start_exit_code(message: &str) -> u8 {
    const MISSING: &[&str] =
        &["executable file not found", "no such file or directory", "system cannot find the file specified"];
    const DENIED: &[&str] = &["permission denied", "is a directory"];
    if MISSING.iter().any(|text| message.contains(text)) {
        127
    } else if DENIED.iter().any(|text| message.contains(text)) {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::start_exit_code;

    #[test]
    fn exit_codes_tell_who_failed() {
        assert_eq!(start_exit_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(start_exit_code("exec: \"/etc\": permission denied"), 126);
        assert_eq!(start_exit_code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(start_exit_code("port is already allocated"), 125);
    }
}
