//! The event loop and who is who in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ferry_shim::log::Stream;
use ferry_shim::protocol::{Event, Hello, PROTOCOL_VERSION, ShimFrame};

use crate::container::Container;
use crate::control::{Control, Incoming};
use crate::door::Door;
use crate::log_sink::LogSink;
use crate::poller::{EventFlags, Poller, Registration, Token};
use crate::process::{ClientOutcome, INIT, Io, Process};
use crate::rights;
use crate::start::AfterStart;
use crate::stdio::set_nonblocking;

/// One read of a pipe or socket.
const BUFFER_BYTES: usize = 32 * 1024;

/// A quiet time after which memory is given back.
const QUIET: Duration = Duration::from_millis(300);

/// How long a client that vanished may turn out to be a daemon that died, see [`What::StdinOf`]. The kernel closes its sockets one after the
/// other, and between two of them a busy machine may give others their turn.
const DEPARTURE: Duration = Duration::from_millis(500);

/// How long a shim whose container has ended waits for an engine before it ends.
const GRACE: Duration = Duration::from_secs(1);

/// What is to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Let go of the streams of a process that has ended, whoever still holds them.
    CloseOutputs(u32),
    /// Tell of the end of an exec even if a client has not yet taken all output.
    TellExec(u32),
    /// The client that brought a stdin which closes with it has vanished without a half-close. A daemon that is killed takes the
    /// control connection along over which the client came (the second number); then stdin stays open for the next one, as with
    /// Docker's live-restore. With a daemon that lives, the client has left, and stdin closes.
    StdinOf(u32, u32),
    /// A notice about memory came before the kernel had counted its victim.
    CheckOom,
    /// Give memory back.
    Quiet,
    /// End, if nobody is connected.
    Leave,
}

/// The shim.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) poller: Poller,
    signals: OwnedFd,
    signals_registration: Registration,
    pub(crate) controls: Vec<Control>,
    next_control: u32,
    pub(crate) door: Option<Door>,
    pub(crate) container: Option<Container>,
    pub(crate) processes: Vec<Process>,
    pub(crate) next_process: u32,
    buffer: Vec<u8>,
    deadlines: Vec<(Instant, What)>,
    /// Nothing has happened for a while.
    quiet: bool,
    /// Told to end.
    pub(crate) shutdown: bool,
    /// Nobody has come for a container that has ended.
    leaving: bool,
    /// To be done once the reply to a start has gone.
    pub(crate) after_start: Option<AfterStart>,
}

