//! The resolvers of containers: sockets that lie in the containers' namespaces, names of their networks, and the way out to the
//! host's name servers.
//!
//! Datagrams are served by the one thread; a connection has a thread of its own, since it may ask slowly and is rare. What no network
//! knows is passed on to the servers from here, the host's namespace, word for word.

pub(crate) mod message;
mod servers;
mod streams;
mod zones;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use rustix::event::epoll;

use self::{
    message::{Answer, Question},
    servers::Servers,
    streams::Streams,
    zones::Zones,
};
use crate::{
    egress,
    netd::{
        learner::{Held, Learner},
        protocol::Learnt,
    },
    types::{Named, ResolverSpec},
};

/// Tokens with this bit are this module's.
pub(crate) const TOKENS: u64 = 1 << 63;
/// A server that has not answered by then is passed over, as in Docker; glibc asks again after five.
const PATIENCE: Duration = Duration::from_secs(4);
const WAITING: usize = 1024;
/// After so many datagrams others have their turn.
const ROUNDS: usize = 64;
const DATAGRAM_BYTES: usize = 65_535;

/// See the module.
#[derive(Debug)]
pub(crate) struct Dns {
    epoll: OwnedFd,
    zones: Arc<Mutex<Zones>>,
    resolvers: HashMap<String, Resolver>,
    sources: HashMap<u64, Source>,
    /// Apart from the others: they are looked through after each event.
    waiting: HashMap<u64, Waiting>,
    next_token: u64,
    servers: Arc<Mutex<Servers>>,
    streams: Streams,
    learner: Arc<Learner>,
    /// To the learner's thread, once there has been something to learn.
    held: Option<SyncSender<Held>>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Resolver {
    spec: Arc<ResolverSpec>,
    datagrams: Arc<UdpSocket>,
    tokens: [u64; 2],
}

#[derive(Debug)]
enum Source {
    Datagrams { container_id: String },
    Listener { container_id: String, listener: TcpListener },
}

/// A query that a server has been asked.
#[derive(Debug)]
struct Waiting {
    container_id: String,
    client: SocketAddr,
    query: Vec<u8>,
    servers: Vec<SocketAddr>,
    /// Of the one that was asked last.
    socket: UdpSocket,
    deadline: Instant,
}

impl Dns {
    pub(crate) fn new(epoll: OwnedFd) -> Self {
        Self {
            epoll,
            zones: Arc::default(),
            resolvers: HashMap::new(),
            sources: HashMap::new(),
            waiting: HashMap::new(),
            next_token: TOKENS,
            servers: Arc::default(),
            streams: Streams::default(),
            learner: Arc::default(),
            held: None,
            buffer: vec![0; DATAGRAM_BYTES],
        }
    }

    /// Tells a daemon over this connection what watched names lead to.
    pub(crate) fn tell_by(&self, stream: UnixStream) -> io::Result<()> {
        self.learner.listen(stream)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.resolvers.is_empty()
    }

    /// Containers that have sockets.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.resolvers.keys().cloned().collect()
    }

    /// Begins to answer a container, or changes what is known of one; the sockets come once.
    pub(crate) fn resolve(&mut self, spec: ResolverSpec, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let spec = Arc::new(spec);
        let mut sockets = sockets.into_iter();
        let (Some(datagrams), Some(listener)) = (sockets.next(), sockets.next()) else {
            let known = self.resolvers.get_mut(&spec.container_id);
            let known =
                known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no sockets came for the resolver"))?;
            known.spec = spec;
            return Ok(());
        };
        self.close(&spec.container_id);
        let (datagrams, listener) = (Arc::new(UdpSocket::from(datagrams)), TcpListener::from(listener));
        datagrams.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let tokens = [self.token(), self.token()];
        self.watch(&datagrams, tokens[0])?;
        self.watch(&listener, tokens[1])?;
        let container_id = spec.container_id.clone();
        self.sources.insert(tokens[0], Source::Datagrams { container_id: container_id.clone() });
        self.sources.insert(tokens[1], Source::Listener { container_id: container_id.clone(), listener });
        self.resolvers.insert(container_id, Resolver { spec, datagrams, tokens });
        Ok(())
    }

    pub(crate) fn join(&self, named: Named) {
        lock(&self.zones).join(named);
    }

    pub(crate) fn leave(&self, network_id: &str, container_id: &str) {
        lock(&self.zones).leave(network_id, container_id);
    }

    /// Forgets a container: its sockets and its names.
    pub(crate) fn release(&mut self, container_id: &str) {
        self.close(container_id);
        lock(&self.zones).leave_all(container_id);
    }

    fn close(&mut self, container_id: &str) {
        let Some(resolver) = self.resolvers.remove(container_id) else { return };
        for token in resolver.tokens {
            self.sources.remove(&token);
        }
        self.waiting.retain(|_, waiting| waiting.container_id != container_id);
    }

