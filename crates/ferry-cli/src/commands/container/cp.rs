//! `cp`

mod local;
mod paths;
mod progress;

use std::io::{self, Read, Write};

use bytes::Bytes;
use ferry_api::container::PathStat;
use ferry_client::{ByteStream, Client};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use tokio::sync::mpsc;

use self::local::{Failed, Renamed};
use self::paths::CopyInfo;
use self::progress::{Count, Line, summary};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::streams::signals;

/// Bits of Go's `os.FileMode`.
const FOLDER: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const IRREGULAR: u32 = 1 << 19;

/// Pieces of an archive that wait for a slow end.
const PIECES: usize = 16;
/// Bytes of one piece.
const PIECE: usize = 256 * 1024;

/// Runs `cp`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    if parsed.args[0].is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if parsed.args[1].is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    let (from, source) = paths::split_argument(&parsed.args[0]);
    let (to, target) = paths::split_argument(&parsed.args[1]);
    let copy = Copy {
        context,
        client: context.client().await?,
        follow: parsed.on("follow-link"),
        keep_owners: parsed.on("archive"),
        quiet: parsed.on_or("quiet", !stdout_is_terminal()),
    };
    let copying = async {
        match (from, to) {
            ("", "") => Err(Failure::new("must specify at least one container source")),
            (from, "") => copy.copy_out(from, source, target).await,
            ("", to) => copy.copy_in(source, to, target).await,
            (from, to) => copy.copy_between(from, source, to, target).await,
        }
    };
    // A copy that is let go of here takes its line off the terminal; a signal's own effect would leave the cursor hidden.
    tokio::select! {
        copied = copying => copied.map(|()| 0),
        code = signals::asked_to_end() => Ok(code),
    }
}

struct Copy<'a> {
    context: &'a Context,
    client: &'a Client,
    follow: bool,
    keep_owners: bool,
    quiet: bool,
}

impl Copy<'_> {
    /// From a container to here.
    async fn copy_out(&self, container: &str, source: &str, target: &str) -> Result<()> {
        let target = match target {
            "-" => "-".to_owned(),
            path => local::absolute(path).map_err(Failure::new)?,
        };
        local::check_output(&target).map_err(Failure::new)?;
        let (source, rebase) = self.followed(container, source).await;
        let (stat, mut archive) = self.client.container_read_archive(container, &source).await?;
        if target == "-" {
            while let Some(bytes) = archive.next().await? {
                self.context.printer.data(&bytes)?;
            }
            return Ok(());
        }
        let count = Count::default();
        let line = (!self.quiet).then(|| Line::begin("Copying from container - ", count.clone()));
        let info = CopyInfo { path: source, exists: true, is_dir: stat.mode & FOLDER != 0, rebase };
        let copied = unpack(archive, &info, &target, &count).await;
        drop(line);
        if !self.quiet {
            let content = if info.is_dir { count.get() } else { u64::try_from(stat.size).unwrap_or(0) };
            self.context.printer.note(&summary(content, count.get(), &target));
        }
        copied
    }

    /// With `-L` the file a link leads to, which goes by the link's name.
    async fn followed(&self, container: &str, source: &str) -> (String, String) {
        if !self.follow {
            return (source.to_owned(), String::new());
        }
        match self.client.container_stat_path(container, source).await {
            Ok(stat) if stat.mode & SYMLINK != 0 => paths::rebase_name(source, &link_target(source, &stat)),
            _ => (source.to_owned(), String::new()),
        }
    }

    /// From here to a container.
    async fn copy_in(&self, source: &str, container: &str, target: &str) -> Result<()> {
        let info = self.target_in(container, target).await?;
        if source == "-" {
            if !info.is_dir {
                return Err(Failure::new(format!("destination \"{container}:{target}\" must be a directory")));
            }
            let (sender, body) = channel();
            std::thread::spawn(move || {
                let mut sender = sender;
                // The body tells whoever reads it.
                if let Err(error) = io::copy(&mut io::stdin().lock(), &mut sender).and_then(|_| sender.flush()) {
                    sender.fail(error);
                }
            });
            return self.send(container, &info, &info.path, body, Count::default(), None).await;
        }
        let source = local::absolute(source).map_err(Failure::new)?;
        let from = local::source(&source, self.follow).map_err(Failure::new)?;
        let size = local::content_size(&from.path);
        if paths::has_trailing_separator(&from.path) && !from.is_dir {
            return Err(Failure::new(format!("lstat {}: not a directory", from.path)));
        }
        let (folder, renamed) = paths::prepare(&from, &info).map_err(Failure::new)?;
        let count = Count::default();
        let (sender, body) = channel();
        let mut counted = Counted { inner: sender, count: count.clone() };
        std::thread::spawn(move || {
            if let Err(error) = local::pack(&from, &renamed, &mut counted) {
                counted.inner.fail(error);
            }
        });
        self.send(container, &info, &folder, body, count, size).await
    }

    async fn send(
        &self,
        container: &str,
        info: &CopyInfo,
        folder: &str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        count: Count,
        size: Option<u64>,
    ) -> Result<()> {
        let line = (!self.quiet).then(|| Line::begin("Copying to container - ", count.clone()));
        let sent = self.client.container_write_archive(container, folder, true, self.keep_owners, body).await;
        drop(line);
        if !self.quiet {
            let target = format!("{container}:{}", info.path);
            self.context.printer.note(&summary(size.unwrap_or(count.get()), count.get(), &target));
        }
        Ok(sent?)
    }

    /// What a path in a container is to whoever copies to it.
    async fn target_in(&self, container: &str, target: &str) -> Result<CopyInfo> {
        let mut info = CopyInfo { path: target.to_owned(), ..CopyInfo::default() };
        let Ok(mut stat) = self.client.container_stat_path(container, target).await else { return Ok(info) };
        if stat.mode & SYMLINK != 0 {
            info.path = link_target(target, &stat);
            // The folder may still be there, and then the copy may succeed.
            match self.client.container_stat_path(container, &info.path).await {
                Ok(found) => stat = found,
                Err(_) => return Ok(info),
            }
        }
        let odd = match stat.mode {
            mode if mode & DEVICE != 0 => "got a device",
            mode if mode & IRREGULAR != 0 => "got an irregular file",
            _ => "",
        };
        if !odd.is_empty() {
            return Err(Failure::new(format!(
                "destination \"{container}:{target}\" must be a directory or a regular file: {odd}"
            )));
        }
        (info.exists, info.is_dir) = (true, stat.mode & FOLDER != 0);
        Ok(info)
    }

    /// From one container to another, by way of here.
    async fn copy_between(&self, from: &str, source: &str, to: &str, target: &str) -> Result<()> {
        let info = self.target_in(to, target).await?;
        let (source, rebase) = self.followed(from, source).await;
        let (stat, archive) = self.client.container_read_archive(from, &source).await?;
        let is_dir = stat.mode & FOLDER != 0;
        let source = CopyInfo { path: source, exists: true, is_dir, rebase };
        let (folder, renamed) = prepare(&source, &info)?;
        let count = Count::default();
        let (sender, body) = channel();
        let mut counted = Counted { inner: sender, count: count.clone() };
        let (reader, feeding) = reader(archive, Count::default());
        std::thread::spawn(move || {
            if let Err(Failed(message)) = local::carry(reader, &renamed, &mut counted) {
                counted.inner.fail(io::Error::other(message));
            }
        });
        let size = (!is_dir).then(|| u64::try_from(stat.size).unwrap_or(0));
        let (fed, sent) = tokio::join!(feeding, self.send(to, &info, &folder, body, count, size));
        sent?;
        fed
    }
}

