//! Where the daemon listens: unix sockets, loopback TCP, sockets handed over by the service manager.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::socket::Socket;
use super::tls::Tls;

/// One entry of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// Every socket of the service manager, or the one of that name or number.
    Inherited(Option<String>),
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("bad format {0}, expected PROTO://ADDR")]
    BadFormat(String),
    #[error("protocol \"{0}\" not supported: use unix, tcp or fd")]
    UnknownProtocol(String),
    #[error("cannot resolve address `{address}`")]
    Resolve {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "refusing to listen on tcp://{0} with TLS that lets every client in: whoever reaches it is root on this host; use `--tlsverify` \
         with `--tlscacert`"
    )]
    OpenTls(SocketAddr),
    #[error(
        "refusing to listen on tcp://{0} without TLS: whoever reaches it is root on this host; use `--tlsverify`, or \
         `--insecure-tcp` and a loopback address"
    )]
    PlainTcp(SocketAddr),
    #[error("cannot listen on unix socket {path}: another daemon already listens on it")]
    InUse { path: PathBuf },
    #[error("cannot listen on unix socket {path}: there is something there that is no socket")]
    NoSocket { path: PathBuf },
    #[error("cannot listen on {address}")]
    Bind {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no sockets were handed over by the service manager (LISTEN_FDS); is this service socket-activated?")]
    NoneInherited,
    #[error("no socket named or numbered {0} was handed over by the service manager")]
    NotInherited(String),
    #[error("cannot take over socket {number} of the service manager")]
    Inherit {
        number: i32,
        #[source]
        source: io::Error,
    },
}

impl Address {
    /// Reads an entry of `hosts`.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self, ListenError> {
        let (protocol, rest) = text.split_once("://").ok_or_else(|| ListenError::BadFormat(text.to_owned()))?;
        match protocol {
            "unix" if rest.is_empty() => Ok(Self::Unix(PathBuf::from(crate::config::DEFAULT_SOCKET))),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => Ok(Self::Tcp(resolve(rest, if tls { 2376 } else { 2375 })?)),
            "fd" => Ok(Self::Inherited(Some(rest.to_owned()).filter(|rest| !rest.is_empty() && rest != "*"))),
            other => Err(ListenError::UnknownProtocol(other.to_owned())),
        }
    }
}

fn resolve(address: &str, port: u16) -> Result<SocketAddr, ListenError> {
    let with_port = if address.is_empty() {
        format!("localhost:{port}")
    } else if address.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
        if let Some(port) = address.strip_prefix(':') { format!("0.0.0.0:{port}") } else { address.to_owned() }
    } else {
        format!("{address}:{port}")
    };
    let failed = |source| ListenError::Resolve { address: address.to_owned(), source };
    let mut found = with_port.to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// A bound listener; a unix one removes its file when it is dropped.
pub(crate) enum Listener {
    Unix { listener: UnixListener, path: Option<PathBuf> },
    Tcp { listener: TcpListener, tls: Option<Tls> },
}

/// Who may come by TCP.
#[derive(Clone, Default)]
pub(crate) struct TcpAccess {
    /// Plain TCP on loopback, whoever it is.
    pub(crate) insecure: bool,
    pub(crate) tls: Option<Tls>,
    /// TLS asks clients for a certificate.
    pub(crate) verifies: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path: Some(path), .. } = self {
            // Another daemon may have taken the place; it would have replaced the file only because nobody answered on ours.
            if let Err(error) = std::fs::remove_file(&*path) {
                tracing::debug!(path = %path.display(), %error, "cannot remove the socket");
            }
        }
    }
}

impl Listener {
    /// Binds an address; `fd://` may stand for several sockets.
    pub(crate) fn bind(address: &Address, group: &str, access: &TcpAccess) -> Result<Vec<Self>, ListenError> {
        match address {
            Address::Unix(path) => Ok(vec![bind_unix(path, group)?]),
            Address::Tcp(address) => {
                access.check(*address)?;
                let failed = |source| ListenError::Bind { address: format!("tcp://{address}"), source };
                Ok(vec![bind_tcp(*address, access.tls.clone()).map_err(failed)?])
            }
            Address::Inherited(wanted) => inherited(wanted.as_deref(), access),
        }
    }

    /// Waits for the next client; with TLS its hand is still to be shaken.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Option<Tls>)> {
        match self {
            Self::Unix { listener, .. } => Ok((Socket::Unix(listener.accept().await?.0), None)),
            Self::Tcp { listener, tls } => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), tls.clone()))
            }
        }
    }
}

impl TcpAccess {
    fn check(&self, address: SocketAddr) -> Result<(), ListenError> {
        let known = self.tls.is_some() && self.verifies;
        if known || self.insecure && address.ip().is_loopback() {
            return Ok(());
        }
        Err(if self.tls.is_some() { ListenError::OpenTls(address) } else { ListenError::PlainTcp(address) })
    }
}

/// Number of the first socket that a service manager hands over.
const FIRST_INHERITED: i32 = 3;

