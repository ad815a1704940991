//! The process itself: one thread, one epoll, no rights beyond its sockets.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::{CString, OsString},
    fs::{self, File},
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ferry_sys::spawn::{Spawn, spawn};
use rustix::event::{Timespec, epoll};

use crate::{
    netd::{
        client::SOCKET,
        dns::{self, Dns},
        protocol::{HeldPort, Publication, Reply, Request},
        relay::{Relay, Turn},
        udp::UdpPort,
    },
    types::Protocol,
};

/// How long the process waits for the next port when it holds none.
const IDLE: Duration = Duration::from_secs(1);
/// How often silent UDP clients are looked for.
const EXPIRY: Duration = Duration::from_secs(10);
const REQUEST_BYTES: usize = 1024 * 1024;
const CONTROL: u64 = 0;

/// Runs the program: `start FOLDER` starts `serve FOLDER` apart from its parent and ends.
///
/// # Errors
/// Says what is wrong with the arguments, or which call failed.
pub fn run(arguments: Vec<OsString>) -> io::Result<()> {
    match arguments.as_slice() {
        [verb, folder] if verb == "start" => start(folder),
        [verb, folder] if verb == "serve" => serve(Path::new(folder)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "ferry-netd holds published ports for a ferry daemon, which starts it",
        )),
    }
}

/// Descriptors 0 and 1 are the listening socket and the lock; they are passed on as they are.
fn start(folder: &OsString) -> io::Result<()> {
    let program = File::open("/proc/self/exe")?;
    let folder = CString::new(folder.as_bytes())?;
    let arguments = [c"ferry-netd".to_owned(), c"serve".to_owned(), folder];
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    spawn(&Spawn { program: program.as_fd(), arguments: &arguments, fds: &fds })?;
    Ok(())
}

fn serve(folder: &Path) -> io::Result<()> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    survive_and_drop_rights();
    Server::new(listener, folder.to_owned())?.run()
}