/// Unpacks an archive out of a container in a folder of another one, its names changed.
pub(super) async fn carry_over(
    client: &Client,
    archive: ByteStream,
    renamed: Option<(String, String)>,
    container: &str,
    folder: &str,
) -> Result<()> {
    let (mut sender, body) = channel();
    let (reader, feeding) = reader(archive, Count::default());
    std::thread::spawn(move || {
        if let Err(Failed(message)) = local::carry(reader, &renamed, &mut sender) {
            sender.fail(io::Error::other(message));
        }
    });
    let (fed, sent) = tokio::join!(feeding, client.container_write_archive(container, folder, true, false, body));
    sent?;
    fed
}

/// Folder and change of names for an archive out of a container, whose first name is that of the path as it was asked for.
fn prepare(source: &CopyInfo, target: &CopyInfo) -> Result<(String, Renamed)> {
    let (folder, renamed) = paths::prepare(source, target).map_err(Failure::new)?;
    if source.rebase.is_empty() {
        return Ok((folder, renamed));
    }
    // The archive has the name of what the link leads to.
    let own = paths::split_entry(&source.path).1;
    let to = renamed.map_or_else(|| source.rebase.clone(), |(_, to)| to);
    Ok((folder, Some((own, to))))
}

fn link_target(path: &str, stat: &PathStat) -> String {
    match stat.link_target.as_str() {
        target if target.starts_with('/') => target.to_owned(),
        target => paths::join(&paths::split_entry(path).0, target),
    }
}

async fn unpack(archive: ByteStream, source: &CopyInfo, target: &str, count: &Count) -> Result<()> {
    let target = local::target(target).map_err(Failure::new)?;
    let (folder, renamed) = prepare(source, &target)?;
    let (reader, feeding) = reader(archive, count.clone());
    let unpacking = tokio::task::spawn_blocking(move || local::unpack(reader, &folder, &renamed));
    let (fed, unpacked) = tokio::join!(feeding, unpacking);
    match unpacked {
        Ok(Ok(())) => fed,
        Ok(Err(Failed(message))) => Err(Failure::new(message)),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// An archive that arrives, as a reader for another thread, and what feeds that.
fn reader(mut archive: ByteStream, count: Count) -> (Received, impl Future<Output = Result<()>>) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let feeding = async move {
        while let Some(bytes) = archive.next().await? {
            count.add(bytes.len());
            // A reader that has all it wants does not stop the count.
            if sender.send(bytes).await.is_err() {
                while let Some(bytes) = archive.next().await? {
                    count.add(bytes.len());
                }
            }
        }
        Ok(())
    };
    (Received { pieces, current: Bytes::new() }, feeding)
}

struct Received {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// The content of a folder as an archive.
pub(in crate::commands) fn archive_of(
    folder: &str,
    compressed: bool,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (mut sender, body) = channel();
    let source = CopyInfo { path: folder.to_owned(), exists: true, is_dir: true, rebase: ".".to_owned() };
    std::thread::spawn(move || {
        let packed = if compressed {
            let mut gzip = GzEncoder::new(&mut sender, Compression::default());
            local::pack(&source, &None, &mut gzip).and_then(|()| gzip.finish().map(drop))
        } else {
            local::pack(&source, &None, &mut sender)
        };
        if let Err(error) = packed.and_then(|()| sender.flush()) {
            sender.fail(error);
        }
    });
    body
}

/// A writer for another thread whose bytes become a request's body.
struct Sender {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

fn channel() -> (Sender, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let body = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (Sender { pieces: sender, gathered: Vec::with_capacity(PIECE) }, body)
}

impl Sender {
    fn fail(&mut self, error: io::Error) {
        // Nobody listens any more when the request has ended.
        let _ = self.pieces.blocking_send(Err(error));
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Counts what is written through it.
struct Counted<W> {
    inner: W,
    count: Count,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count.add(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
