//! Execs that nobody asked for by name: health checks. Bounded in time and output, and ended with everything they started.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::exec::CreateRequest;
use ferry_shim::protocol::{Reply, Request, Target};
use ferry_spec::digest::Digest;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::table::{ExecEntry, ExecState};
use super::{Execs, StartOptions};
use crate::containers::{AttachSession, Container, Containers, Live};
use crate::error::{Error, Result};
use crate::ids;

/// Most output that is kept; more is told by three dots.
const OUTPUT_BYTES: usize = 4096;
/// A shim that has not started the check by then is not waited for. It does not count as the check's own time.
const STARTED: Duration = Duration::from_secs(30);
/// How long the last output may take after the check was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;

/// How a check ended.
pub(crate) enum CheckEnd {
    Exited { code: i32, output: String },
    TimedOut { output: String },
}

impl Containers {
    /// Runs a command in the container as the container's own user, waits for its end, and kills it at its time-out.
    pub(crate) async fn run_check(
        &self,
        container: &Arc<Container>,
        argv: Vec<String>,
        timeout: Duration,
    ) -> Result<CheckEnd> {
        let execs = Execs::new(self.clone());
        let live = execs.may_exec(container, &container.id)?;
        let request =
            CreateRequest { cmd: Some(argv), attach_stdout: true, attach_stderr: true, ..CreateRequest::default() };
        let id = check_id(&container.id);
        let entry = ExecEntry::new(&id, &container.id, request);
        execs.publish(container, "exec_create", &entry.id, &entry.request, &[]);
        self.inner.execs.insert(entry.clone());
        // Whatever comes, also the end of this future: the process goes, and the table forgets it.
        let guard = CheckGuard { containers: self.clone(), live, id };
        self.inner.execs.begin(&guard.id)?;
        let started = execs.start_begun(&entry, container, &guard.live, StartOptions::default());
        let session = match tokio::time::timeout(STARTED, started).await {
            Ok(session) => session?,
            Err(_) => {
                return Err(Error::internal(format!("timed out starting health check for container {}", container.id)));
            }
        };
        let Some(AttachSession { stream: Some(mut stream), .. }) = session else {
            return Err(Error::internal("a check without output"));
        };
        let mut output = Output::default();
        if tokio::time::timeout(timeout, output.read(&mut stream)).await.is_err() {
            guard.kill().await;
            // It is dead; what it said in its last moments is welcome.
            let _ = tokio::time::timeout(AFTER_KILL, output.read(&mut stream)).await;
            return Ok(CheckEnd::TimedOut { output: output.text() });
        }
        match execs.settled(&guard.id).await?.state {
            ExecState::Ended { code, .. } => Ok(CheckEnd::Exited { code, output: output.text() }),
            _ => Err(Error::internal(format!("healthcheck for container {} has no exit code", container.id))),
        }
    }
}

impl Containers {
    /// Ends an exec that is a check and outlived the daemon which waited for it.
    pub(crate) fn end_orphaned_check(&self, container: &Container, live: &Arc<Live>, exec_id: &str) {
        if is_check_id(&container.id, exec_id) {
            drop(CheckGuard { containers: self.clone(), live: Arc::clone(live), id: exec_id.to_owned() });
        }
    }
}

/// Digits at the end of a check's id that are made from the others.
const MARK_DIGITS: usize = 12;

/// An exec id like any other, by which a next daemon knows a check that outlived this one.
fn check_id(container_id: &str) -> String {
    let mut id = ids::random_id();
    id.truncate(id.len() - MARK_DIGITS);
    id.push_str(&mark(container_id, &id));
    id
}

fn is_check_id(container_id: &str, id: &str) -> bool {
    let split = id.len().checked_sub(MARK_DIGITS).and_then(|at| id.split_at_checked(at));
    split.is_some_and(|(rest, end)| end == mark(container_id, rest))
}

fn mark(container_id: &str, rest: &str) -> String {
    Digest::sha256(format!("health check of {container_id}: {rest}").as_bytes()).hex()[..MARK_DIGITS].to_owned()
}

