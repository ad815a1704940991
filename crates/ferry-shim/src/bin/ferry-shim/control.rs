//! A control connection: requests with their descriptors in, replies and events out.
//!
//! Frames are read exactly, never beyond their end, so that descriptors belong to the frame with whose first byte they came.

use std::io;
use std::os::fd::OwnedFd;

use ferry_shim::framing::{HEADER_BYTES, decode_header, encode};
use ferry_shim::protocol::RequestFrame;
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use crate::poller::{EventFlags, Poller, Registration, Token};

/// An engine that lets more than this pile up does not read; it may connect again.
const UNSENT_BYTES: usize = 1 << 20;

/// A connection to an engine.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) number: u32,
    socket: OwnedFd,
    incoming: Vec<u8>,
    fds: Vec<OwnedFd>,
    unsent: Vec<u8>,
    broken: bool,
    registration: Registration,
}

/// What every version's request has.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole request.
    Request(Box<RequestFrame>, Vec<OwnedFd>),
    /// A frame that is no request of ours; the text says why.
    NotUnderstood(u64, String),
    /// Not yet a whole one.
    Nothing,
    /// The engine is gone, or speaks something else.
    Gone,
}

impl Control {
    /// Takes a socket in non-blocking mode.
    pub(crate) fn new(number: u32, socket: OwnedFd) -> Self {
        Self {
            number,
            socket,
            incoming: Vec::new(),
            fds: Vec::new(),
            unsent: Vec::new(),
            broken: false,
            registration: Registration::default(),
        }
    }

    /// Sends a frame, or keeps what the socket does not take now.
    pub(crate) fn send<T: Serialize>(&mut self, frame: &T) {
        if self.broken {
            return;
        }
        self.unsent.extend_from_slice(&encode(frame));
        self.send_unsent();
    }

    pub(crate) fn send_unsent(&mut self) {
        while !self.unsent.is_empty() && !self.broken {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.unsent.len() <= UNSENT_BYTES => return,
                Err(_) => self.broken = true,
            }
        }
        self.unsent.shrink_to(0);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the engine has closed its end, without reading anything.
    pub(crate) fn is_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut look = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut look, Some(&now)).is_ok_and(|count| count > 0)
    }

    /// The next request, if a whole one is there.
    pub(crate) fn receive(&mut self) -> Incoming {
        loop {
            let wanted = match self.incoming.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES - self.incoming.len(),
                Some(header) => match decode_header(*header) {
                    Ok(length) => HEADER_BYTES + length - self.incoming.len(),
                    Err(_) => return Incoming::Gone,
                },
            };
            if wanted == 0 && self.incoming.len() >= HEADER_BYTES {
                return self.take_request();
            }
            match self.receive_bytes(wanted) {
                Ok(0) => return Incoming::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Incoming::Nothing,
                Err(_) => return Incoming::Gone,
            }
        }
    }

    fn receive_bytes(&mut self, wanted: usize) -> io::Result<usize> {
        let before = self.incoming.len();
        self.incoming.resize(before + wanted, 0);
        let received = ferry_sys::socket::receive(&self.socket, &mut self.incoming[before..], &mut self.fds);
        self.incoming.truncate(before + received.as_ref().copied().unwrap_or(0));
        received
    }

    fn take_request(&mut self) -> Incoming {
        let incoming = std::mem::take(&mut self.incoming);
        let fds = std::mem::take(&mut self.fds);
        let payload = &incoming[HEADER_BYTES..];
        match serde_json::from_slice(payload) {
            Ok(request) => Incoming::Request(Box::new(request), fds),
            // A request that a later engine knows: the number is enough to answer.
            Err(error) => match serde_json::from_slice::<Numbered>(payload) {
                Ok(Numbered { seq }) => Incoming::NotUnderstood(seq, error.to_string()),
                Err(_) => Incoming::Gone,
            },
        }
    }

    pub(crate) fn register(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = if self.unsent.is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        self.registration.set(poller, &self.socket, Token::Control(self.number), Some(wanted))
    }
}
