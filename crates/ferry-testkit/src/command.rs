//! Running a program to its end: exit code, both outputs whole, and a deadline.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait;

/// How long a command may take unless told otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Standard output, unchanged.
    pub stdout: Vec<u8>,
    /// Standard error, unchanged.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Returns standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Returns the trimmed output of a command that had to succeed.
    ///
    /// # Panics
    /// When the exit code is not 0; the message carries both outputs.
    #[must_use]
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, 0, "command failed: {self}");
        self.out().trim_end().to_owned()
    }

    /// Returns standard error of a command that had to fail with `code`.
    ///
    /// # Panics
    /// When the exit code is another one.
    #[must_use]
    #[track_caller]
    pub fn fails_with(&self, code: i32) -> String {
        assert_eq!(self.code, code, "wrong exit code: {self}");
        self.err().trim_end().to_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out(), self.err())
    }
}

/// A started command whose outputs are being read.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `command`, writes `stdin` to it and closes it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command, stdin: &[u8]) -> Result<Self> {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = stdin.to_vec();
            // A command may end without reading its input; the broken pipe is its choice.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        Ok(Self { child, name, stdout, stderr })
    }

    /// Returns the process id on the host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to the innermost process of the command (`nsenter` and the like wrap it).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = innermost(self.child.id());
        rustix::process::kill_process(process(pid)?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When `limit` passes; the command is then killed, and what it wrote is in the message.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let ended = wait::until(&self.name, limit, || match self.child.try_wait() {
            Ok(Some(status)) => Some(status),
            _ => None,
        });
        let status = match ended {
            Ok(status) => status,
            Err(error) => {
                kill_tree(self.child.id());
                self.child.wait().context("wait for a killed command")?;
                let outcome = self.collect(ExitStatus::from_raw(9));
                bail!("{error}; killed it: {outcome}");
            }
        };
        Ok(self.collect(status))
    }

    fn collect(&mut self, status: ExitStatus) -> Outcome {
        let join =
            |reader: Option<JoinHandle<Vec<u8>>>| reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
        Outcome {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: join(self.stdout.take()),
            stderr: join(self.stderr.take()),
        }
    }
}

/// Runs `command` with empty input to its end within [`LIMIT`].
///
/// # Errors
/// When it cannot be started or takes too long.
pub fn run(command: Command) -> Result<Outcome> {
    Running::start(command, b"")?.finish(LIMIT)
}

/// Runs `command` with `stdin` to its end within [`LIMIT`].
///
/// # Errors
/// When it cannot be started or takes too long.
pub fn run_with_input(command: Command, stdin: &[u8]) -> Result<Outcome> {
    Running::start(command, stdin)?.finish(LIMIT)
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the stream like its end; what came before is kept.
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

/// Returns the children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Follows single children down from `pid`: wrappers such as `nsenter` fork exactly once.
#[must_use]
pub fn innermost(pid: u32) -> u32 {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match (name.trim(), children(pid).as_slice()) {
        ("nsenter" | "setsid" | "unshare", [child]) => innermost(*child),
        _ => pid,
    }
}

/// Turns a number into a process id.
///
/// # Errors
/// When the number is none.
pub fn process(pid: u32) -> Result<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}

/// Kills a process that this test started, and everything below it.
pub fn kill_tree(pid: u32) {
    for child in children(pid) {
        kill_tree(child);
    }
    kill(pid);
}

/// Kills one process that this test started.
pub fn kill(pid: u32) {
    if let Ok(pid) = process(pid) {
        // It may have ended by itself in between.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn outcome_carries_code_and_both_outputs() {
        let outcome = run(shell("echo out; echo err >&2; exit 3")).unwrap();
        assert_eq!((outcome.code, outcome.out(), outcome.err()), (3, "out\n".into(), "err\n".into()));
    }

    #[test]
    fn death_by_signal_is_128_and_the_signal() {
        assert_eq!(run(shell("kill -KILL $$")).unwrap().code, 137);
    }

    #[test]
    fn input_reaches_the_command() {
        assert_eq!(run_with_input(shell("cat"), b"abc").unwrap().out(), "abc");
    }

    #[test]
    fn an_overdue_command_is_killed_with_its_children() {
        let running = Running::start(shell("echo begun; sleep 1000; echo never"), b"").unwrap();
        let error = running.finish(Duration::from_millis(200)).unwrap_err().to_string();
        assert!(error.contains("begun"), "{error}");
    }
}
