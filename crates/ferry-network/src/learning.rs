//! Hears from `ferry-netd` what addresses names have that containers may reach, and has the firewall let them be reached.
//!
//! A thread of its own, with a connection of its own, while there are containers that have rules with names.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, ToSocketAddrs},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    firewall::Firewall,
    netd::{client, protocol::Learnt},
    ports::Ports,
};

/// Clients keep addresses longer than they may.
const LEAST_STAY: Duration = Duration::from_secs(300);
const LONGEST_STAY: Duration = Duration::from_secs(24 * 3600);
/// For what was not asked by a container.
const OWN_STAY: Duration = Duration::from_secs(3600);
/// How often a process that went is looked for.
const AGAIN: Duration = Duration::from_millis(500);
const STACK_BYTES: usize = 256 * 1024;

/// Listens while any container may reach names; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Learning {
    listener: Listener,
    /// Its closing wakes the thread.
    _stop: OwnedFd,
}

#[derive(Debug, Clone)]
struct Listener {
    folder: PathBuf,
    stopped: Arc<OwnedFd>,
    firewall: Weak<Mutex<Firewall>>,
    ports: Weak<Mutex<Ports>>,
    /// Whether there is a thread.
    runs: Arc<Mutex<bool>>,
}

impl Learning {
    /// Prepares to listen to the process with its socket in `folder`.
    pub(crate) fn new(folder: PathBuf, firewall: Weak<Mutex<Firewall>>, ports: Weak<Mutex<Ports>>) -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let listener = Listener { folder, stopped: Arc::new(stopped), firewall, ports, runs: Arc::default() };
        Ok(Self { listener, _stop: stop })
    }

    /// Listens from now on, for the sake of a container that the firewall knows already.
    pub(crate) fn ensure(&self) -> io::Result<()> {
        let mut runs = lock(&self.listener.runs);
        if !*runs {
            let listener = self.listener.clone();
            let thread = thread::Builder::new().name("ferry-learning".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || listener.listen())?;
            *runs = true;
        }
        Ok(())
    }
}

impl Listener {
    fn listen(&self) {
        while !self.has_ended() {
            let Some(ports) = self.ports.upgrade() else { return };
            // One that was killed is started again at once: without it containers ask in vain.
            if let Err(error) = lock(&ports).restart_if_dead() {
                tracing::warn!(%error, "cannot start ferry-netd again");
            }
            drop(ports);
            match client::watch(&self.folder) {
                Ok(stream) => {
                    if matches!(follow(stream, &self.stopped, &self.firewall), Ok(Ended::Stopped)) {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "no answers of names can be followed"),
            }
            if is_stopped(&self.stopped, AGAIN) {
                return;
            }
        }
    }

    /// With nobody left who may reach names there is no more to hear: else a process that has nothing to do would be started again.
    fn has_ended(&self) -> bool {
        let mut runs = lock(&self.runs);
        *runs = self.firewall.upgrade().is_some_and(|firewall| lock(&firewall).has_names());
        !*runs
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Ended {
    Stopped,
    Closed,
}

fn follow(stream: UnixStream, stopped: &OwnedFd, firewall: &Weak<Mutex<Firewall>>) -> io::Result<Ended> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        // Nothing is sent before the last line was answered, so nothing waits in the buffer.
        let mut fds = [PollFd::new(reader.get_ref(), PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        if !fds[1].revents().is_empty() {
            return Ok(Ended::Stopped);
        }
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(Ended::Closed);
        }
        let Some(firewall) = firewall.upgrade() else { return Ok(Ended::Stopped) };
        if let Ok(learnt) = serde_json::from_str::<Learnt>(&line) {
            let stays = Duration::from_secs(learnt.ttl_s.into()).clamp(LEAST_STAY, LONGEST_STAY);
            note(&firewall, &learnt.container_id, &learnt.name, &learnt.addresses, stays);
        }
        reader.get_mut().write_all(b"\n")?;
    }
}

fn note(firewall: &Mutex<Firewall>, container_id: &str, name: &str, addresses: &[IpAddr], stays: Duration) {
    let noted = lock(firewall).learn(container_id, name, addresses, stays);
    if let Err(error) = noted {
        tracing::warn!(container = container_id, name, %error, "a container cannot reach what it may");
    }
}

fn is_stopped(stopped: &OwnedFd, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).ok();
    let mut fds = [PollFd::new(stopped, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref())).map_or(true, |ready| ready > 0)
}

/// Asks the host's own resolver for the names once, beside everything else: programs that have their own way of asking, or that know
/// addresses from before, reach them, too.
pub(crate) fn resolve_once(firewall: Weak<Mutex<Firewall>>, container_id: &str, names: Vec<String>) {
    let container_id = container_id.to_owned();
    let resolved = move || {
        for name in names {
            let Ok(found) = (name.as_str(), 0).to_socket_addrs() else { continue };
            let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            let Some(firewall) = firewall.upgrade() else { return };
            note(&firewall, &container_id, &name, &addresses, OWN_STAY);
        }
    };
    if let Err(error) = thread::Builder::new().name("ferry-resolving".to_owned()).spawn(resolved) {
        tracing::warn!(%error, "names are not asked for ahead");
    }
}
