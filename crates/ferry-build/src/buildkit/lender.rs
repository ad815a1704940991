//! What a client lends over its session.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Code, Metadata, Replies, Sender};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_buildkit_proto::messages::session::{
    CheckAgentRequest, CheckAgentResponse, CredentialsRequest, CredentialsResponse, GetSecretRequest, GetSecretResponse,
};
use ferry_engine::images::Credentials;
use ferry_engine::workshop::Workshop;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::content::ContentStore;
use super::files::header;
use super::receive;
use super::sessions::{ClientSession, Sessions};
use crate::contexts::Contexts;
use crate::failure::{Doing, Failure, Result};
use crate::graph::{LocalDiffer, LocalSource};
use crate::progress::Begun;
use crate::session::{Lender, Pieces};
use crate::tree::Folder;

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const PULL: &str = "/moby.upload.v1.Upload/Pull";

/// Bytes of one piece.
const PIECE: usize = 32 * 1024;
/// Pieces that wait for whoever takes them.
const QUEUE: usize = 8;

/// A client, by its sessions.
pub(super) struct Client {
    pub(super) sessions: Sessions,
    /// The session of the build.
    pub(super) session: String,
    /// Sessions of single directories, by their names.
    pub(super) of_folders: BTreeMap<String, String>,
    pub(super) workshop: Workshop,
    /// Directories as they came last.
    pub(super) contexts: Contexts,
}

impl Client {
    async fn own(&self) -> Result<ClientSession> {
        self.sessions.find(&self.session).await
    }

    async fn carry_agent(&self, id: &str, stream: UnixStream) -> Result<()> {
        let session = self.own().await?;
        let mut metadata = Metadata::new();
        header(&mut metadata, "buildkit.ssh.id", [id]);
        let (sender, replies) = session.channel.stream(FORWARD_AGENT, metadata);
        let (from, into) = stream.into_split();
        let (sent, received) = tokio::join!(to_client(from, sender), from_client(into, replies));
        sent.and(received)
    }
}

async fn to_client(mut from: tokio::net::unix::OwnedReadHalf, sender: Sender) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await.doing("cannot read from a step's SSH socket")?;
        if read == 0 {
            return Ok(());
        }
        sender.send(&BytesMessage { data: bytes::Bytes::copy_from_slice(&buffer[..read]) }).await?;
    }
}

async fn from_client(mut into: tokio::net::unix::OwnedWriteHalf, mut replies: Replies) -> Result<()> {
    while let Some(piece) = replies.next::<BytesMessage>().await? {
        into.write_all(&piece.data).await.doing("cannot write to a step's SSH socket")?;
    }
    Ok(())
}

/// What a directory is known by for later transfers; `None` for single files, and where the client does not tell it from others.
fn kept_under(shared_key: &str, source: &LocalSource) -> Option<String> {
    let is_kept =
        !shared_key.is_empty() && source.include_patterns.is_empty() && source.differ == LocalDiffer::Metadata;
    is_kept.then(|| format!("{shared_key}/{}/{}", source.name, source.shared_key_hint))
}

impl Lender for Client {
    fn files<'a>(&'a self, source: &'a LocalSource, begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>> {
        Box::pin(async move {
            let id = self.of_folders.get(&source.name).unwrap_or(&self.session);
            let session = self.sessions.find(id).await?;
            let key = kept_under(&session.shared_key, source);
            let before = key.as_ref().and_then(|key| self.contexts.last(key));
            let folder = receive::folder(&session, source, &self.workshop, before, begun).await?;
            let folder = Arc::new(folder);
            if let Some(key) = key {
                self.contexts.keep(&key, &source.name, &folder);
            }
            Ok(Some(folder))
        })
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            let session = self.own().await?;
            if !session.offers(GET_SECRET) {
                return Ok(None);
            }
            let asked = session.channel.unary(GET_SECRET, &GetSecretRequest { id: id.to_owned() }).await;
            match asked {
                Ok(GetSecretResponse { data }) => Ok(Some(data)),
                Err(status) if matches!(status.code, Code::NotFound | Code::Unimplemented) => Ok(None),
                Err(status) => Err(status.into()),
            }
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let session = self.own().await?;
            if !session.offers(CHECK_AGENT) {
                return Ok(false);
            }
            let request = CheckAgentRequest { id: id.to_owned() };
            match session.channel.unary::<CheckAgentResponse>(CHECK_AGENT, &request).await {
                Ok(_) => Ok(true),
                // The client words an agent that it does not have in its own way.
                Err(status) if status.code != Code::Unavailable => Ok(false),
                Err(status) => Err(status.into()),
            }
        })
    }

    fn lends_agents(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.own().await?.offers(CHECK_AGENT)) })
    }

    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.carry_agent(id, stream))
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        Box::pin(async move {
            let session = self.own().await?;
            if !session.offers(CREDENTIALS) {
                return Ok(None);
            }
            // Clients know Docker's registry by the host that serves it.
            let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
            let request = CredentialsRequest { host: host.to_owned() };
            let CredentialsResponse { username, secret } = session.channel.unary(CREDENTIALS, &request).await?;
            Ok(match (username.is_empty(), secret.is_empty()) {
                (true, true) => None,
                (true, false) => Some(Credentials { identity_token: secret, ..Credentials::default() }),
                (false, _) => Some(Credentials { username, password: secret, ..Credentials::default() }),
            })
        })
    }

    fn upload<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Pieces>>> {
        Box::pin(async move {
            let session = self.own().await?;
            if !session.offers(PULL) {
                return Ok(None);
            }
            let mut metadata = Metadata::new();
            header(&mut metadata, "urlpath", [format!("/{path}").as_str()]);
            header(&mut metadata, "urlhost", ["buildkit-session"]);
            let (sender, mut replies) = session.channel.stream(PULL, metadata);
            let (into, pieces) = tokio::sync::mpsc::channel(QUEUE);
            tokio::spawn(async move {
                // Open until all has come: the client takes its end for a cancellation.
                let _open = sender;
                loop {
                    let piece = match replies.next::<BytesMessage>().await {
                        Ok(Some(piece)) => Ok(piece.data),
                        Ok(None) => return,
                        Err(status) => Err(Failure::from(status)),
                    };
                    let is_last = piece.is_err();
                    if into.send(piece).await.is_err() || is_last {
                        return;
                    }
                }
            });
            Ok(Some(pieces))
        })
    }

    fn content<'a>(&'a self, store: &'a str) -> BoxFuture<'a, Result<Option<ContentStore>>> {
        Box::pin(async move { Ok(ContentStore::of(&self.own().await?, store)) })
    }

    fn tells_transfers(&self) -> bool {
        true
    }
}
