//! The context on its way to the daemon: a list of what the client's directories hold, and then the content of what the daemon wants of it.
//!
//! Files are looked at, and read, by a thread of their own while they are sent. Owners stay at home, times and modes travel.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ferry_api::context::{END, Listed, ListedKind};
use ferry_dockerfile::ignore::{ParentMatches, Patterns};
use ferry_spec::digest::Digest;
use futures_util::Stream;
use tokio::sync::mpsc;

/// Bytes sent at a time.
const CHUNK: usize = 256 * 1024;

/// A file that was changed so shortly ago may be changed again without looking different, where times are those of the kernel's clock.
const SETTLED: Duration = Duration::from_millis(100);
/// The same where times are whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(3);

/// Pairs of a place in the list and a count.
pub(super) type Wanted = Vec<(usize, usize)>;

/// One thing that travels.
pub(super) enum Part {
    /// A directory, but for what is ignored.
    Folder { name: String, path: PathBuf, ignored: Patterns },
    /// A directory with nothing in it.
    Empty(String),
    /// Files in a directory of their own.
    Files { name: String, files: Vec<(String, Source)> },
}

/// Where a file comes from.
pub(super) enum Source {
    /// These are its bytes.
    Bytes(Vec<u8>),
    /// A file of the client's.
    File(PathBuf),
}

/// A name for the directories, the same for every build of them.
pub(super) fn key(parts: &[Part]) -> String {
    let mut text = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    text.push_str(&rustix::process::getuid().as_raw().to_string());
    for part in parts {
        let (name, path) = match part {
            Part::Folder { name, path, .. } => (name, path.canonicalize().unwrap_or_else(|_| path.clone())),
            Part::Empty(name) | Part::Files { name, .. } => (name, PathBuf::new()),
        };
        text.push_str(&format!("\n{name}={}", path.display()));
    }
    Digest::sha256(text.as_bytes()).hex().to_owned()
}

