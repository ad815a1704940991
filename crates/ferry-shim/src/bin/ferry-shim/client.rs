//! One attached client: a stream socket that gets output and may bring input.
//!
//! The socket's description may be shared with the engine, so it is never switched to non-blocking: each call says
//! `MSG_DONTWAIT` itself.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_shim::log::Stream;
use ferry_shim::protocol::Streams;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::poller::{EventFlags, Poller, Registration, Token};
use crate::queue::Queue;

/// What came of reading a client's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// The client will send no more.
    End,
}

/// An attached client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u32,
    /// The control connection over which it came.
    pub(crate) control: u32,
    socket: OwnedFd,
    streams: Streams,
    /// Its process has no terminal: output is sent in frames.
    framed: bool,
    queue: Queue,
    /// It may still send input, and the process may still take it.
    pub(crate) input_open: bool,
    /// The other end is closed, or the queue could not take more.
    output_lost: bool,
    hung_up: bool,
    /// To be closed once the queue is empty.
    closing: bool,
    registration: Registration,
}

impl Client {
    pub(crate) fn new(
        number: u32,
        control: u32,
        socket: OwnedFd,
        streams: Streams,
        framed: bool,
        takes_input: bool,
    ) -> Self {
        Self {
            number,
            control,
            socket,
            streams,
            framed,
            queue: Queue::default(),
            input_open: takes_input && streams.stdin,
            output_lost: false,
            hung_up: false,
            closing: false,
            registration: Registration::default(),
        }
    }

    /// Sends output, or keeps it for later; never waits.
    pub(crate) fn offer(&mut self, stream: Stream, bytes: &[u8], spill_dir: BorrowedFd<'_>) {
        let wanted = match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        };
        if !wanted || self.output_lost || self.closing {
            return;
        }
        let length = u32::try_from(bytes.len()).expect("a read is small").to_be_bytes();
        let header = [stream.frame_byte(), 0, 0, 0, length[0], length[1], length[2], length[3]];
        let header: &[u8] = if self.framed { &header } else { &[] };
        let sent = if self.queue.is_empty() { self.send(header, bytes) } else { 0 };
        let (header, bytes) = (&header[sent.min(header.len())..], &bytes[sent.saturating_sub(header.len())..]);
        if self.output_lost || header.len() + bytes.len() == 0 {
            return;
        }
        if self.queue.push(header, spill_dir).and_then(|()| self.queue.push(bytes, spill_dir)).is_err() {
            self.lose_output();
        }
    }

    fn send(&mut self, header: &[u8], bytes: &[u8]) -> usize {
        let mut nothing = SendAncillaryBuffer::default();
        let slices = [IoSlice::new(header), IoSlice::new(bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::sendmsg(&self.socket, &slices, &mut nothing, flags)) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => {
                self.lose_output();
                0
            }
        }
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(crate) fn drain_queue(&mut self) {
        while !self.queue.is_empty() && !self.output_lost {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = match self.queue.front() {
                Ok(front) => rustix::net::send(&self.socket, front, flags),
                Err(_) => Err(Errno::IO),
            };
            match sent {
                Ok(count) => self.queue.take(count),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.lose_output(),
            }
        }
    }

    fn lose_output(&mut self) {
        self.output_lost = true;
        self.queue.clear();
    }

    /// Reads input.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT)) {
            Ok((0, _)) => Received::End,
            Ok((count, _)) => Received::Bytes(count),
            Err(Errno::AGAIN) => Received::Nothing,
            // A reset: as good as an end, and nobody is there to tell.
            Err(_) => {
                self.note_hang_up();
                Received::End
            }
        }
    }

    /// The other end is closed in both directions. Input that it sent before can still be read.
    pub(crate) fn note_hang_up(&mut self) {
        self.hung_up = true;
        self.lose_output();
    }

    /// Whether the client has gone, as opposed to having said all it had to say.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// It cannot be served: let it go.
    pub(crate) fn give_up(&mut self) {
        self.lose_output();
        self.input_open = false;
    }

    /// No more output will come: close when all was sent.
    pub(crate) fn close_after_output(&mut self) {
        self.closing = true;
        self.input_open = false;
    }

    /// Whether there is nothing left to do for it.
    pub(crate) fn is_done(&self) -> bool {
        let gone = self.output_lost && !self.input_open;
        gone || (self.closing && self.queue.is_empty())
    }

    /// Waits for what it can use now.
    pub(crate) fn register(&mut self, poller: &Poller, process: u32, stdin_has_space: bool) -> io::Result<()> {
        let mut wanted = EventFlags::empty();
        if self.input_open && stdin_has_space {
            wanted |= EventFlags::IN;
        }
        if !self.queue.is_empty() {
            wanted |= EventFlags::OUT;
        }
        // A hang-up is reported without being asked for, again and again: look away while it cannot be acted on.
        let wanted = if self.hung_up && wanted.is_empty() { None } else { Some(wanted) };
        self.registration.set(poller, &self.socket, Token::Client(process, self.number), wanted)
    }

    /// Closes the connection for both sides, whoever else holds the socket.
    pub(crate) fn close(mut self, poller: &Poller) {
        let token = Token::Client(0, self.number);
        // Only a descriptor that is not there could fail, and ours is.
        let _ = self.registration.set(poller, &self.socket, token, None);
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        // Input that nobody read would make the kernel answer with a reset instead of an end of stream.
        let mut scratch = [0; 4096];
        while let Ok((1.., _)) = rustix::net::recv(&self.socket, &mut scratch, RecvFlags::DONTWAIT) {}
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
