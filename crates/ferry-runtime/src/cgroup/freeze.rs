//! Stopping and resuming everything in a cgroup.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};

use super::{Cgroup, PATIENCE, read, write};
use crate::error::Error;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    Frozen,
    Thawed,
}

pub(super) fn set(cgroup: &Cgroup, motion: Motion) -> Result<(), Error> {
    if let Some(hierarchy) = cgroup.v1("freezer") {
        return set_v1(&hierarchy.folder(&cgroup.path).join("freezer.state"), motion);
    }
    let Some(hierarchy) = cgroup.v2() else { return Err(Error::unsupported("this host has no freezer cgroup")) };
    let folder = hierarchy.folder(&cgroup.path);
    write(&folder.join("cgroup.freeze"), if motion == Motion::Frozen { "1" } else { "0" })?;
    if motion == Motion::Thawed {
        return Ok(());
    }
    await_frozen(&folder.join("cgroup.events"))
}

fn set_v1(file: &std::path::Path, motion: Motion) -> Result<(), Error> {
    if motion == Motion::Thawed {
        return write(file, "THAWED");
    }
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        // Written anew each time: a process that forks while it is being frozen can leave the group in FREEZING.
        write(file, "FROZEN")?;
        if read(file)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            write(file, "THAWED")?;
            return Err(Error::internal(format!("unable to freeze {}", file.display())));
        }
        // The v1 freezer has nothing to poll.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn await_frozen(events: &std::path::Path) -> Result<(), Error> {
    let step = |error: rustix::io::Errno| Error::step(format!("wait for {}", events.display()), error);
    let file = rustix::fs::openat(CWD, events, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(step)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = [0u8; 256];
        let length = rustix::io::pread(&file, &mut text, 0).map_err(step)?;
        if String::from_utf8_lossy(&text[..length]).lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::internal(format!("unable to freeze {}", events.display())));
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
        poll(&mut fds, Some(&timeout)).map_err(step)?;
    }
}

pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool, Error> {
    if let Some(hierarchy) = cgroup.v1("freezer") {
        return Ok(read(&hierarchy.folder(&cgroup.path).join("freezer.state"))?.trim() != "THAWED");
    }
    let Some(hierarchy) = cgroup.v2() else { return Ok(false) };
    Ok(read(&hierarchy.folder(&cgroup.path).join("cgroup.freeze"))?.trim() == "1")
}
