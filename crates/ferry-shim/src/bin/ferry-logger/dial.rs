//! Connections, and Go's words for why there is none.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_shim::forward::Address;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::tls::{self, TlsStream};

/// How long a connection may take. The shim, whose start waits for the first one, gives up just after it.
const CONNECT: Duration = Duration::from_millis(1600);

/// Where the host's own syslog may listen.
const LOCAL_SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// A connection to a server.
#[derive(Debug)]
pub(crate) enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
    UnixDatagram(UnixDatagram),
}

/// Connects.
pub(crate) fn dial(address: &Address) -> Result<Connection, String> {
    match address {
        Address::Udp(host) => udp(host),
        Address::Tcp(host) => tcp(host).map(Connection::Tcp),
        Address::Tls(host, files) => {
            // What is wrong with the files is told before the server is asked.
            let config = tls::config(files)?;
            tls::connect(tcp(host)?, host, config).map(|stream| Connection::Tls(Box::new(stream)))
        }
        Address::Unix(path) => {
            UnixStream::connect(path).map(Connection::Unix).map_err(|error| failed("unix", path.display(), &error))
        }
        Address::UnixDatagram(path) => {
            datagram(path).map(Connection::UnixDatagram).map_err(|error| failed("unixgram", path.display(), &error))
        }
        Address::LocalSyslog => local_syslog(),
    }
}

fn udp(host: &str) -> Result<Connection, String> {
    let address = resolve("udp", host)?.into_iter().next().ok_or_else(|| no_such_host("udp", host))?;
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let connect = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(socket)
    };
    connect().map(Connection::Udp).map_err(|error| failed("udp", address, &error))
}

fn tcp(host: &str) -> Result<TcpStream, String> {
    let end = Instant::now() + CONNECT;
    let mut why = no_such_host("tcp", host);
    for address in resolve("tcp", host)? {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // A line is a message; it is not to wait for the next one.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => why = format!("dial tcp {address}: i/o timeout"),
            Err(error) => why = failed("tcp", address, &error),
        }
    }
    Err(why)
}

fn resolve(network: &str, host: &str) -> Result<Vec<SocketAddr>, String> {
    host.to_socket_addrs().map(Iterator::collect).map_err(|_| no_such_host(network, host))
}

fn no_such_host(network: &str, host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    format!("dial {network}: lookup {name}: no such host")
}

fn datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn local_syslog() -> Result<Connection, String> {
    for path in LOCAL_SYSLOG {
        if let Ok(socket) = datagram(Path::new(path)) {
            return Ok(Connection::UnixDatagram(socket));
        }
    }
    for path in LOCAL_SYSLOG {
        if let Ok(stream) = UnixStream::connect(path) {
            return Ok(Connection::Unix(stream));
        }
    }
    Err("Unix syslog delivery error".to_owned())
}

fn failed(network: &str, address: impl std::fmt::Display, error: &io::Error) -> String {
    format!("dial {network} {address}: connect: {}", go_text(error))
}

/// The text of a system error without its number, in small letters, as Go words it.
pub(crate) fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

impl Connection {
    /// Sends one message whole.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Tcp(stream) => stream.write_all(message),
            Self::Tls(stream) => stream.write_all(message).and_then(|()| stream.flush()),
            Self::Unix(stream) => stream.write_all(message),
            Self::UnixDatagram(socket) => socket.send(message).map(drop),
        }
    }

    /// Reads what the server answers.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Read;
        match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::UnixDatagram(socket) => socket.recv(buffer),
        }
    }

    /// Bounds writing and reading; `None` waits for ever.
    pub(crate) fn set_timeouts(&self, write: Option<Duration>, read: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.set_write_timeout(write).and_then(|()| socket.set_read_timeout(read)),
            Self::Tcp(stream) => stream.set_write_timeout(write).and_then(|()| stream.set_read_timeout(read)),
            Self::Tls(stream) => stream.sock.set_write_timeout(write).and_then(|()| stream.sock.set_read_timeout(read)),
            Self::Unix(stream) => stream.set_write_timeout(write).and_then(|()| stream.set_read_timeout(read)),
            Self::UnixDatagram(socket) => socket.set_write_timeout(write).and_then(|()| socket.set_read_timeout(read)),
        }
    }

    /// Whether the server has closed the connection. A write would succeed once more, and its line be lost.
    pub(crate) fn is_closed(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let closed = PollFlags::RDHUP | PollFlags::HUP;
        rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(closed)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::UnixDatagram(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_worded_as_go_does() {
        let refused = dial(&Address::Tcp("127.0.0.1:1".into())).unwrap_err();
        assert_eq!(refused, "dial tcp 127.0.0.1:1: connect: connection refused");
        let absent = dial(&Address::Unix("/nonexistent/socket".into())).unwrap_err();
        assert_eq!(absent, "dial unix /nonexistent/socket: connect: no such file or directory");
        assert_eq!(no_such_host("udp", "nowhere:514"), "dial udp: lookup nowhere: no such host");
    }
}
