//! Watches over the heads of requests: they must come in time, be small, and have one length.
//!
//! hyper reads a request with two lengths in the way the standard allows; a proxy before us might read it in the other way.
//! So the raw head is looked at as it arrives, and such a request answers 400 and ends its connection.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time that a client has for a head.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a head.
pub(crate) const HEAD_LIMIT: usize = 64 << 10;

/// What a connection does, shared between its transport, its service and its bodies.
#[derive(Debug)]
pub(crate) struct Guard(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Between requests.
    Idle,
    /// A head arrives.
    Head { since: Instant, bytes: Vec<u8> },
    /// A request is handled; whether bytes of its body are still to be read.
    Busy { body: bool },
    /// The answer came before the body was read; what still arrives of it is not wanted.
    Unwanted,
    /// The connection is a stream now, or about to be closed; nothing is looked at any more.
    Over,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The head is larger than [`HEAD_LIMIT`].
    TooLarge,
    /// The head has two lengths.
    TwoLengths,
}

impl Guard {
    /// Returns the guard of a new connection: its first head is due.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Head { since: Instant::now(), bytes: Vec::new() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A request's head was read: its handler begins.
    pub(crate) fn begin(&self) {
        *self.lock() = State::Busy { body: false };
    }

    /// The request has a body.
    pub(crate) fn body_begins(&self) {
        *self.lock() = State::Busy { body: true };
    }

    /// The request's body was read to its end.
    pub(crate) fn body_ends(&self) {
        let mut state = self.lock();
        if let State::Busy { body } = &mut *state {
            *body = false;
        }
    }

    /// Tells whether bytes of a body are still to be read: what arrives next is no head.
    pub(crate) fn is_body_unread(&self) -> bool {
        matches!(*self.lock(), State::Busy { body: true })
    }

    /// A response is done. A connection with a body left to read is never looked at again.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        *state = match *state {
            State::Over => State::Over,
            State::Unwanted | State::Busy { body: true } => State::Unwanted,
            _ => State::Idle,
        };
    }

    /// What is left of the body is not wanted: the connection ends with the answer.
    pub(crate) fn refuse_body(&self) {
        *self.lock() = State::Unwanted;
    }

    /// Tells whether the connection ends while its client may still be sending a body.
    pub(crate) fn is_body_unwanted(&self) -> bool {
        matches!(*self.lock(), State::Unwanted)
    }

    /// The connection becomes a stream, or is to be closed.
    pub(crate) fn over(&self) {
        *self.lock() = State::Over;
    }

    /// Returns when the head that is arriving must be whole.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &*self.lock() {
            State::Head { since, .. } => Some(*since + HEAD_TIMEOUT),
            _ => None,
        }
    }

    /// Looks at bytes that arrived.
    pub(crate) fn arrived(&self, arrived: &[u8]) -> Result<(), Violation> {
        if arrived.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        if matches!(*state, State::Idle) {
            *state = State::Head { since: Instant::now(), bytes: Vec::new() };
        }
        let State::Head { bytes, .. } = &mut *state else { return Ok(()) };
        let looked_at = bytes.len().saturating_sub(3);
        bytes.extend_from_slice(&arrived[..arrived.len().min(HEAD_LIMIT + 1 - bytes.len().min(HEAD_LIMIT))]);
        let Some(end) = bytes[looked_at..].windows(4).position(|window| window == b"\r\n\r\n") else {
            return if bytes.len() > HEAD_LIMIT { Err(Violation::TooLarge) } else { Ok(()) };
        };
        let verdict = check_lengths(&bytes[..looked_at + end]);
        // Until the handler begins nothing more belongs to this head.
        *state = State::Busy { body: false };
        verdict
    }
}

fn check_lengths(head: &[u8]) -> Result<(), Violation> {
    let lengths = head
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| line.split(|byte| *byte == b':').next())
        .filter(|name| name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding"))
        .count();
    if lengths > 1 { Err(Violation::TwoLengths) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(guard: &Guard, text: &[u8], cut: usize) -> Result<(), Violation> {
        text.chunks(cut).try_for_each(|part| guard.arrived(part))
    }

    #[test]
    fn two_lengths_are_seen_however_they_arrive() {
        let both = b"POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc";
        let twice = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
        let fine =
            b"POST / HTTP/1.1\r\nContent-Length: 46\r\n\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        for cut in [1, 2, 3, 7, 500] {
            assert_eq!(feed(&Guard::new(), both, cut), Err(Violation::TwoLengths), "cut {cut}");
            assert_eq!(feed(&Guard::new(), twice, cut), Err(Violation::TwoLengths), "cut {cut}");
            assert_eq!(feed(&Guard::new(), fine, cut), Ok(()), "cut {cut}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
        long.resize(HEAD_LIMIT + 10, b'a');
        assert_eq!(feed(&Guard::new(), &long, 8192), Err(Violation::TooLarge));
    }

    #[test]
    fn deadlines_hold_for_heads_alone() {
        let guard = Guard::new();
        assert!(guard.deadline().is_some());
        guard.arrived(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        guard.begin();
        assert!(guard.deadline().is_none());
        guard.end();
        assert!(guard.deadline().is_none());
        guard.arrived(b"G").unwrap();
        assert!(guard.deadline().is_some());
        guard.begin();
        guard.body_begins();
        assert!(guard.is_body_unread());
        guard.end();
        // The rest of a body that nobody read is no head.
        guard.arrived(b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n").unwrap();
        assert!(guard.deadline().is_none());
        guard.over();
        guard.end();
        guard.arrived(b"any bytes").unwrap();
        assert!(guard.deadline().is_none());
    }
}