/// All are wishes: a daemon in a container may not have the right to lower the score.
fn survive_and_drop_rights() {
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
    let none = rustix::thread::CapabilitySets {
        effective: rustix::thread::CapabilitySet::empty(),
        permitted: rustix::thread::CapabilitySet::empty(),
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    // Each published port is a socket.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = rustix::thread::set_capabilities(None, none);
}

/// What a token of the epoll stands for.
#[derive(Debug)]
enum Source {
    Connection(Connection),
    Tcp {
        listener: TcpListener,
        target: SocketAddr,
        /// The container that has it.
        owner: String,
    },
    Udp(UdpPort),
    /// A client of a UDP port.
    UdpClient {
        port: u64,
        client: SocketAddr,
    },
    /// Held and nothing else.
    Silent {
        _socket: OwnedFd,
    },
}

/// A daemon that is connected.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

/// What one container has.
#[derive(Debug, Default)]
struct Holding {
    publication: Publication,
    tokens: Vec<u64>,
}

#[derive(Debug)]
struct Server {
    epoll: OwnedFd,
    listener: UnixListener,
    folder: PathBuf,
    sources: HashMap<u64, Source>,
    /// By the token of the client's end; the container's end has the next one.
    relays: HashMap<u64, (String, Relay)>,
    unfinished: VecDeque<u64>,
    holdings: BTreeMap<String, Holding>,
    /// Of [`crate::shortcut`]: what its programs note, and their links.
    links: Vec<OwnedFd>,
    dns: Dns,
    /// Sources that are clients of UDP ports.
    udp_clients: usize,
    next_token: u64,
    empty_since: Option<Instant>,
    next_expiry: Instant,
    datagram: Vec<u8>,
}

impl Server {
    fn new(listener: UnixListener, folder: PathBuf) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(CONTROL), epoll::EventFlags::IN)?;
        let dns = Dns::new(epoll.try_clone()?);
        Ok(Self {
            epoll,
            listener,
            folder,
            sources: HashMap::new(),
            relays: HashMap::new(),
            unfinished: VecDeque::new(),
            holdings: BTreeMap::new(),
            links: Vec::new(),
            dns,
            udp_clients: 0,
            next_token: 2,
            empty_since: Some(Instant::now()),
            next_expiry: Instant::now() + EXPIRY,
            datagram: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                self.handle(event.data.u64());
            }
            for _ in 0..self.unfinished.len() {
                if let Some(token) = self.unfinished.pop_front() {
                    self.turn(token);
                }
            }
            self.expire();
            if self.empty_since.is_some_and(|since| since.elapsed() >= IDLE) {
                return self.end();
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.unfinished.is_empty() {
            return Timespec::try_from(Duration::ZERO).ok();
        }
        let has_clients = self.udp_clients > 0;
        let ends = [
            self.empty_since.map(|since| since + IDLE),
            has_clients.then_some(self.next_expiry),
            self.dns.next_deadline(),
        ];
        let next = ends.into_iter().flatten().min()?;
        Timespec::try_from(next.saturating_duration_since(Instant::now())).ok()
    }

    /// Nothing can connect any more once the file is gone; whoever just did finds the end of the
    /// stream and starts another process, which waits for our lock.
    fn end(self) -> io::Result<()> {
        fs::remove_file(self.folder.join(SOCKET))
    }

    fn handle(&mut self, token: u64) {
        if token == CONTROL {
            self.accept_daemon();
            return;
        }
        if token & dns::TOKENS != 0 {
            self.dns.handle(token);
            return;
        }
        if self.relays.contains_key(&(token & !1)) {
            self.turn(token & !1);
            return;
        }
        // Taken out while it is served; put back unless it has ended.
        let Some(mut source) = self.sources.remove(&token) else { return };
        let stays = match &mut source {
            Source::Connection(connection) => self.serve_daemon(connection),
            Source::Tcp { listener, target, owner } => {
                self.accept_client(listener, *target, owner);
                true
            }
            Source::Udp(port) => {
                self.pass_to_container(token, port);
                true
            }
            Source::UdpClient { port, client } => {
                if let Some(Source::Udp(port)) = self.sources.get_mut(port) {
                    port.pass_to_client(&mut self.datagram, *client);
                }
                true
            }
            Source::Silent { .. } => true,
        };
        if stays {
            self.sources.insert(token, source);
        }
    }

    fn token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 2;
        token
    }

    fn watch(&self, fd: impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?)
    }

    fn accept_daemon(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let own = rustix::process::geteuid().as_raw();
        if ferry_sys::socket::peer_uid(&stream).ok() != Some(own) {
            return;
        }
        let token = self.token();
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_write_timeout(Some(IDLE)))
            .and_then(|()| self.watch(&stream, token, epoll::EventFlags::IN));
        if prepared.is_ok() {
            let connection = Connection { stream, line: Vec::new(), sockets: Vec::new() };
            self.sources.insert(token, Source::Connection(connection));
        }
    }

    /// Reads once, answers if a request is complete; returns whether the connection goes on.
    fn serve_daemon(&mut self, connection: &mut Connection) -> bool {
        let mut buffer = [0; 16 * 1024];
        match ferry_sys::socket::receive(&connection.stream, &mut buffer, &mut connection.sockets) {
            Ok(length) if length > 0 => connection.line.extend_from_slice(&buffer[..length]),
            _ => return false,
        }
        if connection.line.last() != Some(&b'\n') {
            return connection.line.len() < REQUEST_BYTES;
        }
        let sockets = std::mem::take(&mut connection.sockets);
        let mut copies = Vec::new();
        let reply = match serde_json::from_slice(&connection.line) {
            Ok(Request::Watch) => return self.hand_to_learner(connection),
            Ok(Request::Shortened) => {
                copies.extend(self.links.iter().map(AsFd::as_fd));
                Reply::Done
            }
            Ok(request) => self.answer(request, sockets),
            Err(error) => Reply::Failed(format!("request is not understood: {error}")),
        };
        connection.line.clear();
        let Ok(mut text) = serde_json::to_vec(&reply) else { return false };
        text.push(b'\n');
        let sent = ferry_sys::socket::send(&connection.stream, &text, &copies);
        sent.and_then(|sent| connection.stream.write_all(&text[sent..])).is_ok()
    }

    /// The connection is the learner's from then on, and watched by nobody else.
    fn hand_to_learner(&mut self, connection: &mut Connection) -> bool {
        connection.line.clear();
        let handed = connection.stream.try_clone().and_then(|mut stream| {
            epoll::delete(&self.epoll, &connection.stream)?;
            let mut text = serde_json::to_vec(&Reply::Done)?;
            text.push(b'\n');
            stream.write_all(&text)?;
            self.dns.tell_by(stream)
        });
        if let Err(error) = handed {
            let _ = writeln!(io::stderr(), "ferry-netd: {error}");
        }
        false
    }

    fn answer(&mut self, request: Request, sockets: Vec<OwnedFd>) -> Reply {
        let reply = match request {
            Request::Hold(publication) => match self.hold(publication, sockets) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.to_string()),
            },
            Request::Release { container_id } => {
                self.release(&container_id);
                Reply::Done
            }
            Request::Shorten => {
                self.links = sockets;
                Reply::Done
            }
            Request::Forget { container_id } => {
                self.dns.release(&container_id);
                Reply::Done
            }
            Request::Resolve(spec) => match self.dns.resolve(spec, sockets) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.to_string()),
            },
            Request::Join(named) => {
                self.dns.join(named);
                Reply::Done
            }
            Request::Leave { network_id, container_id } => {
                self.dns.leave(&network_id, &container_id);
                Reply::Done
            }
            // Answered where the connection is.
            Request::Watch | Request::Shortened => Reply::Failed("is asked for alone".to_owned()),
            Request::Ping => Reply::Done,
            Request::Resolvers => Reply::Resolving(self.dns.containers()),
            Request::List => {
                Reply::Holding(self.holdings.values().map(|holding| holding.publication.clone()).collect())
            }
        };
        self.empty_since = (self.holdings.is_empty() && self.dns.is_empty()).then(Instant::now);
        reply
    }

    fn hold(&mut self, publication: Publication, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let wanted = publication.ports.iter().filter(|held| held.has_socket).count();
        if wanted != sockets.len() {
            let text = format!("{} sockets came for {wanted} ports", sockets.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut holding = self.holdings.remove(&publication.container_id).unwrap_or_default();
        holding.publication.container_id.clone_from(&publication.container_id);
        holding.publication.target = publication.target;
        let mut sockets = sockets.into_iter();
        let mut result = Ok(());
        for held in &publication.ports {
            let socket = if held.has_socket { sockets.next() } else { None };
            match socket.map(|socket| self.hold_socket(held, socket, &publication)).transpose() {
                Ok(token) => {
                    holding.tokens.extend(token);
                    holding.publication.ports.push(held.clone());
                }
                Err(error) => result = Err(error),
            }
        }
        self.holdings.insert(publication.container_id, holding);
        result
    }

    fn hold_socket(&mut self, held: &HeldPort, socket: OwnedFd, publication: &Publication) -> io::Result<u64> {
        let token = self.token();
        let source = match (held.port.protocol, target(held, publication)) {
            (Protocol::Tcp, Some(target)) => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                self.watch(&listener, token, epoll::EventFlags::IN)?;
                Source::Tcp { listener, target, owner: publication.container_id.clone() }
            }
            (Protocol::Udp, Some(target)) => {
                let port = UdpPort::new(UdpSocket::from(socket), target)?;
                self.watch(port.socket(), token, epoll::EventFlags::IN)?;
                Source::Udp(port)
            }
            _ => Source::Silent { _socket: socket },
        };
        self.sources.insert(token, source);
        Ok(token)
    }

    fn release(&mut self, container_id: &str) {
        let Some(holding) = self.holdings.remove(container_id) else { return };
        for token in holding.tokens {
            if let Some(Source::Udp(port)) = self.sources.remove(&token) {
                for client in port.tokens() {
                    self.forget_client(client);
                }
            }
        }
        self.relays.retain(|_, (owner, _)| owner != container_id);
    }

    fn accept_client(&mut self, listener: &TcpListener, target: SocketAddr, owner: &str) {
        let Ok((client, _)) = listener.accept() else { return };
        let token = self.token();
        // A client that cannot be served is dropped: it sees its connection end.
        if let Ok(relay) = self.start_relay(client, target, token) {
            self.relays.insert(token, (owner.to_owned(), relay));
            self.turn(token);
        }
    }

    fn start_relay(&self, client: TcpStream, target: SocketAddr, token: u64) -> io::Result<Relay> {
        let relay = Relay::start(client, target)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        self.watch(relay.client(), token, flags)?;
        self.watch(relay.upstream(), token + 1, flags)?;
        Ok(relay)
    }

    fn turn(&mut self, token: u64) {
        let Some((_, relay)) = self.relays.get_mut(&token) else { return };
        match relay.turn() {
            Turn::Waiting => {}
            Turn::Unfinished => {
                if !self.unfinished.contains(&token) {
                    self.unfinished.push_back(token);
                }
            }
            Turn::Over => {
                self.relays.remove(&token);
            }
        }
    }

    fn pass_to_container(&mut self, token: u64, port: &mut UdpPort) {
        let (epoll, sources, next_token) = (&self.epoll, &mut self.sources, &mut self.next_token);
        let udp_clients = &mut self.udp_clients;
        port.pass_to_container(&mut self.datagram, |socket, client| {
            let client_token = *next_token;
            *next_token += 2;
            epoll::add(epoll, socket, epoll::EventData::new_u64(client_token), epoll::EventFlags::IN)?;
            sources.insert(client_token, Source::UdpClient { port: token, client });
            *udp_clients += 1;
            Ok(client_token)
        });
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.dns.expire(now);
        if now < self.next_expiry {
            return;
        }
        self.next_expiry = now + EXPIRY;
        let mut expired = Vec::new();
        for source in self.sources.values_mut() {
            if let Source::Udp(port) = source {
                expired.extend(port.expire(now));
            }
        }
        for token in expired {
            self.forget_client(token);
        }
    }

    fn forget_client(&mut self, token: u64) {
        if let Some(Source::UdpClient { .. }) = self.sources.remove(&token) {
            self.udp_clients -= 1;
        }
    }
}

/// Where a connection to a held port goes: to the address of its own family if there is one.
fn target(held: &HeldPort, publication: &Publication) -> Option<SocketAddr> {
    let v4 = publication.target.v4.map(|ip| SocketAddr::new(ip.into(), held.port.container_port));
    let v6 = publication.target.v6.map(|ip| SocketAddr::new(ip.into(), held.port.container_port));
    if held.port.host_ip.is_ipv4() { v4.or(v6) } else { v6.or(v4) }
}
