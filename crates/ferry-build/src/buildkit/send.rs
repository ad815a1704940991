//! What was built, on its way to the client: as files into a directory of its own, or as one stream of bytes.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Metadata, Replies, Sender, Status};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_buildkit_proto::messages::transfer::{Packet, PacketType, Stat, mode};
use ferry_engine::workshop::Workshop;
use ferry_sys::tree::Found;
use http::HeaderValue;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::sync::mpsc;

use super::sessions::ClientSession;
use crate::content::each_of_built;
use crate::failure::{Doing, Failure, Result};
use crate::files;
use crate::tree::{OpenTree, Tree};

const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
const EXPORTER_ID: &str = "buildkit-attachable-exporter-id";

/// Bytes of one piece.
const PIECE: usize = 64 * 1024;
/// What a sender says when the other end has left.
const NOBODY_LISTENS: &str = "context canceled";
/// Questions that wait while the tree is walked.
const QUEUE: usize = 64;

fn begin(session: &ClientSession, exporter: usize) -> Result<(Sender, Replies)> {
    if !session.offers(DIFF_COPY) {
        return Err(Failure::invalid(format!("method {DIFF_COPY} not supported by the client")));
    }
    let mut metadata = Metadata::new();
    metadata.insert(EXPORTER_ID, HeaderValue::from(exporter));
    Ok(session.channel.stream(DIFF_COPY, metadata))
}

/// Sends pieces as they are made to the file that the client keeps for an exporter; returns how many bytes there were.
pub(super) async fn bytes(session: &ClientSession, exporter: usize, mut pieces: mpsc::Receiver<Bytes>) -> Result<u64> {
    let (sender, mut replies) = begin(session, exporter)?;
    let mut sent = 0;
    let sending = async {
        while let Some(data) = pieces.recv().await {
            sent += data.len() as u64;
            if sender.send(&BytesMessage { data }).await.is_err() {
                break;
            }
        }
        drop(sender);
        // For as long as it is written nothing is said; and why nobody takes any more is told by the end of the call.
        std::future::pending::<()>().await;
    };
    let ended = rest_of(&mut replies);
    tokio::select! {
        biased;
        ended = ended => ended?,
        () = sending => {}
    }
    Ok(sent)
}

/// Waits for the end of a call, which says why it failed, if it did.
async fn rest_of(replies: &mut Replies) -> std::result::Result<(), Status> {
    while replies.next::<()>().await?.is_some() {}
    Ok(())
}

/// Sends trees into the directory that the client keeps for an exporter, each below its own name, with one time for all files where there
/// is one; returns how many bytes there were.
pub(super) async fn trees(
    session: &ClientSession,
    exporter: usize,
    mut trees: Vec<(String, Tree, Option<i64>)>,
    workshop: &Workshop,
) -> Result<u64> {
    let (sender, mut replies) = begin(session, exporter)?;
    // In the order in which the client expects them.
    trees.sort_by(|one, other| one.0.cmp(&other.0));
    let workshop = workshop.clone();
    let (questions, asked) = mpsc::channel(QUEUE);
    let working = tokio::task::spawn_blocking(move || {
        let opened = trees.into_iter().map(|(below, tree, epoch)| Ok((below, tree.open(&workshop)?, epoch)));
        let opened: Vec<(String, OpenTree, Option<i64>)> = opened.collect::<Result<_>>()?;
        Teller { sender, trees: &opened, entries: Vec::new(), sent: 0 }.run(asked)
    });
    let carried = loop {
        match replies.next::<Packet>().await {
            Ok(Some(packet)) => {
                if questions.send(packet).await.is_err() {
                    break Ok(true);
                }
            }
            Ok(None) => break Ok(false),
            Err(status) => break Err(status),
        }
    };
    drop(questions);
    let sent = working.await.unwrap_or_else(|error| Err(Failure::internal(format!("a transfer panicked: {error}"))));
    if carried? && sent.as_ref().is_err_and(|failure| failure.message == NOBODY_LISTENS) {
        // Why is told by the end of the call.
        rest_of(&mut replies).await?;
    }
    sent
}

/// The end that tells. Runs on a thread of its own.
struct Teller<'a> {
    sender: Sender,
    trees: &'a [(String, OpenTree, Option<i64>)],
    /// What each number stands for: a tree, and a regular file in it.
    entries: Vec<Option<(usize, Vec<u8>)>>,
    sent: u64,
}

