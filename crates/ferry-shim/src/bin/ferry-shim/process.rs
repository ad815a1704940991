//! A process of the container, its own or one of `exec`: streams, clients, end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_shim::log::Stream;
use ferry_shim::protocol::{Streams, Target};
use rustix::io::Errno;

use crate::client::{Client, Received};
use crate::input::{Input, InputState};
use crate::lines::{LineCutter, Piece};
use crate::poller::{EventFlags, Poller, Registration, Token};
use crate::stdio::{OurEnds, OurOutput};

/// Reads of one stream before others get their turn.
const READS_PER_TURN: usize = 4;

/// Number of the container's own process; execs count on from there.
pub(crate) const INIT: u32 = 0;

/// A process whose parent is the shim.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) target: Target,
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// Master of the terminal, for its size.
    pub(crate) console: Option<OwnedFd>,
    outputs: Vec<Output>,
    input: Option<Input>,
    clients: Vec<Client>,
    next_client: u32,
    /// Close stdin when the first client that brought stdin goes.
    stdin_once: bool,
    /// Exit code, once it has ended.
    pub(crate) code: Option<i32>,
    /// Signal that ended it.
    pub(crate) signal: Option<i32>,
    /// It has ended and its output is closed.
    pub(crate) finished: bool,
    /// Its end was told as an event.
    pub(crate) told: bool,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    fd: OwnedFd,
    lines: LineCutter,
    registration: Registration,
}

/// What moving bytes needs.
#[derive(Debug)]
pub(crate) struct Io<'a> {
    pub(crate) poller: &'a Poller,
    /// For one read at a time.
    pub(crate) buffer: &'a mut [u8],
    /// Where output waits for slow readers.
    pub(crate) spill_dir: BorrowedFd<'a>,
}

/// What a client's departure asks of the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientOutcome {
    /// Nothing.
    Nothing,
    /// A client that brought the stdin which closes with it has gone without a word. Whether it left or the daemon died that had brought it
    /// over this control connection, is for the caller to find out.
    LeftWithStdin(u32),
}

impl Process {
    pub(crate) fn new(number: u32, target: Target, pid: u32, pidfd: OwnedFd, ends: OurEnds, stdin_once: bool) -> Self {
        let outputs = ends
            .outputs
            .into_iter()
            .map(|OurOutput { stream, fd, registration }| Output {
                stream,
                fd,
                lines: LineCutter::default(),
                registration,
            })
            .collect();
        Self {
            number,
            target,
            pid,
            pidfd,
            input: ends.input.map(|fd| Input::new(fd, ends.console.is_some())),
            console: ends.console,
            outputs,
            clients: Vec::new(),
            next_client: 0,
            stdin_once,
            code: None,
            signal: None,
            finished: false,
            told: false,
        }
    }

    /// Takes a client that came over the control connection of that number.
    pub(crate) fn attach(&mut self, control: u32, socket: OwnedFd, streams: Streams) {
        let (framed, takes_input) = (self.console.is_none(), self.input.is_some());
        self.clients.push(Client::new(self.next_client, control, socket, streams, framed, takes_input));
        self.next_client += 1;
    }

