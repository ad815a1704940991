//! The sessions of clients: connections over which we call them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferry_buildkit_proto::grpc::{Call, Channel, Metadata, Status};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_engine::ErrorKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::failure::{Failure, Result};

/// Time that a client has to open the session that it speaks of, as in BuildKit.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a session that travel at a time inside of a call.
const CARRIED: usize = 64 << 10;

/// The sessions that are open; cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: Mutex<HashMap<String, (u64, ClientSession)>>,
    opened: Notify,
    count: AtomicU64,
}

/// What a client says of a session.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Its id.
    pub id: String,
    /// What can be called, as `/package.Service/Method`.
    pub methods: Vec<String>,
    /// Tells the client's directories from those of others; empty when nothing does.
    pub shared_key: String,
}

impl Offer {
    /// Reads the headers in which clients say it.
    #[must_use]
    pub fn of_headers(headers: &Metadata) -> Self {
        let texts = |name: &str| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        Self {
            id: texts("x-docker-expose-session-uuid").into_iter().next().unwrap_or_default(),
            methods: texts("x-docker-expose-session-grpc-method"),
            shared_key: texts("x-docker-expose-session-sharedkey").into_iter().next().unwrap_or_default(),
        }
    }
}

/// A session that is open; cheap to clone.
#[derive(Clone)]
pub(super) struct ClientSession {
    pub(super) channel: Channel,
    methods: Arc<HashSet<String>>,
    pub(super) shared_key: Arc<str>,
}

impl ClientSession {
    /// Tells whether the client can be called so.
    pub(super) fn offers(&self, method: &str) -> bool {
        self.methods.contains(&method.to_lowercase())
    }
}

impl Sessions {
    /// Carries a session over a connection until the client ends it.
    ///
    /// # Errors
    /// InvalidArgument for a session without an id; Unavailable when the client does not speak HTTP/2.
    pub async fn carry<I>(&self, connection: I, offer: Offer) -> std::result::Result<(), Status>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (channel, carried) = Channel::connect(connection).await?;
        let methods = Arc::new(offer.methods.iter().map(|method| method.to_lowercase()).collect());
        let serial = self.0.count.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { sessions: self.clone(), id: offer.id, serial };
        let session = ClientSession { channel, methods, shared_key: offer.shared_key.into() };
        self.open().insert(entry.id.clone(), (serial, session));
        self.0.opened.notify_waiters();
        carried.await;
        drop(entry);
        Ok(())
    }

    /// Carries a session inside of a call, for clients that have no other connection.
    pub(super) async fn carry_in_call(&self, mut call: Call) -> std::result::Result<(), Status> {
        let offer = Offer::of_headers(&call.metadata);
        let (ours, theirs) = tokio::io::duplex(CARRIED);
        let (mut from, mut into) = tokio::io::split(theirs);
        let incoming = async {
            while let Some(piece) = call.requests.next::<BytesMessage>().await? {
                into.write_all(&piece.data).await.map_err(Status::unavailable)?;
            }
            Ok(())
        };
        let outgoing = async {
            let mut buffer = vec![0; CARRIED];
            loop {
                let read = from.read(&mut buffer).await.map_err(Status::unavailable)?;
                if read == 0 {
                    return Ok(());
                }
                call.replies.send(&BytesMessage { data: bytes::Bytes::copy_from_slice(&buffer[..read]) }).await?;
            }
        };
        tokio::select! {
            carried = self.carry(ours, offer) => carried,
            ended = incoming => ended,
            ended = outgoing => ended,
        }
    }

    /// Finds a session; waits a moment for one that is not open yet.
    pub(super) async fn find(&self, id: &str) -> Result<ClientSession> {
        let waiting = async {
            loop {
                let opened = self.0.opened.notified();
                tokio::pin!(opened);
                // Registered before the look, so that nothing is missed between.
                opened.as_mut().enable();
                let found = self.open().get(id).map(|(_, session)| session.clone());
                match found {
                    Some(session) => return session,
                    None => opened.await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.map_err(|_| {
            Failure::new(ErrorKind::NotFound, format!("no active session for {id}: context deadline exceeded"))
        })
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u64, ClientSession)>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open session; it closes with this.
struct Entry {
    sessions: Sessions,
    id: String,
    serial: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.sessions.open();
        // Another session may have taken the id over.
        if open.get(&self.id).is_some_and(|(serial, _)| *serial == self.serial) {
            open.remove(&self.id);
        }
    }
}