/// Ends what runs of a check when it is not waited for any more.
struct CheckGuard {
    containers: Containers,
    live: Arc<Live>,
    id: String,
}

impl CheckGuard {
    async fn kill(&self) {
        kill_session(&self.containers, &self.live, &self.id).await;
    }
}

impl Drop for CheckGuard {
    fn drop(&mut self) {
        let (containers, live, id) = (self.containers.clone(), Arc::clone(&self.live), self.id.clone());
        let runs = matches!(
            containers.inner.execs.get(&id).map(|entry| entry.state),
            Ok(ExecState::Starting | ExecState::Running { .. })
        );
        if !runs {
            containers.inner.execs.forget(&id);
            return;
        }
        tokio::spawn(async move {
            kill_session(&containers, &live, &id).await;
            containers.inner.execs.forget(&id);
        });
    }
}

/// Kills an exec and whatever it left behind: each exec leads a session of its own.
async fn kill_session(containers: &Containers, live: &Live, id: &str) {
    let leader = match containers.inner.execs.get(id).map(|entry| entry.state) {
        Ok(ExecState::Running { pid }) => Some(pid),
        _ => None,
    };
    let request = Request::Kill { target: Target::Exec(id.to_owned()), signal: SIGKILL, all: false };
    // One that has ended needs no signal.
    let _ = live.shim.command(request, &[]).await;
    let Some(leader) = leader else { return };
    let Ok(Reply::Pids(pids)) = live.shim.call(Request::Pids, &[]).await else { return };
    for pid in pids.into_iter().filter(|pid| *pid != leader) {
        kill_member(pid, leader);
    }
}

/// The pid may be another process's at any moment: what is held by its descriptor is looked at before it is killed.
fn kill_member(pid: u32, session: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    if session_of(&stat) == Some(session) {
        // Gone already is as good.
        let _ = pidfd_send_signal(&held, Signal::KILL);
    }
}

/// Field 6 of `/proc/<pid>/stat`, counted after the name, which may hold anything.
fn session_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// What a check says on both streams, cut.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    cut: bool,
    /// Bytes of a frame's head that came so far.
    head: Vec<u8>,
    /// Payload bytes that are still to come of the frame.
    left: usize,
}

impl Output {
    /// Reads to the end. May be called again where it was left.
    async fn read(&mut self, stream: &mut UnixStream) {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => self.take(&buffer[..count]),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = bytes.len().min(8 - self.head.len());
                self.head.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if let [_, _, _, _, a, b, c, d] = self.head[..] {
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            bytes = rest;
            let room = OUTPUT_BYTES - self.kept.len();
            self.cut |= payload.len() > room;
            self.kept.extend_from_slice(&payload[..payload.len().min(room)]);
        }
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_joined_however_they_come() {
        let bytes = [frame(1, b"out "), frame(2, b""), frame(2, b"err")].concat();
        for step in 1..bytes.len() {
            let mut output = Output::default();
            bytes.chunks(step).for_each(|chunk| output.take(chunk));
            assert_eq!(output.text(), "out err", "in steps of {step}");
        }
    }

    #[test]
    fn a_check_is_known_by_its_id() {
        let (one, other) = ("a".repeat(64), "b".repeat(64));
        let id = check_id(&one);
        assert_eq!(id.len(), 64);
        assert!(is_check_id(&one, &id) && !is_check_id(&other, &id));
        assert!(!is_check_id(&one, &ids::random_id()) && !is_check_id(&one, "short"));
    }

    #[test]
    fn long_output_is_cut_and_says_so() {
        let mut output = Output::default();
        output.take(&frame(1, &[b'x'; OUTPUT_BYTES]));
        assert_eq!(output.text().len(), OUTPUT_BYTES);
        output.take(&frame(1, b"y"));
        assert!(output.text().ends_with("x..."));
    }

    #[test]
    fn the_session_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(session_of("42 (a) b (c) S 1 40 41 0 -1"), Some(41));
        assert_eq!(session_of("nonsense"), None);
    }
}
