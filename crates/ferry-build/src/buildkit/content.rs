//! Stores of blobs that a client offers over its session: directories in the form of OCI layouts.

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Channel, Code, Metadata, Replies, Sender, Status};
use ferry_buildkit_proto::messages::content::{
    INFO, InfoRequest, InfoResponse, READ, ReadContentRequest, ReadContentResponse, STORE, WRITE, WriteAction,
    WriteContentRequest, WriteContentResponse,
};
use ferry_spec::digest::Digest;
use tokio::sync::mpsc;

use super::files::header;
use super::sessions::ClientSession;
use crate::failure::{Failure, Result};

/// A store; cheap to clone.
#[derive(Clone)]
pub struct ContentStore {
    channel: Channel,
    id: String,
}

impl ContentStore {
    /// The store of a name; `None` when the client offers none at all.
    pub(super) fn of(session: &ClientSession, id: &str) -> Option<Self> {
        session.offers(READ).then(|| Self { channel: session.channel.clone(), id: id.to_owned() })
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        header(&mut metadata, STORE, [self.id.as_str()]);
        metadata
    }

    /// How many bytes a blob has.
    pub(crate) async fn size(&self, digest: &Digest) -> Result<u64> {
        let request = InfoRequest { digest: digest.to_string() };
        let answer: InfoResponse = self.channel.unary_with(INFO, self.metadata(), &request).await?;
        let size = answer.info.unwrap_or_default().size;
        u64::try_from(size).map_err(|_| Failure::invalid(format!("blob {digest} has no size")))
    }

    /// Starts reading a blob.
    pub(crate) fn read(&self, digest: &Digest) -> Incoming {
        let (sender, replies) = self.channel.stream(READ, self.metadata());
        let request = ReadContentRequest { digest: digest.to_string(), ..ReadContentRequest::default() };
        Incoming { asked: Some((sender, request)), replies }
    }

    /// Reads a blob whose size is known.
    pub(crate) async fn read_all(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        let mut reading = self.read(digest);
        let mut bytes = Vec::new();
        while let Some(piece) = reading.next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > size {
                return Err(Failure::invalid(format!("blob {digest} has more than its {size} bytes")));
            }
        }
        Ok(bytes)
    }

    /// Writes a blob, unless it is there.
    pub(crate) async fn write(&self, digest: &Digest, size: u64, mut pieces: mpsc::Receiver<Bytes>) -> Result<()> {
        let (sender, replies) = self.channel.stream(WRITE, self.metadata());
        let mut talk = Talk { sender, replies };
        let total = i64::try_from(size).unwrap_or(i64::MAX);
        let begin = WriteContentRequest {
            action: WriteAction::Stat.into(),
            reference: format!("ferry-{digest}"),
            total,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        match talk.say(&begin).await {
            Err(status) if status.code == Code::AlreadyExists => return Ok(()),
            begun => begun?,
        };
        let mut offset = 0;
        while let Some(data) = pieces.recv().await {
            let length = i64::try_from(data.len()).unwrap_or_default();
            let write = WriteContentRequest {
                action: WriteAction::Write.into(),
                offset,
                data,
                ..WriteContentRequest::default()
            };
            talk.say(&write).await?;
            offset += length;
        }
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total,
            offset,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        match talk.say(&commit).await {
            Err(status) if status.code == Code::AlreadyExists => Ok(()),
            committed => Ok(committed.map(drop)?),
        }
    }
}

/// A write: each message is answered before the next.
struct Talk {
    sender: Sender,
    replies: Replies,
}

impl Talk {
    async fn say(&mut self, message: &WriteContentRequest) -> std::result::Result<WriteContentResponse, Status> {
        if self.sender.send(message).await.is_err() {
            // How the call ended says why nobody listens.
            while self.replies.next::<WriteContentResponse>().await?.is_some() {}
        }
        let answer = self.replies.next().await?;
        answer.ok_or_else(|| Status::new(Code::Internal, "the client ended a write of content early"))
    }
}

/// A blob on its way here.
pub(crate) struct Incoming {
    asked: Option<(Sender, ReadContentRequest)>,
    replies: Replies,
}

impl Incoming {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some((sender, request)) = self.asked.take() {
            sender.send(&request).await?;
        }
        Ok(self.replies.next::<ReadContentResponse>().await?.map(|piece| piece.data))
    }
}
