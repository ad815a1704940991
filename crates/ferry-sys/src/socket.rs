//! Unix stream sockets: bytes with file descriptors, long paths, credentials of the peer.
//!
//! Leaves out: framing, blocking policy. Descriptors that arrive are close-on-exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Most descriptors that one message carries (the kernel's `SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// Sends bytes, and descriptors with the first of them.
///
/// Returns how many bytes went; the descriptors went if it is not 0. Never raises `SIGPIPE`.
///
/// # Errors
/// What `sendmsg` answers; `InvalidInput` for more than [`MAX_FDS`] descriptors or for descriptors without a byte.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors, or no byte to carry them"));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(sent)
}

/// Returns how many bytes that were sent the peer has not read yet (of TCP: not acknowledged).
///
/// # Errors
/// What `ioctl(SIOCOUTQ)` answers.
pub fn unread_by_peer(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the number of TIOCOUTQ) writes one int to a live place; the descriptor is open while borrowed. rustix has no
    // wrapper for it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { Ok(usize::try_from(count).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// Receives up to `bytes.len()` bytes, and appends the descriptors that came with them to `fds`.
///
/// Returns how many bytes came; 0 is the end of the stream. Where this process may not have so many descriptors (`RLIMIT_NOFILE`), those of the
/// message are all dropped: half of them would be taken for others.
///
/// # Errors
/// What `recvmsg` answers.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let before = fds.len();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    if message.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        fds.truncate(before);
    }
    Ok(message.bytes)
}

/// Connects to the socket file `name` in the folder `dir`, however long the path of the folder is.
///
/// # Errors
/// What `connect` answers.
pub fn connect_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<UnixStream> {
    UnixStream::connect(path_at(dir, name))
}

/// Listens on the socket file `name` in the folder `dir`, mode 0600, replacing a file that is there.
///
/// # Errors
/// What `unlinkat`, `bind` and `fchmodat` answer.
pub fn listen_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<UnixListener> {
    match rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    // The socket file takes its mode from the umask at `bind`, so there is no moment in which another user could connect.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path_at(dir, name));
    rustix::process::umask(before);
    listener
}

/// The process at the other end of a unix socket, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its pid; 0 outside of our pid namespace.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
}

/// The effective user id of the process at the other end, as it was when it connected.
///
/// # Errors
/// What `getsockopt` answers.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    peer_credentials(socket).map(|peer| peer.uid)
}

/// The process at the other end, as it was when it connected.
///
/// # Errors
/// What `getsockopt` answers.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    use std::os::fd::AsRawFd;
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both point to values of the types that SO_PEERCRED fills. rustix fails for a peer outside of our pid namespace, whose
    // pid reads as 0.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    let peer = PeerCredentials { pid: credentials.pid, uid: credentials.uid };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// `sun_path` holds 107 bytes; the folder's descriptor stands for its path.
fn path_at(dir: BorrowedFd<'_>, name: &str) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn descriptors_travel_with_the_first_byte() {
        let (left, right) = UnixStream::pair().expect("pair");
        let mut file = std::fs::File::from(crate::memfd::create("socket-test").expect("memfd"));
        file.write_all(b"inside").expect("write");
        assert_eq!(send(&left, b"abc", &[file.as_fd(), file.as_fd()]).expect("send"), 3);
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        assert_eq!(receive(&right, &mut bytes, &mut fds).expect("receive"), 3);
        assert_eq!((&bytes[..3], fds.len()), (b"abc".as_slice(), 2));
        let mut copy = std::fs::File::from(fds.remove(0));
        copy.rewind().expect("rewind");
        let mut text = String::new();
        copy.read_to_string(&mut text).expect("read");
        assert_eq!(text, "inside");
        drop(left);
        assert_eq!(receive(&right, &mut bytes, &mut fds).expect("end"), 0);
    }

    #[test]
    fn descriptors_without_a_byte_are_refused() {
        let (left, _right) = UnixStream::pair().expect("pair");
        let error = send(&left, b"", &[left.as_fd()]).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn sockets_are_found_below_long_paths() {
        let base = std::env::temp_dir().join(format!("ferry-sys-socket-{}", std::process::id()));
        let long = base.join("x".repeat(120));
        std::fs::create_dir_all(&long).expect("folder");
        let dir = std::fs::File::open(&long).expect("open");
        let listener = listen_at(dir.as_fd(), "s.sock").expect("listen");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(long.join("s.sock")).expect("stat").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        let client = connect_at(dir.as_fd(), "s.sock").expect("connect");
        let (server, _) = listener.accept().expect("accept");
        assert_eq!(peer_uid(&server).expect("credentials"), rustix::process::geteuid().as_raw());
        drop(client);
        listen_at(dir.as_fd(), "s.sock").expect("again");
        std::fs::remove_dir_all(&base).expect("clean");
    }
}