/// Takes sockets over from the service manager, as `sd_listen_fds` tells them.
fn inherited(wanted: Option<&str>, access: &TcpAccess) -> Result<Vec<Listener>, ListenError> {
    let variable = |name: &str| std::env::var(name).ok();
    let is_for_us = variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let count: i32 = variable("LISTEN_FDS").filter(|_| is_for_us).and_then(|count| count.parse().ok()).unwrap_or(0);
    if count < 1 {
        return Err(ListenError::NoneInherited);
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let listeners = (FIRST_INHERITED..FIRST_INHERITED.saturating_add(count))
        .zip(names.split(':').map(Some).chain(std::iter::repeat(None)))
        .filter(|(number, name)| wanted.is_none_or(|wanted| *name == Some(wanted) || number.to_string() == wanted))
        .map(|(number, _)| take_over(number, access))
        .collect::<Result<Vec<_>, _>>()?;
    match wanted {
        Some(wanted) if listeners.is_empty() => Err(ListenError::NotInherited(wanted.to_owned())),
        _ => Ok(listeners),
    }
}

/// Takes one socket over, by a descriptor of its own.
fn take_over(number: i32, access: &TcpAccess) -> Result<Listener, ListenError> {
    let failed = |source: io::Error| ListenError::Inherit { number, source };
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    let socket = own
        .and_then(|own| rustix::process::pidfd_getfd(own, number, rustix::process::PidfdGetfdFlags::empty()))
        .map_err(|error| failed(error.into()))?;
    let domain = rustix::net::sockopt::socket_domain(&socket).map_err(|error| failed(error.into()))?;
    if domain == rustix::net::AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true).map_err(failed)?;
        // Its file is the service manager's.
        return Ok(Listener::Unix { listener: UnixListener::from_std(listener).map_err(failed)?, path: None });
    }
    let listener = std::net::TcpListener::from(socket);
    access.check(listener.local_addr().map_err(failed)?)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    Ok(Listener::Tcp { listener, tls: access.tls.clone() })
}

fn bind_tcp(address: SocketAddr, tls: Option<Tls>) -> io::Result<Listener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp { listener: TcpListener::from_std(listener)?, tls })
}

fn bind_unix(path: &Path, group: &str) -> Result<Listener, ListenError> {
    let failed = |source: io::Error| ListenError::Bind { address: format!("unix://{}", path.display()), source };
    clear_stale(path)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // Bound under another name with the last rights, then renamed: nobody can connect in between.
    let draft = path.with_extension(format!("sock.{}", std::process::id()));
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| failed(error.into()))?;
    let finish = |socket: OwnedFd| -> io::Result<Listener> {
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&draft)?)?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o660))?;
        give_to_group(&draft, group)?;
        rustix::net::listen(&socket, 4096)?;
        std::fs::rename(&draft, path)?;
        let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
        Ok(Listener::Unix { listener, path: Some(path.to_owned()) })
    };
    finish(socket).map_err(|source| {
        // Nothing is left behind; it may not have got that far.
        let _ = std::fs::remove_file(&draft);
        failed(source)
    })
}

/// Removes a socket file that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source: io::Error| ListenError::Bind { address: format!("unix://{}", path.display()), source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() {
        return Err(ListenError::NoSocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Gives a socket to a group; where the group is missing it stays root's.
fn give_to_group(path: &Path, group: &str) -> io::Result<()> {
    let id = match group.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => group_id(&std::fs::read_to_string("/etc/group").unwrap_or_default(), group),
    };
    match id {
        Some(id) => std::os::unix::fs::chown(path, None, Some(id)),
        None => {
            tracing::debug!(group, "group not found, the socket belongs to root alone");
            Ok(())
        }
    }
}

fn group_id(groups: &str, wanted: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?;
        (name == wanted).then(|| id.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_docker_s() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        let parse = |text: &str| Address::parse(text, false);
        assert_eq!(Address::parse("tcp://127.0.0.1", true).unwrap(), tcp("127.0.0.1:2376"));
        assert_eq!(parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(parse("tcp://127.0.0.1:99").unwrap(), tcp("127.0.0.1:99"));
        assert_eq!(parse("tcp://:99").unwrap(), tcp("0.0.0.0:99"));
        assert_eq!(parse("tcp://127.0.0.1").unwrap(), tcp("127.0.0.1:2375"));
        assert_eq!(parse("tcp://[::1]").unwrap(), tcp("[::1]:2375"));
        assert_eq!(parse("fd://").unwrap(), Address::Inherited(None));
        assert_eq!(parse("/run/x.sock").unwrap_err().to_string(), "bad format /run/x.sock, expected PROTO://ADDR");
        assert!(matches!(parse("npipe://x"), Err(ListenError::UnknownProtocol(_))));
    }

    #[test]
    fn tcp_is_for_those_who_are_known() {
        let check = |access: &TcpAccess, address: &str| {
            access.check(address.parse().unwrap()).map_err(|error| error.to_string())
        };
        let plain = TcpAccess::default();
        assert!(check(&plain, "127.0.0.1:1").unwrap_err().contains("without TLS"));
        let insecure = TcpAccess { insecure: true, ..TcpAccess::default() };
        assert!(check(&insecure, "127.0.0.1:1").is_ok() && check(&insecure, "192.0.2.1:1").is_err());
    }

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\ndocker:x:998:alice,bob\n";
        assert_eq!(group_id(groups, "docker"), Some(998));
        assert_eq!(group_id(groups, "nope"), None);
    }
}