/// Sends the list of the parts, and then what `wanted` says, time and again until that is nothing. Why that broke off is left in `reason`, since the daemon does not know.
pub(super) fn stream(
    parts: Vec<Part>,
    wanted: Receiver<Wanted>,
    reason: Arc<OnceLock<String>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let out = Out { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
        if let Err(error) = send(&parts, &wanted, out)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let _ = reason.set(error.to_string());
            // Whoever sends stops at an error, and so tells the daemon.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

fn send(parts: &[Part], wanted: &Receiver<Wanted>, out: Out) -> io::Result<()> {
    let mut list =
        List { out, sources: Vec::new(), linked: HashMap::new(), waiting: Vec::new(), now: SystemTime::now() };
    parts.iter().try_for_each(|part| list.part(part))?;
    list.out.put(&END.to_le_bytes())?;
    list.out.flush()?;
    // Nobody answers when the daemon has refused, or the build has failed.
    while let Ok(wanted) = wanted.recv()
        && !wanted.is_empty()
    {
        list.send(&wanted)?;
    }
    Ok(())
}

/// Pieces on their way.
struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Sends as many bytes of a file as it was told to have.
    fn file(&mut self, mut file: File, path: &Path, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let begun = self.buffer.len();
            let wanted = (CHUNK - begun).min(usize::try_from(left).unwrap_or(usize::MAX));
            self.buffer.resize(begun + wanted, 0);
            let read = match file.read(&mut self.buffer[begun..]) {
                // It has become shorter: what was announced must come.
                Ok(0) => wanted,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(named(path, error)),
            };
            self.buffer.truncate(begun + read);
            left -= read as u64;
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The list in the making.
struct List {
    out: Out,
    /// Where the content of each entry comes from.
    sources: Vec<Option<Source>>,
    /// Where files with several names went, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Ignored directories above, which go along with the first thing in them that is not.
    waiting: Vec<Listed>,
    now: SystemTime,
}

impl List {
    fn part(&mut self, part: &Part) -> io::Result<()> {
        match part {
            Part::Folder { name, path, ignored } => {
                self.add(top(name), None)?;
                self.folder(path, name.as_bytes(), "", ignored, &ParentMatches::default())
            }
            Part::Empty(name) => self.add(top(name), None),
            Part::Files { name, files } => {
                self.add(top(name), None)?;
                files.iter().try_for_each(|(file, source)| self.own_file(format!("{name}/{file}"), source))
            }
        }
    }

    fn own_file(&mut self, path: String, source: &Source) -> io::Result<()> {
        match source {
            Source::Bytes(bytes) => {
                let listed = Listed { path: path.into_bytes(), ..given(bytes) };
                self.add(listed, Some(Source::Bytes(bytes.clone())))
            }
            Source::File(from) => {
                let metadata = fs::metadata(from).map_err(|error| named(from, error))?;
                self.regular(from, path.into_bytes(), &metadata)
            }
        }
    }

    fn folder(
        &mut self,
        path: &Path,
        told: &[u8],
        below: &str,
        ignored: &Patterns,
        parents: &ParentMatches,
    ) -> io::Result<()> {
        let mut names: Vec<_> =
            fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|error| named(path, error))?;
        names.sort_by_cached_key(fs::DirEntry::file_name);
        for found in names {
            let name = found.file_name();
            let from = found.path();
            let told = [told, b"/", name.as_bytes()].concat();
            let text = name.to_string_lossy();
            let below = if below.is_empty() { text.into_owned() } else { format!("{below}/{text}") };
            let metadata = match found.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(|error| named(&from, error))?,
            };
            let (is_ignored, here) = ignored.matches_below(&below, parents);
            if metadata.is_dir() {
                if is_ignored && !ignored.may_reenter(&below) {
                    continue;
                }
                let listed = looks(ListedKind::Folder, told.clone(), &metadata);
                if is_ignored {
                    self.waiting.push(listed);
                } else {
                    self.announce()?;
                    self.add(listed, None)?;
                }
                self.folder(&from, &told, &below, ignored, &here)?;
                self.waiting.pop_if(|waiting| waiting.path == told);
            } else if !is_ignored {
                self.announce()?;
                self.entry(&from, told, &metadata)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, told: Vec<u8>, metadata: &fs::Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_file() {
            return self.regular(from, told, metadata);
        }
        let listed = if kind.is_symlink() {
            let link = fs::read_link(from).map_err(|error| named(from, error))?.as_os_str().as_bytes().to_vec();
            Listed { link, ..looks(ListedKind::Symlink, told, metadata) }
        } else if kind.is_fifo() {
            looks(ListedKind::Fifo, told, metadata)
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { ListedKind::CharDevice } else { ListedKind::BlockDevice };
            let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            Listed { device, ..looks(kind, told, metadata) }
        } else {
            // A socket is nothing to be copied.
            return Ok(());
        };
        self.add(listed, None)
    }

    /// Lists the directories that something lies in that goes along.
    fn announce(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.waiting).into_iter().try_for_each(|listed| self.add(listed, None))
    }

    fn regular(&mut self, from: &Path, told: Vec<u8>, metadata: &fs::Metadata) -> io::Result<()> {
        if metadata.nlink() > 1 {
            match self.linked.entry((metadata.dev(), metadata.ino())) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let link = first.get().clone();
                    return self.add(Listed { link, ..looks(ListedKind::HardLink, told, metadata) }, None);
                }
                std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(told.clone())),
            }
        }
        self.add(file(told, metadata, self.now), Some(Source::File(from.to_owned())))
    }

    /// Sends files: what each is now, and as much content.
    fn send(&mut self, wanted: &Wanted) -> io::Result<()> {
        for (first, count) in wanted {
            let sources = self.sources.get(*first..first.saturating_add(*count)).ok_or(io::ErrorKind::InvalidData)?;
            for source in sources {
                match source {
                    Some(Source::Bytes(bytes)) => {
                        given(bytes).encode_told(&mut self.out.buffer);
                        self.out.put(bytes)?;
                    }
                    Some(Source::File(path)) => {
                        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
                        let (metadata, content) = opened.map_err(|error| named(path, error))?;
                        if !metadata.is_file() {
                            return Err(named(path, io::Error::other("it is no file any more")));
                        }
                        file(Vec::new(), &metadata, SystemTime::now()).encode_told(&mut self.out.buffer);
                        self.out.file(content, path, metadata.len())?;
                    }
                    None => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
        self.out.flush()
    }

    fn add(&mut self, listed: Listed, source: Option<Source>) -> io::Result<()> {
        self.sources.push(source);
        listed.encode(&mut self.out.buffer);
        if self.out.buffer.len() >= CHUNK { self.out.flush() } else { Ok(()) }
    }
}

/// What is told of a regular file.
fn file(path: Vec<u8>, metadata: &fs::Metadata, now: SystemTime) -> Listed {
    let (size, stamp) = (metadata.len(), stamp(metadata, now));
    Listed { size, stamp, ..looks(ListedKind::File, path, metadata) }
}

/// What is told of a file that is none of the user's.
fn given(bytes: &[u8]) -> Listed {
    let stamp = Digest::sha256(bytes).hex().as_bytes().to_vec();
    Listed { mode: 0o644, size: bytes.len() as u64, stamp, ..entry(ListedKind::File, Vec::new()) }
}

/// What is different when the content is.
fn stamp(metadata: &fs::Metadata, now: SystemTime) -> Vec<u8> {
    let mut stamp = Vec::with_capacity(48);
    for number in [metadata.dev(), metadata.ino()] {
        stamp.extend_from_slice(&number.to_le_bytes());
    }
    for number in [metadata.ctime(), metadata.ctime_nsec()] {
        stamp.extend_from_slice(&number.to_le_bytes());
    }
    let (seconds, nanoseconds) = (u64::try_from(metadata.ctime()), u32::try_from(metadata.ctime_nsec()));
    let changed = UNIX_EPOCH + Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default());
    let window = if metadata.ctime_nsec() == 0 { SETTLED_COARSE } else { SETTLED };
    let is_settled = changed + window < now;
    if !is_settled {
        // Never the same again: next time it travels whatever it looks like.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        stamp.extend_from_slice(&now.as_nanos().to_le_bytes());
    }
    stamp
}

fn entry(kind: ListedKind, path: Vec<u8>) -> Listed {
    Listed { path, kind, mode: 0, mtime: (0, 0), size: 0, link: Vec::new(), device: (0, 0), stamp: Vec::new() }
}

/// A directory of the client's itself: what it looks like stays at home, it is as new as the build.
fn top(name: &str) -> Listed {
    let now = jiff::Timestamp::now();
    let mtime = (now.as_second(), u32::try_from(now.subsec_nanosecond()).unwrap_or_default());
    Listed { mode: 0o755, mtime, ..entry(ListedKind::Folder, name.as_bytes().to_vec()) }
}

fn looks(kind: ListedKind, path: Vec<u8>, metadata: &fs::Metadata) -> Listed {
    let mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or_default());
    Listed { mode: metadata.mode() & 0o7777, mtime, ..entry(kind, path) }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("open {}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn ignored_files_stay_at_home_and_only_wanted_ones_travel() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/keep", "a/drop.log", "big/x", "big/keep/y", "top"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
        }
        let ignored = Patterns::new(["**/*.log", "big", "!big/keep"]).unwrap();
        let dockerfile = vec![("Dockerfile".to_owned(), Source::Bytes(b"FROM x".to_vec()))];
        let parts = vec![
            Part::Files { name: "dockerfile".to_owned(), files: dockerfile },
            Part::Folder { name: "context".to_owned(), path: dir.path().to_owned(), ignored },
        ];
        let (told, wanted) = std::sync::mpsc::channel();
        for wanted in [vec![(1, 1)], vec![(4, 1), (7, 2)], Vec::new(), vec![(1, 1)]] {
            told.send(wanted).unwrap();
        }
        let mut bytes = Vec::new();
        let mut stream = Box::pin(stream(parts, wanted, Arc::default()));
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let mut rest = &bytes[..];
        let mut names = Vec::new();
        while let Some((listed, _)) = Listed::read(&mut rest).unwrap() {
            names.push(String::from_utf8(listed.path).unwrap());
        }
        let expected = [
            "dockerfile",
            "dockerfile/Dockerfile",
            "context",
            "context/a",
            "context/a/keep",
            "context/big",
            "context/big/keep",
            "context/big/keep/y",
            "context/top",
        ];
        assert_eq!(names, expected);
        let mut contents = Vec::new();
        while !rest.is_empty() {
            let (listed, _) = Listed::read_told(Vec::new(), &mut rest).unwrap();
            let (content, after) = rest.split_at(usize::try_from(listed.size).unwrap());
            contents.push(String::from_utf8(content.to_vec()).unwrap());
            rest = after;
        }
        assert_eq!(contents, ["FROM x", "keep", "y", "top"], "until nothing more is wanted");
    }
}
