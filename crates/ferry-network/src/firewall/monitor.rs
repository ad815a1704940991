//! Watches the kernel's firewall, and has ours made again when somebody removes it.
//!
//! `nft flush ruleset`, a reload of the host's firewall or a dockerd that starts after us would else
//! leave networks open to one another, or closed to the outside, until the next start of a daemon.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    firewall::{Firewall, nftables::Change},
    netlink::Netlink,
};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// Programs that reload their rules send many changes; what they leave in the end counts.
const CALM: Duration = Duration::from_millis(100);
/// When what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the watch until dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// Its closing wakes the thread.
    _stop: OwnedFd,
}

impl Monitor {
    /// Starts to watch the calling thread's namespace.
    pub(crate) fn start(firewall: &Arc<Mutex<Firewall>>) -> io::Result<Self> {
        let netlink = super::open_netfilter_group(GROUP)?;
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let firewall = Arc::downgrade(firewall);
        thread::Builder::new()
            .name("ferry-firewall".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || watch(netlink, &stopped, &firewall))?;
        Ok(Self { _stop: stop })
    }
}

fn watch(mut netlink: Netlink, stopped: &OwnedFd, firewall: &Weak<Mutex<Firewall>>) {
    // How long it is to be calm before ours is looked at.
    let mut due: Option<Duration> = None;
    loop {
        match wait(&netlink, stopped, due) {
            Ok(Woken::Changes) => {
                let Some(firewall) = firewall.upgrade() else { return };
                let concerns = |change: &Change| lock(&firewall).is_concerned(change);
                // An overflow: whatever was missed may have been ours.
                let is_concerned = netlink.events().map_or(true, |events| {
                    events.iter().filter_map(|(kind, reply)| Change::read(*kind, reply)).any(|change| concerns(&change))
                });
                if is_concerned {
                    due = Some(CALM);
                }
            }
            Ok(Woken::Calm) => {
                let Some(firewall) = firewall.upgrade() else { return };
                due = lock(&firewall).repair().err().map(|error| {
                    // Nobody else would look again: until then networks may be open to one another.
                    tracing::error!(%error, "cannot make the firewall again, trying on");
                    AGAIN
                });
            }
            Ok(Woken::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "the firewall is no longer watched");
                return;
            }
        }
    }
}

enum Woken {
    Changes,
    Calm,
    Stopped,
}

fn wait(netlink: &Netlink, stopped: &OwnedFd, timeout: Option<Duration>) -> io::Result<Woken> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut fds = [PollFd::new(netlink, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
    Ok(if ready == 0 {
        Woken::Calm
    } else if !fds[1].revents().is_empty() {
        Woken::Stopped
    } else {
        Woken::Changes
    })
}

fn lock(firewall: &Mutex<Firewall>) -> std::sync::MutexGuard<'_, Firewall> {
    firewall.lock().unwrap_or_else(PoisonError::into_inner)
}
