//! One client's socket, unix or TCP, shared by the HTTP connection and by whoever waits for its end.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::http::guard::{Guard, Violation};

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// The client at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    pub(crate) guard: Guard,
    is_encrypted: bool,
    /// What it showed, its own first; verified where clients are.
    certificates: Vec<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self { socket, guard: Guard::new(), is_encrypted: false, certificates: Vec::new() })
    }

    /// The client of an encrypted connection; `socket` is a copy to watch it by.
    pub(super) fn encrypted(socket: Socket, certificates: Vec<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { socket, guard: Guard::new(), is_encrypted: true, certificates })
    }

    /// The certificates that the client showed.
    pub(super) fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The name in the client's certificate.
    pub(super) fn common_name(&self) -> Option<String> {
        super::certificate::common_name(self.certificates.first()?)
    }

    /// Its certificate was asked for, and no other name can lead a browser here unnoticed.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Who it is, for people: program, pid and user of a unix client, the address of another.
    pub(crate) fn describe(&self) -> Option<String> {
        match &self.socket {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(|address| address.to_string()),
            Socket::Unix(stream) => {
                let peer = ferry_sys::socket::peer_credentials(stream).ok()?;
                let program = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid)).unwrap_or_default();
                // The name is the client's own choice: nothing of it may play with a terminal.
                let program: String = program.trim_end().chars().filter(|c| !c.is_control()).collect();
                let program = if program.is_empty() { "a program".to_owned() } else { program };
                Some(format!("{program} (pid {}, uid {})", peer.pid, peer.uid))
            }
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    /// Waits until the client has gone for good. A client that only closed its sending side waits for the answer and is still there.
    pub(crate) async fn gone(&self) {
        if let Err(error) = self.hung_up().await {
            tracing::debug!(%error, "cannot watch a client");
            std::future::pending::<()>().await;
        }
    }

    /// Waits, for a moment at most, until the client has read all that was sent.
    ///
    /// Clients in Python take the connection over from an HTTP library that reads ahead: output that arrives together with the head of
    /// the answer is lost to them. Docker never meets that because its processes start so much later.
    pub(crate) async fn has_read(&self) {
        // Those who have their turn read it in microseconds; on a busy machine a turn may be long in coming.
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Err(error) = tokio::time::timeout(PATIENCE, self.until_read()).await {
            tracing::debug!(%error, "the client takes its time");
        }
    }

    /// Throws away what a client still sends, until it says nothing for a moment.
    ///
    /// It was answered before it had sent its whole body. Closed at once, the socket would fail its write, and a client that writes
    /// first and reads then would never learn the answer.
    pub(super) async fn hear_out(&self) {
        const LONGEST: Duration = Duration::from_secs(10);
        const PLENTY: usize = 64 << 20;
        if let Ok(Err(error)) = tokio::time::timeout(LONGEST, self.until_silent(PLENTY)).await {
            tracing::debug!(%error, "cannot hear a client out");
        }
    }

    /// Reads to the end, until nothing came for a while, or until `most` bytes came.
    async fn until_silent(&self, most: usize) -> io::Result<()> {
        // One that has only lost its turn on a busy machine goes on within that time.
        const SILENCE: Duration = Duration::from_secs(1);
        let watched = self.socket.duplicate()?;
        let mut sink = vec![0; 64 << 10];
        let mut left = most;
        while left > 0 {
            let readable = async {
                match &watched {
                    Socket::Unix(stream) => stream.readable().await,
                    Socket::Tcp(stream) => stream.readable().await,
                }
            };
            let Ok(readable) = tokio::time::timeout(SILENCE, readable).await else { return Ok(()) };
            readable?;
            let read = match &watched {
                Socket::Unix(stream) => stream.try_read(&mut sink),
                Socket::Tcp(stream) => stream.try_read(&mut sink),
            };
            match read {
                Ok(0) => return Ok(()),
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn until_read(&self) {
        // TCP does not tell when data was acknowledged.
        const STEP: Duration = Duration::from_millis(1);
        let Ok(watched) = self.socket.duplicate() else { return };
        loop {
            // First, so that a read which happens from here on is news.
            watched.forget_writable();
            let unread = match &self.socket {
                Socket::Unix(stream) => ferry_sys::socket::unread_by_peer(stream),
                Socket::Tcp(stream) => ferry_sys::socket::unread_by_peer(stream),
            };
            if !matches!(unread, Ok(1..)) {
                return;
            }
            tokio::select! {
                _ = watched.until_writable() => {}
                () = tokio::time::sleep(STEP) => {}
            }
        }
    }

    async fn hung_up(&self) -> io::Result<()> {
        // A second registration of its own, so that readiness cleared here is not missed by the connection.
        let watched = self.socket.duplicate()?;
        loop {
            // EPOLLHUP shows as a closed sending side: of a unix socket when the other end was closed, of TCP after a reset.
            if watched.until_writable().await?.is_write_closed() {
                return Ok(());
            }
            watched.forget_writable();
        }
    }
}

impl Socket {
    /// Returns the same socket with a registration of its own.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => {
                let descriptor = stream.as_fd().try_clone_to_owned()?;
                Self::Unix(UnixStream::from_std(descriptor.into())?)
            }
            Self::Tcp(stream) => {
                let descriptor = stream.as_fd().try_clone_to_owned()?;
                Self::Tcp(TcpStream::from_std(descriptor.into())?)
            }
        })
    }

    async fn until_writable(&self) -> io::Result<Ready> {
        match self {
            Self::Unix(stream) => stream.ready(Interest::WRITABLE).await,
            Self::Tcp(stream) => stream.ready(Interest::WRITABLE).await,
        }
    }

    /// Makes the next wait one for news.
    fn forget_writable(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // The error is the one just made.
        let _ = match self {
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, nothing),
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, nothing),
        };
    }
}

