//! The daemon's side of `ferry-netd`: finding it, starting it, speaking to it.

use std::{
    ffi::CString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ferry_sys::spawn::{Spawn, spawn};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, WaitOptions, waitpid},
};

use crate::{
    error::Error,
    netd::protocol::{Publication, Reply, Request},
    types::{Named, ResolverSpec},
};

/// The socket's file name.
pub(crate) const SOCKET: &str = "netd.sock";
const LOCK: &str = "lock";
/// How long a process that is starting or ending is waited for, and an answer: it comes at once but on a machine that has no time for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to `ferry-netd`, made when needed.
#[derive(Debug)]
pub(crate) struct Client {
    folder: PathBuf,
    program: PathBuf,
    connection: Option<UnixStream>,
}

/// Opens a connection over which a living process tells of watched names.
pub(crate) fn watch(folder: &Path) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    let mut stream = ferry_sys::socket::connect_at(folder.as_fd(), SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match exchange(&mut stream, &Request::Watch, &[])?.0 {
        Reply::Done => Ok(stream),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

/// Whether the process that answered had been there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Alive,
    /// It was started just now and holds nothing.
    Started,
}

impl Client {
    pub(crate) fn new(folder: PathBuf, program: PathBuf) -> Self {
        Self { folder, program, connection: None }
    }

    /// Returns what a living process holds; none when there is no process.
    pub(crate) fn list(&mut self) -> Result<Option<Vec<Publication>>, Error> {
        match self.ask(&Request::List)? {
            None => Ok(None),
            Some(Reply::Holding(held)) => Ok(Some(held)),
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Makes sure that there is a process.
    pub(crate) fn ensure(&mut self) -> Result<Found, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.connect()? && self.is_answering() {
                return Ok(Found::Alive);
            }
            if self.start()? {
                return Ok(Found::Started);
            }
            if Instant::now() > end {
                return Err(Error::Netd("neither answers nor ends".to_owned()));
            }
            // Another one is between taking the lock and listening, or between closing and ending.
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Hands over sockets, for which [`Self::ensure`] must have found a process.
    pub(crate) fn hold(&mut self, publication: Publication, sockets: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match self.exchange(&Request::Hold(publication), sockets)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has a living process hold these in the place of those before; without a process there are none.
    pub(crate) fn shorten(&mut self, links: &[OwnedFd]) -> Result<(), Error> {
        if !self.connect()? {
            return Ok(());
        }
        let links: Vec<_> = links.iter().map(AsFd::as_fd).collect();
        done(self.exchange(&Request::Shorten, &links)?)
    }

    /// Returns copies of what a living process holds so; without a process there is nothing.
    pub(crate) fn shortened(&mut self) -> Result<Vec<OwnedFd>, Error> {
        if !self.connect()? {
            return Ok(Vec::new());
        }
        match self.exchange_copies(&Request::Shortened, &[])? {
            (Reply::Done, copies) => Ok(copies),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Has the sockets of a container closed; without a process there are none.
    pub(crate) fn release(&mut self, container_id: &str) -> Result<(), Error> {
        match self.ask(&Request::Release { container_id: container_id.to_owned() })? {
            None | Some(Reply::Done) => Ok(()),
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Has a container answered, for which [`Self::ensure`] must have found a process.
    pub(crate) fn resolve(&mut self, spec: &ResolverSpec, sockets: &[OwnedFd]) -> Result<(), Error> {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        done(self.exchange(&Request::Resolve(spec.clone()), &sockets)?)
    }

    /// Tells a container's names in a network.
    pub(crate) fn join(&mut self, named: &Named) -> Result<(), Error> {
        done(self.exchange(&Request::Join(named.clone()), &[])?)
    }

    /// Takes them back; without a process there are none.
    pub(crate) fn leave(&mut self, network_id: &str, container_id: &str) -> Result<(), Error> {
        let request = Request::Leave { network_id: network_id.to_owned(), container_id: container_id.to_owned() };
        self.ask(&request)?.map_or(Ok(()), done)
    }

    /// Has a container's resolver closed and its names forgotten.
    pub(crate) fn forget(&mut self, container_id: &str) -> Result<(), Error> {
        self.ask(&Request::Forget { container_id: container_id.to_owned() })?.map_or(Ok(()), done)
    }

    /// Returns the containers that a living process answers.
    pub(crate) fn resolvers(&mut self) -> Result<Vec<String>, Error> {
        match self.ask(&Request::Resolvers)? {
            None => Ok(Vec::new()),
            Some(Reply::Resolving(containers)) => Ok(containers),
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Asks something that may be asked twice: a connection from before may have lost its other end.
    fn ask(&mut self, request: &Request) -> Result<Option<Reply>, Error> {
        let was_connected = self.connection.is_some();
        if !self.connect()? {
            return Ok(None);
        }
        match self.exchange(request, &[]) {
            Err(_) if was_connected && self.connect()? => self.exchange(request, &[]).map(Some),
            // It has just ended, so it held nothing.
            Err(_) if !self.connect()? => Ok(None),
            other => other.map(Some),
        }
    }

    /// A connection may have outlived the process at its other end.
    fn is_answering(&mut self) -> bool {
        self.exchange(&Request::Ping, &[]).is_ok()
    }

    fn connect(&mut self) -> Result<bool, Error> {
        if self.connection.is_some() {
            return Ok(true);
        }
        let Ok(folder) = File::open(&self.folder) else { return Ok(false) };
        match ferry_sys::socket::connect_at(folder.as_fd(), SOCKET) {
            Ok(stream) => {
                let timeouts =
                    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
                timeouts.map_err(|error| Error::Netd(error.to_string()))?;
                self.connection = Some(stream);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(false)
            }
            Err(error) => Err(Error::file("connect to", self.folder.join(SOCKET))(error)),
        }
    }

    /// One request, one answer. After a failure the connection is given up.
    fn exchange(&mut self, request: &Request, sockets: &[BorrowedFd<'_>]) -> Result<Reply, Error> {
        Ok(self.exchange_copies(request, sockets)?.0)
    }

    fn exchange_copies(
        &mut self,
        request: &Request,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let Some(mut stream) = self.connection.take() else {
            return Err(Error::NetdLost(io::ErrorKind::NotConnected.into()));
        };
        let reply = exchange(&mut stream, request, sockets).map_err(Error::NetdLost)?;
        self.connection = Some(stream);
        Ok(reply)
    }

    /// Starts the process if there is none; gives back whether it did.
    fn start(&mut self) -> Result<bool, Error> {
        self.connection = None;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(Error::file("create", &self.folder))?;
        let lock = open_lock(&self.folder)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(Error::file("lock", self.folder.join(LOCK))(error.into())),
        }
        let folder = File::open(&self.folder).map_err(Error::file("open", &self.folder))?;
        let listener = ferry_sys::socket::listen_at(folder.as_fd(), SOCKET)
            .map_err(Error::file("listen on", self.folder.join(SOCKET)))?;
        self.launch(&listener.as_fd(), &lock.as_fd())?;
        drop(lock);
        // Whatever it takes: found alive by the next look, it would be taken for one that holds everything.
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !self.connect()? {
                // It has had to wait for us so long that it has ended again.
                return Ok(false);
            }
            if self.is_answering() {
                return Ok(true);
            }
        }
        Err(Error::Netd("does not answer".to_owned()))
    }

    /// The program starts itself a second time and ends, so that the process is nobody's child who
    /// would have to reap it.
    fn launch(&self, listener: &BorrowedFd<'_>, lock: &BorrowedFd<'_>) -> Result<(), Error> {
        let failed = |source| Error::Program { program: self.program.display().to_string(), source };
        let program = File::open(&self.program).map_err(failed)?;
        let null = File::options().write(true).open("/dev/null").map_err(failed)?;
        let folder =
            CString::new(self.folder.as_os_str().as_bytes()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let arguments = [c"ferry-netd".to_owned(), c"start".to_owned(), folder];
        let fds = [*listener, *lock, null.as_fd()];
        let pid = spawn(&Spawn { program: program.as_fd(), arguments: &arguments, fds: &fds }).map_err(failed)?;
        let status = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(pid), WaitOptions::empty()));
        match status.map_err(|errno| failed(errno.into()))? {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(Error::Netd("cannot be started".to_owned())),
        }
    }
}

fn open_lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::file("open", path))
}

/// Returns the answer, and what came beside it.
fn exchange(
    stream: &mut UnixStream,
    request: &Request,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<(Reply, Vec<OwnedFd>)> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut sent = ferry_sys::socket::send(&*stream, &line, sockets)?;
    while sent < line.len() {
        sent += ferry_sys::socket::send(&*stream, &line[sent..], &[])?;
    }
    let mut answer = Vec::new();
    let mut copies = Vec::new();
    let mut buffer = [0; 4096];
    while answer.last() != Some(&b'\n') {
        match ferry_sys::socket::receive(&*stream, &mut buffer, &mut copies)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ended without an answer")),
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok((serde_json::from_slice(&answer)?, copies))
}

fn done(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Failed(text) => Error::Netd(text.clone()),
        other => Error::Netd(format!("unexpected answer {other:?}")),
    }
}
