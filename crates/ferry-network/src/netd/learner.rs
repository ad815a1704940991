//! Telling the daemon what a watched name's addresses are before the container hears them, so that the firewall lets it reach them.
//!
//! A daemon that is away or slow keeps nobody from an answer: then the container may be refused what it was told of.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::netd::protocol::Learnt;

/// As long as a client waits for an answer, or a little less: most ask again after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// Answers that wait for the daemon.
const WAITING: usize = 256;
const STACK_BYTES: usize = 256 * 1024;

/// The connection to the daemon that listens.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    daemon: Mutex<Option<UnixStream>>,
}

/// An answer that goes out once the daemon knows.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) learnt: Learnt,
    pub(crate) reply: Vec<u8>,
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) client: SocketAddr,
}

impl Held {
    fn send(&self) {
        // A client that does not take its answer asks again.
        let _ = self.socket.send_to(&self.reply, self.client);
    }
}

impl Learner {
    /// Tells a daemon from now on, in the place of an earlier one.
    pub(crate) fn listen(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }

    /// Waits until the daemon has noted it, a moment at most.
    pub(crate) fn tell(&self, learnt: &Learnt) {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = daemon.as_mut()
            && exchange(stream, learnt).is_err()
        {
            // Its answer to this would be taken for one to the next.
            *daemon = None;
        }
    }

    /// Starts the thread that datagrams wait on: one after the other, and beside everything else.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<SyncSender<Held>> {
        let (sender, waiting) = sync_channel::<Held>(WAITING);
        let learner = Arc::clone(self);
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            for held in waiting {
                learner.tell(&held.learnt);
                held.send();
            }
        })?;
        Ok(sender)
    }
}

fn exchange(stream: &mut UnixStream, learnt: &Learnt) -> io::Result<()> {
    let mut line = serde_json::to_vec(learnt)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)
}