    /// Serves what became readable.
    pub(crate) fn handle(&mut self, token: u64) {
        // Taken out while it is served; put back unless it has ended.
        if let Some(waiting) = self.waiting.remove(&token) {
            return self.pass_back(token, waiting);
        }
        let Some(source) = self.sources.remove(&token) else { return };
        match source {
            Source::Datagrams { container_id } => {
                self.answer_datagrams(&container_id);
                self.sources.insert(token, Source::Datagrams { container_id });
            }
            Source::Listener { container_id, listener } => {
                if let (Ok((stream, _)), Some(resolver)) = (listener.accept(), self.resolvers.get(&container_id)) {
                    self.streams.serve(
                        stream,
                        Arc::clone(&resolver.spec),
                        Arc::clone(&self.zones),
                        Arc::clone(&self.servers),
                        Arc::clone(&self.learner),
                    );
                }
                self.sources.insert(token, Source::Listener { container_id, listener });
            }
        }
    }

    fn answer_datagrams(&mut self, container_id: &str) {
        let Some(resolver) = self.resolvers.get(container_id) else { return };
        let (spec, socket) = (Arc::clone(&resolver.spec), Arc::clone(&resolver.datagrams));
        for _ in 0..ROUNDS {
            let Ok((length, client)) = socket.recv_from(&mut self.buffer) else { return };
            let query = self.buffer[..length].to_vec();
            let Some(question) = message::question(&query) else { continue };
            let answer = lock(&self.zones).answer(&spec, &question);
            let answer = match answer {
                Some(answer) => answer,
                None if self.forward(&spec, client, &question, &query) => continue,
                None => Answer::Failure,
            };
            // A client that does not take its answer asks again.
            let _ = socket.send_to(&message::reply(&query, &question, &answer, true), client);
        }
    }

    /// Asks the first server; tells whether there was one to ask.
    fn forward(&mut self, spec: &ResolverSpec, client: SocketAddr, question: &Question, query: &[u8]) -> bool {
        if self.waiting.len() >= WAITING {
            return false;
        }
        let servers = lock(&self.servers).of(spec, &question.name);
        self.ask_next(spec.container_id.clone(), client, query.to_vec(), servers)
    }

    fn ask_next(
        &mut self,
        container_id: String,
        client: SocketAddr,
        query: Vec<u8>,
        mut servers: Vec<SocketAddr>,
    ) -> bool {
        while !servers.is_empty() {
            let server = servers.remove(0);
            let Ok(socket) = ask(server, &query) else { continue };
            let token = self.token();
            if self.watch(&socket, token).is_err() {
                continue;
            }
            let deadline = Instant::now() + PATIENCE;
            self.waiting.insert(token, Waiting { container_id, client, query, servers, socket, deadline });
            return true;
        }
        false
    }

    fn pass_back(&mut self, token: u64, waiting: Waiting) {
        match waiting.socket.recv(&mut self.buffer) {
            Ok(length) if message::answers(&self.buffer[..length], &waiting.query) => {
                let reply = self.buffer[..length].to_vec();
                self.answer_from_outside(waiting, reply);
            }
            // Something else that came to our port; the answer may still come.
            Ok(_) => {
                self.waiting.insert(token, waiting);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.waiting.insert(token, waiting);
            }
            // Nobody listens there.
            Err(_) => self.pass_over(waiting),
        }
    }

    /// The next server, or the bad news.
    fn pass_over(&mut self, waiting: Waiting) {
        let Waiting { container_id, client, query, servers, .. } = waiting;
        if self.ask_next(container_id.clone(), client, query.clone(), servers) {
            return;
        }
        if let (Some(resolver), Some(question)) = (self.resolvers.get(&container_id), message::question(&query)) {
            let _ = resolver.datagrams.send_to(&message::reply(&query, &question, &Answer::Failure, true), client);
        }
    }

    /// What is to be learnt from an answer is learnt before the container hears it.
    fn answer_from_outside(&mut self, waiting: Waiting, reply: Vec<u8>) {
        let Some(resolver) = self.resolvers.get(&waiting.container_id) else { return };
        let socket = Arc::clone(&resolver.datagrams);
        let Some(learnt) = learnt(&resolver.spec, &waiting.query, &reply) else {
            let _ = socket.send_to(&reply, waiting.client);
            return;
        };
        if self.held.is_none() {
            self.held = self.learner.start().ok();
        }
        let held = Held { learnt, reply, socket, client: waiting.client };
        let left = match &self.held {
            Some(sender) => sender.try_send(held).err().map(|error| match error {
                TrySendError::Full(held) | TrySendError::Disconnected(held) => held,
            }),
            None => Some(held),
        };
        if let Some(held) = left {
            let _ = held.socket.send_to(&held.reply, held.client);
        }
    }

    /// When somebody's patience ends next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }

    /// Passes over servers that have not answered in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| waiting.deadline <= now).map(|(token, _)| *token).collect();
        for token in late {
            if let Some(waiting) = self.waiting.remove(&token) {
                self.pass_over(waiting);
            }
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn watch(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }
}

/// What an answer says of a watched name.
fn learnt(spec: &ResolverSpec, query: &[u8], reply: &[u8]) -> Option<Learnt> {
    let question = message::question(query)?;
    let is_watched = spec.watched.iter().any(|watched| egress::matches(watched, &question.name));
    let (addresses, ttl_s) = message::addresses(reply).filter(|_| is_watched)?;
    Some(Learnt { container_id: spec.container_id.clone(), name: question.name, addresses, ttl_s })
}

/// A socket of its own for each question: its port is part of what a forged answer must guess.
fn ask(server: SocketAddr, query: &[u8]) -> io::Result<UdpSocket> {
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(query)?;
    Ok(socket)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
