//! One relayed TCP connection: bytes both ways, half-closed as its ends are.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

const BUFFER_BYTES: usize = 32 * 1024;
/// After so many reads and writes others have their turn.
const ROUNDS: usize = 32;

/// A client's connection and the one to the container.
#[derive(Debug)]
pub(crate) struct Relay {
    client: TcpStream,
    upstream: TcpStream,
    is_connected: bool,
    to_upstream: Pipe,
    to_client: Pipe,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do before the next event.
    Waiting,
    /// There is more to do at once.
    Unfinished,
    /// Both directions are at their end, or one of them failed.
    Over,
}

impl Relay {
    /// Begins to connect to the container.
    pub(crate) fn start(client: TcpStream, target: SocketAddr) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let upstream = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&upstream, &target) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        for end in [sockopt::set_socket_keepalive(&client, true), sockopt::set_socket_keepalive(&upstream, true)] {
            end?;
        }
        let pipes = (Pipe::default(), Pipe::default());
        Ok(Self { client, upstream: upstream.into(), is_connected: false, to_upstream: pipes.0, to_client: pipes.1 })
    }

    pub(crate) fn client(&self) -> &TcpStream {
        &self.client
    }

    pub(crate) fn upstream(&self) -> &TcpStream {
        &self.upstream
    }

    /// Moves what can be moved.
    pub(crate) fn turn(&mut self) -> Turn {
        self.try_turn().unwrap_or_else(|_| {
            // The client sees a reset, as it would have from the container itself.
            let _ = sockopt::set_socket_linger(&self.client, Some(std::time::Duration::ZERO));
            Turn::Over
        })
    }

    fn try_turn(&mut self) -> io::Result<Turn> {
        if !self.is_connected {
            if let Some(error) = self.upstream.take_error()? {
                return Err(error);
            }
            if self.upstream.peer_addr().is_err() {
                return Ok(Turn::Waiting);
            }
            self.is_connected = true;
        }
        let there = self.to_upstream.pump(&self.client, &self.upstream)?;
        let back = self.to_client.pump(&self.upstream, &self.client)?;
        Ok(match (there, back) {
            (Turn::Over, Turn::Over) => Turn::Over,
            (Turn::Unfinished, _) | (_, Turn::Unfinished) => Turn::Unfinished,
            _ => Turn::Waiting,
        })
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    buffer: Vec<u8>,
    written: usize,
    is_at_end: bool,
    is_shut: bool,
}

impl Pipe {
    fn pump(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<Turn> {
        for _ in 0..ROUNDS {
            if self.written < self.buffer.len() {
                match to.write(&self.buffer[self.written..]) {
                    Ok(length) => self.written += length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waiting),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            if self.is_at_end {
                if !self.is_shut {
                    self.is_shut = true;
                    match to.shutdown(Shutdown::Write) {
                        Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
                        _ => {}
                    }
                }
                return Ok(Turn::Over);
            }
            self.buffer.resize(BUFFER_BYTES, 0);
            self.written = 0;
            let read = from.read(&mut self.buffer);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(length) => self.is_at_end = length == 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Idle connections keep no buffer.
                    self.buffer = Vec::new();
                    return Ok(Turn::Waiting);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::Unfinished)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn bytes_go_both_ways_and_ends_are_passed_on() {
        let container = TcpListener::bind("127.0.0.1:0").expect("listen");
        let target = container.local_addr().expect("an address");
        let front = TcpListener::bind("127.0.0.1:0").expect("listen");
        let front_address = front.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = container.accept().expect("accept");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("the client's end arrives");
            bytes.reverse();
            stream.write_all(&bytes).expect("answered after it");
        });
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(front_address).expect("connect");
            let sent: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
            stream.write_all(&sent).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half closed");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            answer.reverse();
            assert!(answer == sent, "{} bytes came back of {}", answer.len(), sent.len());
        });
        let (accepted, _) = front.accept().expect("accept");
        let mut relay = Relay::start(accepted, target).expect("started");
        while relay.turn() != Turn::Over {
            thread::yield_now();
        }
        drop(relay);
        client.join().expect("client");
        server.join().expect("server");
    }

    #[test]
    fn a_client_of_a_container_that_does_not_listen_is_reset() {
        let closed = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("an address");
        let front = TcpListener::bind("127.0.0.1:0").expect("listen");
        let mut client = TcpStream::connect(front.local_addr().expect("an address")).expect("connect");
        let (accepted, _) = front.accept().expect("accept");
        let mut relay = Relay::start(accepted, closed).expect("started");
        while relay.turn() != Turn::Over {
            thread::yield_now();
        }
        drop(relay);
        let error = client.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
