//! Relayed datagrams: one connected socket for each client of a held port.
//!
//! An answer leaves from the held socket. Where that is bound to every address, the kernel chooses
//! the source by its routes: right for `::1`, and for hosts with one IPv6 address.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// A client that has been silent for so long is forgotten; as in Docker.
const SILENCE: Duration = Duration::from_secs(90);
const CLIENTS: usize = 1024;
/// After so many datagrams others have their turn.
const ROUNDS: usize = 64;
const DATAGRAM_BYTES: usize = 65_535;

/// A held UDP port with its clients.
#[derive(Debug)]
pub(crate) struct UdpPort {
    socket: UdpSocket,
    target: SocketAddr,
    clients: HashMap<SocketAddr, Client>,
}

#[derive(Debug)]
struct Client {
    socket: UdpSocket,
    token: u64,
    last_used: Instant,
}

impl UdpPort {
    pub(crate) fn new(socket: UdpSocket, target: SocketAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, target, clients: HashMap::new() })
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Passes on what clients sent. `register` is told of each new socket and gives it a token.
    pub(crate) fn pass_to_container(
        &mut self,
        buffer: &mut Vec<u8>,
        mut register: impl FnMut(&UdpSocket, SocketAddr) -> io::Result<u64>,
    ) {
        buffer.resize(DATAGRAM_BYTES, 0);
        for _ in 0..ROUNDS {
            let Ok((length, from)) = self.socket.recv_from(buffer) else { return };
            if let Some(client) = self.client(from, &mut register) {
                client.last_used = Instant::now();
                // A datagram that cannot be passed on is lost, as on any wire.
                let _ = client.socket.send(&buffer[..length]);
            }
        }
    }

    /// Passes on what the container answered to a client.
    pub(crate) fn pass_to_client(&mut self, buffer: &mut Vec<u8>, to: SocketAddr) {
        buffer.resize(DATAGRAM_BYTES, 0);
        let Some(client) = self.clients.get_mut(&to) else { return };
        for _ in 0..ROUNDS {
            match client.socket.recv(buffer) {
                Ok(length) => {
                    client.last_used = Instant::now();
                    let _ = self.socket.send_to(&buffer[..length], to);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A refusal by ICMP: the next datagram may find a listener.
                Err(_) => {}
            }
        }
    }

    /// Forgets silent clients and returns their tokens.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<u64> {
        let mut tokens = Vec::new();
        self.clients.retain(|_, client| {
            let is_fresh = now.saturating_duration_since(client.last_used) < SILENCE;
            if !is_fresh {
                tokens.push(client.token);
            }
            is_fresh
        });
        tokens
    }

    /// Returns the tokens of all clients.
    pub(crate) fn tokens(&self) -> Vec<u64> {
        self.clients.values().map(|client| client.token).collect()
    }

    fn client(
        &mut self,
        from: SocketAddr,
        register: &mut impl FnMut(&UdpSocket, SocketAddr) -> io::Result<u64>,
    ) -> Option<&mut Client> {
        if !self.clients.contains_key(&from) {
            if self.clients.len() >= CLIENTS {
                return None;
            }
            let socket = self.connected_socket().ok()?;
            let token = register(&socket, from).ok()?;
            self.clients.insert(from, Client { socket, token, last_used: Instant::now() });
        }
        self.clients.get_mut(&from)
    }

    fn connected_socket(&self) -> io::Result<UdpSocket> {
        let socket = match self.target {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        socket.set_nonblocking(true)?;
        socket.connect(self.target)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_own_answers() {
        let local = || UdpSocket::bind("127.0.0.1:0").expect("bind");
        let (container, held, one, two) = (local(), local(), local(), local());
        let held_address = held.local_addr().expect("an address");
        let mut port = UdpPort::new(held, container.local_addr().expect("an address")).expect("a port");
        one.send_to(b"one", held_address).expect("sent");
        two.send_to(b"two", held_address).expect("sent");
        let (mut buffer, mut registered) = (Vec::new(), Vec::new());
        while registered.len() < 2 {
            port.pass_to_container(&mut buffer, |_, from| {
                registered.push(from);
                Ok(registered.len() as u64)
            });
        }
        let mut bytes = [0; 16];
        for _ in 0..2 {
            let (length, from) = container.recv_from(&mut bytes).expect("arrived");
            container.send_to(&bytes[..length].to_ascii_uppercase(), from).expect("answered");
        }
        for client in registered {
            port.pass_to_client(&mut buffer, client);
        }
        for (client, answer) in [(one, b"ONE"), (two, b"TWO")] {
            let (length, from) = client.recv_from(&mut bytes).expect("an answer");
            assert_eq!((&bytes[..length], from), (answer.as_slice(), held_address));
        }
        assert!(port.expire(Instant::now()).is_empty());
        assert_eq!(port.expire(Instant::now() + SILENCE).len(), 2);
        assert!(port.tokens().is_empty());
    }
}
