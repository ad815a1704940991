//! `epoll` with typed names for what it waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ferry_shim::log::Stream;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};

pub(crate) use rustix::event::epoll::EventFlags;

/// What an event is about. Numbers are below 2^28: they count processes and clients over the life of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Signals arrived.
    Signals,
    /// Someone connects to `shim.sock`.
    Listener,
    /// The memory limit may have killed.
    Oom,
    /// A control connection.
    Control(u32),
    /// Output of a process.
    Output(u32, Stream),
    /// There is space in the stdin of a process.
    Input(u32),
    /// The logger of a remote log.
    Logger,
    /// An attached client: of which process, and its own number.
    Client(u32, u32),
}

const NUMBER_BITS: u32 = 28;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;

impl Token {
    fn encode(self) -> u64 {
        let (kind, first, second) = match self {
            Self::Signals => (0, 0, 0),
            Self::Listener => (1, 0, 0),
            Self::Oom => (2, 0, 0),
            Self::Control(number) => (3, number, 0),
            Self::Output(process, Stream::Stdout) => (4, process, 0),
            Self::Output(process, Stream::Stderr) => (5, process, 0),
            Self::Input(process) => (6, process, 0),
            Self::Client(process, client) => (7, process, client),
            Self::Logger => (8, 0, 0),
        };
        kind << (2 * NUMBER_BITS) | u64::from(first & NUMBER_MASK) << NUMBER_BITS | u64::from(second & NUMBER_MASK)
    }

    fn decode(value: u64) -> Self {
        let number = |shift: u32| u32::try_from(value >> shift & u64::from(NUMBER_MASK)).unwrap_or(0);
        let (first, second) = (number(NUMBER_BITS), number(0));
        match value >> (2 * NUMBER_BITS) {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Oom,
            3 => Self::Control(first),
            4 => Self::Output(first, Stream::Stdout),
            5 => Self::Output(first, Stream::Stderr),
            6 => Self::Input(first),
            8 => Self::Logger,
            _ => Self::Client(first, second),
        }
    }
}

/// Waits for many descriptors.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Waits until something happens or the time is over; `events` is filled anew.
    pub(crate) fn wait(&self, events: &mut Vec<(Token, EventFlags)>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut raw = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 16];
        match epoll::wait(&self.epoll, &mut raw, timeout.as_ref()) {
            Ok(count) => {
                events.extend(raw[..count].iter().map(|event| (Token::decode(event.data.u64()), event.flags)));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What one descriptor is waited for. Must be cleared before the descriptor is closed: a description that someone else
/// holds too would stay registered.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    flags: Option<EventFlags>,
}

impl Registration {
    /// Changes what is waited for; `None` takes the descriptor out, so that not even a hang-up is reported.
    pub(crate) fn set(
        &mut self,
        poller: &Poller,
        fd: impl AsFd,
        token: Token,
        wanted: Option<EventFlags>,
    ) -> io::Result<()> {
        let data = EventData::new_u64(token.encode());
        match (self.flags, wanted) {
            (None, None) => {}
            (Some(now), Some(wanted)) if now == wanted => {}
            (Some(_), Some(wanted)) => epoll::modify(&poller.epoll, fd, data, wanted)?,
            (None, Some(wanted)) => epoll::add(&poller.epoll, fd, data, wanted)?,
            (Some(_), None) => epoll::delete(&poller.epoll, fd)?,
        }
        self.flags = wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let largest = NUMBER_MASK;
        let tokens = [
            Token::Signals,
            Token::Listener,
            Token::Oom,
            Token::Control(largest),
            Token::Output(largest, Stream::Stdout),
            Token::Output(1, Stream::Stderr),
            Token::Input(largest),
            Token::Client(largest, largest),
            Token::Client(0, 7),
            Token::Logger,
        ];
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