impl Shim {
    /// Takes the connection it is born with.
    pub(crate) fn new(control: OwnedFd) -> io::Result<Self> {
        let wanted =
            [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        let mut shim = Self {
            poller: Poller::new()?,
            signals: ferry_sys::event::signal_fd(&wanted)?,
            signals_registration: Registration::default(),
            controls: Vec::new(),
            next_control: 0,
            door: None,
            container: None,
            processes: Vec::new(),
            next_process: INIT,
            buffer: Vec::new(),
            deadlines: Vec::new(),
            quiet: false,
            shutdown: false,
            leaving: false,
            after_start: None,
        };
        shim.signals_registration.set(&shim.poller, &shim.signals, Token::Signals, Some(EventFlags::IN))?;
        shim.greet(control)?;
        Ok(shim)
    }

    /// Runs until there is nothing left to do.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            if std::mem::take(&mut self.quiet) {
                // The very last step before the wait, so that little of the program comes back at once.
                ferry_sys::memory::give_back();
            }
            let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
            self.poller.wait(&mut events, timeout)?;
            for &(token, flags) in &events {
                self.dispatch(token, flags)?;
            }
            self.meet_deadlines();
        }
        self.leave();
        Ok(())
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags) -> io::Result<()> {
        self.set_deadline(QUIET, What::Quiet);
        match token {
            Token::Signals => self.on_signals()?,
            Token::Listener => self.on_listener(),
            Token::Oom => self.on_oom(),
            Token::Control(number) => self.on_control(number),
            Token::Output(process, stream) => self.on_output(process, stream),
            Token::Input(process) => {
                if let Some(process) = self.processes.iter_mut().find(|known| known.number == process) {
                    process.on_input_ready(&self.poller);
                }
            }
            Token::Client(process, client) => self.on_client(process, client, flags),
            Token::Logger => {
                if let Some(container) = &mut self.container {
                    container.log.on_logger();
                }
            }
        }
        Ok(())
    }

    fn on_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = ferry_sys::event::next_signal(self.signals.as_fd())? {
            match signal {
                libc::SIGCHLD => self.reap(),
                // With a container it goes on to the end of that: the host's shutdown is the engine's business.
                libc::SIGTERM | libc::SIGINT if self.container.is_none() => self.shutdown = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn on_listener(&mut self) {
        if let Some(socket) = self.door.as_ref().and_then(Door::accept) {
            // A connection that cannot be set up is one that ends at once.
            let _ = self.greet(socket);
        }
    }

    fn greet(&mut self, socket: OwnedFd) -> io::Result<()> {
        set_nonblocking(&socket)?;
        let mut control = Control::new(self.next_control, socket);
        self.next_control += 1;
        control.send(&Hello { version: PROTOCOL_VERSION, pid: std::process::id() });
        control.register(&self.poller)?;
        self.controls.push(control);
        Ok(())
    }

    fn on_control(&mut self, number: u32) {
        loop {
            let Some(at) = self.controls.iter().position(|control| control.number == number) else {
                return;
            };
            self.controls[at].send_unsent();
            let received = self.controls[at].receive();
            let rights = matches!(&received, Incoming::Request(frame, _) if rights::are_needed(&frame.request))
                .then(rights::in_effect);
            let (seq, reply) = match received {
                Incoming::Request(frame, fds) => {
                    let seq = frame.seq;
                    (seq, self.answer(number, frame.request, fds))
                }
                Incoming::NotUnderstood(seq, why) => (seq, crate::requests::not_understood(&why)),
                Incoming::Nothing => return,
                Incoming::Gone => {
                    drop(self.controls.remove(at));
                    return;
                }
            };
            // An answer changes neither the order nor the number of connections.
            self.controls[at].send(&ShimFrame::Reply { seq, reply });
            self.finish_start();
            drop(rights);
        }
    }

    fn on_output(&mut self, process: u32, stream: Stream) {
        let Some((process, mut io, log)) = self.parts(process) else {
            return;
        };
        let logged = process.number == INIT;
        process.read_output(stream, &mut io, |piece| {
            if logged {
                log.push(stream, &piece);
            }
        });
    }

    fn on_client(&mut self, number: u32, client: u32, flags: EventFlags) {
        let Some((process, mut io, _)) = self.parts(number) else {
            return;
        };
        if let ClientOutcome::LeftWithStdin(control) = process.on_client(client, flags, &mut io) {
            self.set_deadline(DEPARTURE, What::StdinOf(number, control));
        }
    }

    /// What moving bytes of a process needs.
    pub(crate) fn parts(&mut self, process: u32) -> Option<(&mut Process, Io<'_>, &mut LogSink)> {
        // A read into no buffer would look like the end of a stream.
        self.buffer.resize(BUFFER_BYTES, 0);
        let process = self.processes.iter_mut().find(|known| known.number == process)?;
        let container = self.container.as_mut()?;
        let spill_dir = container.container_dir.as_fd();
        Some((process, Io { poller: &self.poller, buffer: &mut self.buffer, spill_dir }, &mut container.log))
    }

    /// Tells every engine.
    pub(crate) fn tell(&mut self, event: &Event) {
        let frame = ShimFrame::Event(event.clone());
        for control in &mut self.controls {
            control.send(&frame);
        }
    }

    /// Sets a time for something, unless one is set.
    pub(crate) fn set_deadline(&mut self, after: Duration, what: What) {
        if self.deadlines.iter().all(|(_, known)| *known != what) {
            self.deadlines.push((Instant::now() + after, what));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let log = self.container.as_ref().and_then(|container| container.log.deadline());
        self.deadlines.iter().map(|(at, _)| *at).chain(log).min()
    }

    fn meet_deadlines(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.deadlines.iter().position(|(at, _)| *at <= now) {
            match self.deadlines.swap_remove(at).1 {
                What::CloseOutputs(process) => self.close_outputs(process),
                What::TellExec(process) => self.tell_exec(process),
                What::StdinOf(process, control) => self.decide_departure(process, control),
                What::CheckOom => self.check_oom(),
                What::Quiet => self.become_quiet(),
                What::Leave => self.leaving = self.controls.is_empty(),
            }
        }
    }

    fn decide_departure(&mut self, process: u32, control: u32) {
        let engine_lives = self.controls.iter().any(|known| known.number == control && !known.is_hung_up());
        if engine_lives && let Some(process) = self.processes.iter_mut().find(|known| known.number == process) {
            process.close_stdin(&self.poller);
        }
    }

    fn become_quiet(&mut self) {
        self.buffer = Vec::new();
        if let Some(container) = &mut self.container {
            container.log.settle();
        }
        self.quiet = true;
    }

    /// After every round: write the log, send what ended, wait for what can happen next.
    fn settle(&mut self) {
        if let Some(container) = &mut self.container {
            container.log.flush();
        }
        self.finish_ended();
        self.tell_execs();
        let full = self.container.as_ref().is_some_and(|container| container.log.is_full());
        for process in &mut self.processes {
            // What a process has left behind is read in any case: its end waits for that.
            let hold = full && process.number == INIT && process.code.is_none();
            process.settle(&self.poller, hold);
        }
        self.settle_log();
        self.forget_told_execs();
        // An engine that cannot be waited for may connect again.
        self.controls.retain_mut(|control| !control.is_broken() && control.register(&self.poller).is_ok());
        if self.controls.is_empty() && self.has_exited() {
            self.set_deadline(GRACE, What::Leave);
        }
    }

    fn settle_log(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        // The engine logs it; without one nobody would read it.
        let troubles = container.log.take_troubles();
        container.log.register(&self.poller);
        for message in troubles {
            self.tell(&Event::LogTrouble { message });
        }
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.container.as_ref().is_some_and(|container| container.exit.is_some())
    }

    fn is_over(&self) -> bool {
        let Some(container) = &self.container else {
            return self.controls.is_empty() || self.shutdown;
        };
        let told_to_go = self.shutdown || (self.leaving && self.controls.is_empty());
        let all_sent = self.processes.iter().all(|process| process.finished && !process.has_clients());
        container.exit.is_some() && told_to_go && all_sent && !container.log.is_busy()
    }
}
