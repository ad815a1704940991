//! Standard input of a process: what attached clients send, never more than the pipe takes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::poller::{EventFlags, Poller, Registration, Token};

/// Our end of a process's standard input.
#[derive(Debug)]
pub(crate) struct Input {
    fd: OwnedFd,
    terminal: bool,
    /// Read from a client but not yet taken by the pipe.
    pending: Vec<u8>,
    /// Close when `pending` is written.
    closing: bool,
    registration: Registration,
}

/// Whether a process still takes input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputState {
    /// It does, now.
    Space,
    /// It does, but not now.
    Full,
    /// Its end is closed.
    Closed,
}

impl Input {
    /// Takes our end of a pipe, or the master of a terminal, in non-blocking mode.
    pub(crate) fn new(fd: OwnedFd, terminal: bool) -> Self {
        Self { fd, terminal, pending: Vec::new(), closing: false, registration: Registration::default() }
    }

    /// Passes bytes on; what does not fit is kept.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> InputState {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => {
                    self.pending.extend_from_slice(rest);
                    return InputState::Full;
                }
                Err(Errno::INTR) => {}
                Err(_) => return InputState::Closed,
            }
        }
        InputState::Space
    }

    /// Goes on after the pipe has space again.
    pub(crate) fn write_pending(&mut self) -> InputState {
        let pending = std::mem::take(&mut self.pending);
        match self.write(&pending) {
            InputState::Space if self.closing => InputState::Closed,
            state => state,
        }
    }

    /// Closes once everything is written; a terminal stays open, since its output is the same descriptor.
    pub(crate) fn close_after_pending(&mut self) -> InputState {
        if self.terminal {
            return self.state();
        }
        self.closing = true;
        if self.pending.is_empty() { InputState::Closed } else { InputState::Full }
    }

    pub(crate) fn state(&self) -> InputState {
        if self.pending.is_empty() { InputState::Space } else { InputState::Full }
    }

    /// Waits for space only while something is pending: a pipe without readers would report that for ever.
    pub(crate) fn register(&mut self, poller: &Poller, process: u32) -> io::Result<()> {
        let wanted = (!self.pending.is_empty()).then_some(EventFlags::OUT);
        self.registration.set(poller, &self.fd, Token::Input(process), wanted)
    }

    pub(crate) fn close(mut self, poller: &Poller) {
        // Only a descriptor that is not there could fail, and ours is.
        let _ = self.registration.set(poller, &self.fd, Token::Input(0), None);
    }
}