impl Teller<'_> {
    fn run(mut self, mut asked: mpsc::Receiver<Packet>) -> Result<u64> {
        for index in 0..self.trees.len() {
            self.tell_tree(index)?;
        }
        self.sender.send_blocking(&Packet::of(PacketType::Stat))?;
        while let Some(packet) = asked.blocking_recv() {
            match PacketType::try_from(packet.kind) {
                Ok(PacketType::Req) => self.content(packet.id)?,
                Ok(PacketType::Fin) => {
                    self.sender.send_blocking(&Packet::of(PacketType::Fin))?;
                    return Ok(self.sent);
                }
                Ok(PacketType::Err) => {
                    let text = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Failure::invalid(format!("error from receiver: {text}")));
                }
                _ => return Err(Failure::invalid("unexpected packet in a transfer of files")),
            }
        }
        Err(Failure::internal("the client ended the transfer of files early"))
    }

    fn tell_tree(&mut self, index: usize) -> Result<()> {
        let (below, tree, epoch) = &self.trees[index];
        let mod_time = epoch.map(|seconds| seconds.saturating_mul(1_000_000_000));
        if !below.is_empty() {
            let stat = Stat {
                path: below.clone(),
                mode: mode::DIRECTORY | 0o755,
                mod_time: mod_time.unwrap_or_default(),
                ..Stat::default()
            };
            self.tell(stat, None)?;
        }
        each_of_built(tree.as_fd(), |found| {
            let file = (found.kind.is_file() && found.same_as.is_none()).then(|| (index, found.path.clone()));
            let mut stat = stat_of(below, found);
            stat.mod_time = mod_time.unwrap_or(stat.mod_time);
            self.tell(stat, file)
        })
    }

    fn tell(&mut self, stat: Stat, file: Option<(usize, Vec<u8>)>) -> Result<()> {
        self.entries.push(file);
        Ok(self.sender.send_blocking(&Packet { stat: Some(stat), ..Packet::of(PacketType::Stat) })?)
    }

    fn content(&mut self, id: u32) -> Result<()> {
        let entry = self.entries.get(id as usize).and_then(Option::as_ref);
        let (index, path) = entry.ok_or_else(|| Failure::invalid(format!("invalid file id {id}")))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let root = files::open_folder(self.trees[*index].1.as_fd())?;
        let opened = ferry_sys::path::resolve_in_root(root.as_fd(), &path[..], flags, Mode::empty());
        let mut file = File::from(opened.doing("cannot read what was built")?);
        let mut buffer = vec![0; PIECE];
        loop {
            let read = file.read(&mut buffer).doing("cannot read what was built")?;
            let data = Bytes::copy_from_slice(&buffer[..read]);
            self.sender.send_blocking(&Packet { id, data, ..Packet::of(PacketType::Data) })?;
            self.sent += read as u64;
            if read == 0 {
                return Ok(());
            }
        }
    }
}

fn stat_of(below: &str, found: Found) -> Stat {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let under = |path: &[u8]| match below {
        "" => text(path),
        below => format!("{below}/{}", text(path)),
    };
    let kind = match found.kind {
        FileType::Directory => mode::DIRECTORY,
        FileType::Symlink => mode::SYMLINK,
        FileType::CharacterDevice => mode::DEVICE | mode::CHAR_DEVICE,
        FileType::BlockDevice => mode::DEVICE,
        FileType::Fifo => mode::NAMED_PIPE,
        _ => 0,
    };
    let (seconds, nanoseconds) = found.looks.mtime;
    Stat {
        path: under(&found.path),
        mode: kind | mode::of_permissions(found.looks.mode),
        uid: found.looks.uid,
        gid: found.looks.gid,
        size: if found.same_as.is_some() { 0 } else { i64::try_from(found.size).unwrap_or(i64::MAX) },
        mod_time: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into()),
        linkname: found.same_as.as_deref().map_or_else(|| text(&found.link), under),
        devmajor: found.device.0.into(),
        devminor: found.device.1.into(),
        xattrs: found.looks.xattrs.into_iter().map(|(name, value)| (text(&name), value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ferry_buildkit_proto::grpc::{Call, Service, serve};
    use futures_util::future::BoxFuture;

    use super::super::sessions::{Offer, Sessions};
    use super::*;

    /// A client that takes one piece, and fails.
    struct Full;

    impl Service for Full {
        fn call(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, std::result::Result<(), Status>> {
            Box::pin(async move {
                call.requests.next::<BytesMessage>().await?;
                Err(Status::failed("no space left"))
            })
        }
    }

    #[tokio::test]
    async fn why_nobody_takes_any_more_is_told() {
        for _ in 0..100 {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let _serving = tokio::spawn(serve(theirs, Arc::new(Full)));
            let sessions = Sessions::default();
            let offer = Offer { id: "one".to_owned(), methods: vec![DIFF_COPY.to_owned()], ..Offer::default() };
            let carrying = tokio::spawn({
                let sessions = sessions.clone();
                async move { sessions.carry(ours, offer).await }
            });
            let session = sessions.find("one").await.unwrap();
            let (piece, pieces) = mpsc::channel(1);
            let writing = tokio::spawn(async move { while piece.send(Bytes::from(vec![7; 4096])).await.is_ok() {} });
            assert_eq!(bytes(&session, 0, pieces).await.unwrap_err().message, "no space left");
            writing.await.unwrap();
            carrying.abort();
        }
    }
}
