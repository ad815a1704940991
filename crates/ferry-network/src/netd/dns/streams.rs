//! Queries over TCP: after a cut datagram, or from clients that trust datagrams with nothing.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{lock, message, message::Answer, servers::Servers, zones::Zones};
use crate::{netd::learner::Learner, types::ResolverSpec};

const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 256 * 1024;
/// A client may ask so often over one connection.
const QUERIES: usize = 100;

/// The connections that are served.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    served: Arc<AtomicUsize>,
}

impl Streams {
    /// Serves a connection on a thread of its own; one too many is closed.
    pub(crate) fn serve(
        &self,
        stream: TcpStream,
        spec: Arc<ResolverSpec>,
        zones: Arc<Mutex<Zones>>,
        servers: Arc<Mutex<Servers>>,
        learner: Arc<Learner>,
    ) {
        let served = Arc::clone(&self.served);
        if served.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            served.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let counted = Arc::clone(&served);
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // A client that breaks off or is slow has nothing to be told.
            let _ = serve(stream, &spec, &zones, &servers, &learner);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            served.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(
    mut client: TcpStream,
    spec: &ResolverSpec,
    zones: &Mutex<Zones>,
    servers: &Mutex<Servers>,
    learner: &Learner,
) -> io::Result<()> {
    client.set_nonblocking(false)?;
    patient(&client)?;
    for _ in 0..QUERIES {
        let query = read_message(&mut client)?;
        let Some(question) = message::question(&query) else { return Ok(()) };
        let known = lock(zones).answer(spec, &question);
        let reply = match known {
            Some(answer) => message::reply(&query, &question, &answer, false),
            None => {
                let servers = lock(servers).of(spec, &question.name);
                let reply = servers
                    .into_iter()
                    .find_map(|server| ask(server, &query).ok())
                    .unwrap_or_else(|| message::reply(&query, &question, &Answer::Failure, false));
                if let Some(learnt) = super::learnt(spec, &query, &reply) {
                    learner.tell(&learnt);
                }
                reply
            }
        };
        write_message(&mut client, &reply)?;
    }
    Ok(())
}

fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    patient(&stream)?;
    write_message(&mut stream, query)?;
    let reply = read_message(&mut stream)?;
    if message::answers(&reply, query) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