/// The transport that hyper reads and writes.
pub(crate) struct Transport {
    peer: Arc<Peer>,
    head_timer: Option<Pin<Box<Sleep>>>,
    /// What the bytes go through, where they are encrypted.
    tls: Option<Box<TlsStream<TcpStream>>>,
}

impl Transport {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        Self { peer, head_timer: None, tls: None }
    }

    pub(super) fn encrypted(peer: Arc<Peer>, stream: TlsStream<TcpStream>) -> Self {
        Self { peer, head_timer: None, tls: Some(Box::new(stream)) }
    }

    /// Fills the buffer with what has come.
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return Pin::new(tls.as_mut()).poll_read(context, buffer);
        }
        let unfilled = buffer.initialize_unfilled();
        let read = loop {
            let attempt = match &self.peer.socket {
                Socket::Unix(stream) => {
                    ready!(stream.poll_read_ready(context))?;
                    stream.try_read(unfilled)
                }
                Socket::Tcp(stream) => {
                    ready!(stream.poll_read_ready(context))?;
                    stream.try_read(unfilled)
                }
            };
            match attempt {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }

    /// Errs when the head that is arriving is late.
    fn poll_head_timer(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = self.peer.guard.deadline() else {
            self.head_timer = None;
            return Ok(());
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "request header timeout");
        if Instant::now() >= deadline {
            return Err(late());
        }
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Err(late()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_head_timer(context)?;
        let filled = buffer.filled().len();
        ready!(this.poll_fill(context, buffer))?;
        let arrived = &buffer.filled()[filled..];
        match this.peer.guard.arrived(arrived) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(violation) => {
                this.refuse(violation);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request refused")))
            }
        }
    }
}

impl Transport {
    /// Answers a violation, as far as the socket takes it at once; hyper cannot answer, it has not seen a request yet.
    fn refuse(&mut self, violation: Violation) {
        let (status, message) = match violation {
            Violation::TwoLengths => ("400 Bad Request", "the request has more than one length"),
            Violation::TooLarge => ("431 Request Header Fields Too Large", "the request header is too large"),
        };
        let body = format!("{{\"message\":\"{message}\"}}\n");
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer = [head.as_bytes(), body.as_bytes()].concat();
        let written = match (&mut self.tls, &self.peer.socket) {
            (Some(tls), _) => try_write_encrypted(tls, &answer),
            (None, Socket::Unix(stream)) => stream.try_write(&answer),
            (None, Socket::Tcp(stream)) => stream.try_write(&answer),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "cannot refuse a request");
        }
    }
}

/// Writes what can be written without waiting.
fn try_write_encrypted(tls: &mut TlsStream<TcpStream>, bytes: &[u8]) -> io::Result<usize> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut stream = Pin::new(tls);
    let Poll::Ready(written) = stream.as_mut().poll_write(&mut context, bytes) else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    match stream.poll_flush(&mut context) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) | Poll::Pending => written,
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return Pin::new(tls.as_mut()).poll_write(context, bytes);
        }
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return Pin::new(tls.as_mut()).poll_write_vectored(context, slices);
        }
        loop {
            let attempt = match &self.peer.socket {
                Socket::Unix(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_write_vectored(slices)
                }
                Socket::Tcp(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_write_vectored(slices)
                }
            };
            match attempt {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => Pin::new(tls.as_mut()).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return match ready!(Pin::new(tls.as_mut()).poll_shutdown(context)) {
                // The client was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
                done => Poll::Ready(done),
            };
        }
        let shut = match &self.peer.socket {
            Socket::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Socket::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
        match shut {
            // The client was quicker.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
