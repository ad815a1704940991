//! What the caller and the child say to each other between `clone` and `execve`.
//!
//! One socket pair that keeps message borders. The child says at most: ready (with the terminal, if any), failed. Its end closes right before
//! `execve`. The caller says: the cgroups are there, start. What the child says is bounded and never trusted further than that: in
//! an exec it may already be seen by the container.

use std::os::fd::{AsFd, OwnedFd};

use ferry_sys::socket;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Longest message; longer texts of errors are cut.
const MAX_MESSAGE: usize = 16 * 1024;

const READY: u8 = b'r';
const FAILED: u8 = b'f';
const CGROUP: u8 = b'c';
const START: u8 = b's';

/// Why a child could not become the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    /// The text stands for itself: Docker's clients read it without a stage before it.
    bare: bool,
}

impl Failure {
    /// A failure whose text stands for itself.
    pub(crate) fn bare(message: impl Into<String>) -> Failure {
        Failure { kind: ErrorKind::Invalid, message: message.into(), bare: true }
    }

    /// The error that the caller returns, with the stage before it.
    pub(crate) fn into_error(self, stage: &str) -> Error {
        let error = Error::new(self.kind, self.message);
        if self.bare { error } else { error.within(stage) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { kind: error.kind(), message: error.to_string(), bare: false }
    }
}

/// What a child has said.
#[derive(Debug)]
pub(crate) enum FromChild {
    /// All is set up.
    Ready { console: Option<OwnedFd> },
    /// It gives up.
    Failed(Failure),
    /// It has closed its end: by its exec, or by its death.
    Closed,
}

/// Makes the two ends: caller's, child's.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::step("create the channel to the container's process", error))
}

/// Child: all is set up.
pub(crate) fn say_ready(socket: impl AsFd, console: Option<&OwnedFd>) -> std::io::Result<()> {
    let fds: Vec<_> = console.into_iter().map(AsFd::as_fd).collect();
    socket::send(socket, &[READY], &fds).map(drop)
}

/// Child: it gives up.
pub(crate) fn say_failed(socket: impl AsFd, mut failure: Failure) -> std::io::Result<()> {
    let mut end = failure.message.len().min(MAX_MESSAGE / 8);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    failure.message.truncate(end);
    let mut message = vec![FAILED];
    serde_json::to_writer(&mut message, &failure)?;
    socket::send(socket, &message, &[]).map(drop)
}

/// Child: waits until its cgroups are there.
pub(crate) fn wait_for_cgroup(socket: impl AsFd) -> Result<(), Error> {
    expect(socket, CGROUP)
}

/// Child: waits for the start.
pub(crate) fn wait_for_start(socket: impl AsFd) -> Result<(), Error> {
    expect(socket, START)
}

fn expect(socket: impl AsFd, wanted: u8) -> Result<(), Error> {
    let mut byte = [0u8; 1];
    match socket::receive(&socket, &mut byte, &mut Vec::new()) {
        Ok(1) if byte[0] == wanted => Ok(()),
        Ok(_) => Err(Error::internal("the parent went away")),
        Err(error) => Err(Error::step("wait for the parent", error)),
    }
}

/// Caller: the cgroups are there.
pub(crate) fn say_cgroup(socket: impl AsFd) -> std::io::Result<()> {
    socket::send(socket, &[CGROUP], &[]).map(drop)
}

/// Caller: start.
pub(crate) fn say_start(socket: impl AsFd) -> std::io::Result<()> {
    socket::send(socket, &[START], &[]).map(drop)
}

/// Caller: waits for what the child says next.
pub(crate) fn hear(socket: impl AsFd) -> Result<FromChild, Error> {
    let mut message = vec![0u8; MAX_MESSAGE];
    let mut fds = Vec::new();
    let length = loop {
        match socket::receive(&socket, &mut message, &mut fds) {
            Ok(length) => break length,
            // The child has ended without reading all that we said. That is told once, before what it has said itself.
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
            Err(error) => return Err(Error::step("hear from the container's process", error)),
        }
    };
    match message[..length].split_first() {
        None => Ok(FromChild::Closed),
        Some((&READY, _)) => Ok(FromChild::Ready { console: fds.pop() }),
        Some((&FAILED, text)) => serde_json::from_slice(text)
            .map(FromChild::Failed)
            .map_err(|_| Error::internal("the container's process failed and its reason could not be read")),
        Some(_) => Err(Error::internal("the container's process said what nobody understands")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_keeps_kind_and_text() {
        let (caller, child) = pair().unwrap();
        say_failed(&child, Error::new(ErrorKind::CommandNotFound, "x".repeat(100_000)).into()).unwrap();
        let FromChild::Failed(failure) = hear(&caller).unwrap() else { panic!("no failure") };
        let error = failure.into_error("stage");
        assert_eq!(error.kind(), ErrorKind::CommandNotFound);
        assert!(error.to_string().starts_with("stage: xxx") && error.to_string().len() < MAX_MESSAGE);
    }

    #[test]
    fn reason_is_heard_from_a_child_that_did_not_listen() {
        let (caller, child) = pair().unwrap();
        say_cgroup(&caller).unwrap();
        say_failed(&child, Failure::bare("why")).unwrap();
        drop(child);
        assert!(matches!(hear(&caller).unwrap(), FromChild::Failed(_)));
        assert!(matches!(hear(&caller).unwrap(), FromChild::Closed));
    }

    #[test]
    fn end_of_the_child_is_heard() {
        let (caller, child) = pair().unwrap();
        say_ready(&child, None).unwrap();
        drop(child);
        assert!(matches!(hear(&caller).unwrap(), FromChild::Ready { console: None }));
        assert!(matches!(hear(&caller).unwrap(), FromChild::Closed));
    }

    #[test]
    fn orphan_gives_up() {
        let (caller, child) = pair().unwrap();
        say_cgroup(&caller).unwrap();
        wait_for_cgroup(&child).unwrap();
        drop(caller);
        wait_for_start(&child).unwrap_err();
    }
}