    /// Reads what a stream has, for the clients and, piece by piece, for the log.
    pub(crate) fn read_output(&mut self, stream: Stream, io: &mut Io<'_>, mut log: impl FnMut(Piece<'_>)) {
        for _ in 0..READS_PER_TURN {
            let Some(at) = self.outputs.iter().position(|output| output.stream == stream) else {
                return;
            };
            match rustix::io::read(&self.outputs[at].fd, &mut *io.buffer) {
                // A terminal whose other side is closed answers EIO.
                Ok(0) | Err(Errno::IO) => self.end_output(at, io.poller, &mut log),
                Ok(count) => {
                    let bytes = &io.buffer[..count];
                    self.outputs[at].lines.feed(bytes, now_ns, &mut log);
                    for client in &mut self.clients {
                        client.offer(stream, bytes, io.spill_dir);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what is there, then lets go of the streams even if someone else still holds their other ends.
    pub(crate) fn close_outputs(&mut self, io: &mut Io<'_>, mut log: impl FnMut(Stream, Piece<'_>)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A pipe holds 64 KiB, and a writer that goes on for ever must not hold us.
            for _ in 0..16 {
                self.read_output(stream, io, |piece| log(stream, piece));
            }
            if let Some(at) = self.outputs.iter().position(|output| output.stream == stream) {
                self.end_output(at, io.poller, &mut |piece: Piece<'_>| log(stream, piece));
            }
        }
    }

    fn end_output(&mut self, at: usize, poller: &Poller, log: &mut impl FnMut(Piece<'_>)) {
        let mut output = self.outputs.remove(at);
        // Only a descriptor that is not there could fail, and ours is.
        let _ = output.registration.set(poller, &output.fd, Token::Output(self.number, output.stream), None);
        output.lines.finish(now_ns, log);
    }

    pub(crate) fn outputs_closed(&self) -> bool {
        self.outputs.is_empty()
    }

    /// It has ended and all its output is read: no more input, and clients go when they have got everything.
    pub(crate) fn finish(&mut self, poller: &Poller) {
        self.finished = true;
        self.close_input(poller);
        for client in &mut self.clients {
            client.close_after_output();
        }
        self.console = None;
    }

    /// Whether every client has all it will get.
    pub(crate) fn all_sent(&self) -> bool {
        self.clients.iter().all(Client::is_done)
    }

    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// The pipe of stdin has space again.
    pub(crate) fn on_input_ready(&mut self, poller: &Poller) {
        let state = self.input.as_mut().map(Input::write_pending);
        self.apply_input_state(state, poller);
    }

    /// Something happened at a client's socket.
    pub(crate) fn on_client(&mut self, number: u32, flags: EventFlags, io: &mut Io<'_>) -> ClientOutcome {
        let Some(at) = self.clients.iter().position(|client| client.number == number) else {
            return ClientOutcome::Nothing;
        };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.clients[at].note_hang_up();
        }
        self.clients[at].drain_queue();
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read_client(at, io)
        } else {
            ClientOutcome::Nothing
        }
    }

    fn read_client(&mut self, at: usize, io: &mut Io<'_>) -> ClientOutcome {
        for _ in 0..READS_PER_TURN {
            if !self.clients[at].input_open || self.input_state() != InputState::Space {
                break;
            }
            match self.clients[at].receive(io.buffer) {
                Received::Bytes(count) => {
                    let state = self.input.as_mut().map(|input| input.write(&io.buffer[..count]));
                    self.apply_input_state(state, io.poller);
                }
                Received::Nothing => break,
                Received::End => return self.end_of_client_input(at, io.poller),
            }
        }
        ClientOutcome::Nothing
    }

    /// Docker's rules: with stdin-once the end of a client's input is the end of the container's, except for a terminal; without, the
    /// client has nothing more to do here and goes.
    fn end_of_client_input(&mut self, at: usize, poller: &Poller) -> ClientOutcome {
        let terminal = self.console.is_some();
        let client = &mut self.clients[at];
        client.input_open = false;
        match (terminal, self.stdin_once, client.is_hung_up()) {
            (true, ..) | (false, false, true) => ClientOutcome::Nothing,
            (false, true, true) => ClientOutcome::LeftWithStdin(client.control),
            (false, true, false) => {
                self.close_stdin(poller);
                ClientOutcome::Nothing
            }
            (false, false, false) => {
                client.close_after_output();
                ClientOutcome::Nothing
            }
        }
    }

    /// Closes stdin once what was already read is written.
    pub(crate) fn close_stdin(&mut self, poller: &Poller) {
        let state = self.input.as_mut().map(Input::close_after_pending);
        self.apply_input_state(state, poller);
    }

    fn input_state(&self) -> InputState {
        self.input.as_ref().map_or(InputState::Closed, Input::state)
    }

    fn apply_input_state(&mut self, state: Option<InputState>, poller: &Poller) {
        if state == Some(InputState::Closed) {
            self.close_input(poller);
        }
    }

    fn close_input(&mut self, poller: &Poller) {
        if let Some(input) = self.input.take() {
            input.close(poller);
        }
        for client in &mut self.clients {
            client.input_open = false;
        }
    }

    /// Lets clients go that are done, and waits for what can happen next; not for output while that is held back.
    pub(crate) fn settle(&mut self, poller: &Poller, hold_output: bool) {
        let has_space = self.input_state() == InputState::Space;
        for client in &mut self.clients {
            if client.register(poller, self.number, has_space).is_err() {
                // Nothing that can be waited for, such as a plain file: no client for us.
                client.give_up();
            }
        }
        // Who sees its stream end may ask for the exit code at once: the end is told first.
        let may_close = !self.finished || self.told;
        let mut at = 0;
        while at < self.clients.len() {
            if may_close && self.clients[at].is_done() {
                self.clients.swap_remove(at).close(poller);
            } else {
                at += 1;
            }
        }
        if let Some(input) = &mut self.input {
            // For want of kernel memory; the next round tries again, as below.
            let _ = input.register(poller, self.number);
        }
        for output in &mut self.outputs {
            let token = Token::Output(self.number, output.stream);
            let wanted = (!hold_output).then_some(EventFlags::IN);
            let _ = output.registration.set(poller, &output.fd, token, wanted);
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Unix time in nanoseconds.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
