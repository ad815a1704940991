//! Synchronous netlink: several requests in one send, one answer for each.
//!
//! Owns sockets, sequence numbers and framing. What the messages mean is said in [`route`], [`traffic`] and
//! in the firewall's modules. A socket works in the namespace in which it was opened, whoever uses it.

pub(crate) mod attribute;
pub(crate) mod route;
pub(crate) mod traffic;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::SocketAddrNetlink,
    recv, send, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

const HEADER_BYTES: usize = 16;
/// The kernel fills dumps in blocks of at most this size when the reader offers as much.
const RECEIVE_BYTES: usize = 64 * 1024;
/// The kernel answers before `send` returns, so this ends only a wait that would never end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const ERROR_CODE_BYTES: usize = 4;
/// `NLM_F_DUMP_INTR`: what is listed changed meanwhile, and something may be missing.
const INTERRUPTED: u16 = 0x10;
/// So often a list is asked for until it is whole. Where links come and go all the time the last one has to do.
const LISTINGS: usize = 50;

/// Request flags, as in `linux/netlink.h`.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// A message to the kernel; `REQUEST` is added to the flags.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

/// A message from the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) payload: Vec<u8>,
}

/// The first request of a send that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its place in the slice.
    pub(crate) index: usize,
    /// The kernel's error.
    pub(crate) source: io::Error,
}

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of `protocol` (none is `NETLINK_ROUTE`) in the calling thread's namespace.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Opens a socket that is told of what happens in a group.
    pub(crate) fn open_group(protocol: Option<Protocol>, group: u32) -> io::Result<Self> {
        let netlink = Self::open(protocol)?;
        bind(&netlink.socket, &SocketAddrNetlink::new(0, 1 << (group - 1)))?;
        Ok(netlink)
    }

    /// Waits for what happens; messages with their kind.
    pub(crate) fn events(&mut self) -> io::Result<Vec<(u16, Reply)>> {
        let length = self.receive()?;
        let messages = Messages::new(&self.buffer[..length]);
        Ok(messages.map(|(header, payload)| (header.kind, Reply { payload: payload.to_vec() })).collect())
    }

    /// Sends all requests at once and waits for the acknowledgement of each that has the `ACK`
    /// flag. The kernel works through all of them, also after one was refused; the first refusal is
    /// reported.
    pub(crate) fn send(&mut self, requests: &[Request]) -> Result<(), Refused> {
        let whole = |source| Refused { index: 0, source };
        let first = self.transmit(requests).map_err(whole)?;
        let mut outstanding = requests.iter().filter(|request| request.flags & flag::ACK != 0).count();
        let mut refused: Option<Refused> = None;
        while outstanding > 0 {
            let length = self.receive().map_err(whole)?;
            for (header, payload) in Messages::new(&self.buffer[..length]) {
                let index = header.sequence.wrapping_sub(first) as usize;
                if header.kind != NLMSG_ERROR || index >= requests.len() {
                    continue;
                }
                if requests[index].flags & flag::ACK == 0 {
                    // A batch refused as a whole: nothing more will come.
                    outstanding = 0;
                } else {
                    outstanding = outstanding.saturating_sub(1);
                }
                if let Some(source) = error_of(payload)
                    && refused.as_ref().is_none_or(|refused| index < refused.index)
                {
                    refused = Some(Refused { index, source });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks for a list of objects: as it was at one moment, if there is one.
    pub(crate) fn dump(&mut self, mut request: Request) -> io::Result<Vec<Reply>> {
        request.flags |= flag::DUMP;
        for _ in 1..LISTINGS {
            let (replies, whole) = self.dump_once(&request)?;
            if whole {
                return Ok(replies);
            }
        }
        self.dump_once(&request).map(|(replies, _)| replies)
    }

    /// The list, and whether it is whole.
    fn dump_once(&mut self, request: &Request) -> io::Result<(Vec<Reply>, bool)> {
        let first = self.transmit(std::slice::from_ref(request))?;
        let mut replies = Vec::new();
        let mut whole = true;
        loop {
            let length = self.receive()?;
            for (header, payload) in Messages::new(&self.buffer[..length]) {
                if header.sequence != first {
                    continue;
                }
                whole &= header.flags & INTERRUPTED == 0;
                match header.kind {
                    NLMSG_DONE => return Ok((replies, whole)),
                    NLMSG_ERROR => return error_of(payload).map_or(Ok((replies, whole)), Err),
                    _ => replies.push(Reply { payload: payload.to_vec() }),
                }
            }
        }
    }

    /// Asks for one object.
    pub(crate) fn get(&mut self, request: Request) -> io::Result<Reply> {
        let first = self.transmit(std::slice::from_ref(&request))?;
        loop {
            let length = self.receive()?;
            for (header, payload) in Messages::new(&self.buffer[..length]) {
                if header.sequence != first {
                    continue;
                }
                if header.kind != NLMSG_ERROR {
                    return Ok(Reply { payload: payload.to_vec() });
                }
                if let Some(error) = error_of(payload) {
                    return Err(error);
                }
            }
        }
    }

    /// Sends and returns the sequence number of the first request.
    fn transmit(&mut self, requests: &[Request]) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(1024);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            frame(&mut bytes, request, self.sequence)?;
        }
        rustix::io::retry_on_intr(|| send(&self.socket, &bytes, SendFlags::empty()))?;
        Ok(first)
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.buffer.resize(RECEIVE_BYTES, 0);
        let (length, _) = rustix::io::retry_on_intr(|| recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()))?;
        Ok(length)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn frame(bytes: &mut Vec<u8>, request: &Request, sequence: u32) -> io::Result<()> {
    let length = u32::try_from(HEADER_BYTES + request.payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&request.kind.to_ne_bytes());
    bytes.extend_from_slice(&(request.flags | flag::REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(&request.payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(())
}

/// Returns the error in an `NLMSG_ERROR` payload; none when it is an acknowledgement.
fn error_of(payload: &[u8]) -> Option<io::Error> {
    let code = payload.first_chunk::<ERROR_CODE_BYTES>().map_or(-libc::EBADMSG, |code| i32::from_ne_bytes(*code));
    (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages of one receive.
struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<HEADER_BYTES>()?;
        let [a, b, c, d, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let payload = self.0.get(HEADER_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let header = Header {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        };
        Some((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_padded_and_read_back() {
        let mut bytes = Vec::new();
        let request = |kind, payload: &[u8]| Request { kind, flags: flag::ACK, payload: payload.to_vec() };
        frame(&mut bytes, &request(7, b"abcde"), 1).expect("short");
        frame(&mut bytes, &request(8, b""), 2).expect("short");
        assert_eq!(bytes.len(), 24 + 16);
        let read: Vec<_> =
            Messages::new(&bytes).map(|(header, payload)| (header.kind, header.sequence, payload)).collect();
        assert_eq!(read, [(7, 1, b"abcde".as_slice()), (8, 2, b"".as_slice())]);
    }

    /// A kernel of our own that answers each request with a message and the end of a list, with these flags.
    fn answering(flags: Vec<u16>) -> (Netlink, std::thread::JoinHandle<()>) {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let kernel = std::thread::spawn(move || {
            for (number, flags) in flags.into_iter().enumerate() {
                let mut asked = [0; 1024];
                let length = theirs.recv(&mut asked).expect("a request");
                let sequence = Messages::new(&asked[..length]).next().expect("whole").0.sequence;
                let mut answer = Vec::new();
                for (kind, payload) in [(20, vec![number as u8]), (NLMSG_DONE, vec![0; 4])] {
                    frame(&mut answer, &Request { kind, flags, payload }, sequence).expect("short");
                }
                theirs.send(&answer).expect("sent");
            }
        });
        (Netlink { socket: ours.into(), sequence: 0, buffer: Vec::new() }, kernel)
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_asked_for_again() {
        let (mut netlink, kernel) = answering(vec![INTERRUPTED, INTERRUPTED, 0]);
        let replies = netlink.dump(Request { kind: 18, flags: 0, payload: Vec::new() }).expect("a list");
        assert_eq!(replies.iter().map(|reply| reply.payload[0]).collect::<Vec<_>>(), [2]);
        kernel.join().expect("no panic");
        let (mut netlink, kernel) = answering(vec![INTERRUPTED; LISTINGS]);
        let replies = netlink.dump(Request { kind: 18, flags: 0, payload: Vec::new() }).expect("the last one");
        assert_eq!(replies.len(), 1);
        kernel.join().expect("no panic");
    }

    #[test]
    fn cut_messages_end_the_iteration() {
        let mut bytes = Vec::new();
        frame(&mut bytes, &Request { kind: 7, flags: 0, payload: vec![0; 8] }, 1).expect("short");
        assert_eq!(Messages::new(&bytes[..20]).count(), 0);
        assert_eq!(Messages::new(&bytes[..10]).count(), 0);
    }

    #[test]
    fn acknowledgements_are_no_errors() {
        assert!(error_of(&0_i32.to_ne_bytes()).is_none());
        let error = error_of(&(-libc::EEXIST).to_ne_bytes()).expect("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    }
}
