//! `shim.sock`: where a starting engine finds the shim of a container that lives.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use ferry_shim::client::SOCKET_NAME;
use rustix::fs::{AtFlags, statat, unlinkat};

use crate::poller::{EventFlags, Poller, Registration, Token};

/// A listening socket and the file by which it is found.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    run_dir: OwnedFd,
    inode: u64,
}

impl Door {
    /// Listens in the run-time folder.
    pub(crate) fn open(run_dir: &OwnedFd, poller: &Poller) -> io::Result<Self> {
        let run_dir = run_dir.try_clone()?;
        let listener = ferry_sys::socket::listen_at(run_dir.as_fd(), SOCKET_NAME)?;
        listener.set_nonblocking(true)?;
        let inode = statat(&run_dir, SOCKET_NAME, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
        Registration::default().set(poller, &listener, Token::Listener, Some(EventFlags::IN))?;
        Ok(Self { listener, run_dir, inode })
    }

    /// The next connection of a process with our user id; `None` when there is none to be had.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        let (socket, _) = self.listener.accept().ok()?;
        let ours = rustix::process::geteuid().as_raw();
        let is_ours = ferry_sys::socket::peer_uid(&socket).is_ok_and(|uid| uid == ours);
        is_ours.then(|| socket.into())
    }

    /// Removes the file, unless a next run of the container has put its own there.
    pub(crate) fn close(self) {
        if statat(&self.run_dir, SOCKET_NAME, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_ino == self.inode) {
            // Gone in between is as good.
            let _ = unlinkat(&self.run_dir, SOCKET_NAME, AtFlags::empty());
        }
    }
}
