//! The context on its way to the daemon: a tar whose directories at the top are the client's directories.
//!
//! Files are read by a thread of their own while they are sent. Owners stay at home, times and modes travel.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ferry_dockerfile::ignore::{ParentMatches, Patterns};
use ferry_spec::tar::{END, Entry, Kind, header, padding};
use futures_util::Stream;
use tokio::sync::mpsc;

/// Bytes sent at a time.
const CHUNK: usize = 256 * 1024;

/// One thing that travels.
pub(super) enum Part {
    /// A directory, but for what is ignored.
    Folder { name: String, path: PathBuf, ignored: Patterns },
    /// A directory with nothing in it.
    Empty(String),
    /// A file of these bytes.
    Bytes { path: String, bytes: Vec<u8> },
    /// A file.
    File { path: String, from: PathBuf },
}

/// Sends the parts.
pub(super) fn stream(parts: Vec<Part>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut archive = Archive {
            sender: sender.clone(),
            buffer: Vec::with_capacity(CHUNK),
            linked: HashMap::new(),
            waiting: Vec::new(),
        };
        if let Err(error) = archive.write(&parts)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // Whoever sends stops at an error, and so tells the daemon.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

struct Archive {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    /// Where files with several names went, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Headers of ignored directories above, which go along with the first thing in them that is not.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Archive {
    fn write(&mut self, parts: &[Part]) -> io::Result<()> {
        for part in parts {
            match part {
                Part::Folder { name, path, ignored } => {
                    self.put(&top(name))?;
                    let parents = ParentMatches::default();
                    self.folder(path, name.as_bytes(), "", ignored, &parents)?;
                }
                Part::Empty(name) => self.put(&top(name))?,
                Part::Bytes { path, bytes } => {
                    let mut entry = Entry::new(Kind::File, path.clone(), 0o644);
                    entry.size = bytes.len() as u64;
                    entry.stored_bytes = entry.size;
                    self.put(&header(&entry))?;
                    self.put(bytes)?;
                    self.pad(entry.size)?;
                }
                Part::File { path, from } => {
                    let metadata = fs::metadata(from).map_err(|error| named(from, error))?;
                    self.regular(from, path.as_bytes().to_vec(), &metadata)?;
                }
            }
        }
        self.put(&END)?;
        self.flush()
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
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let name = entry.file_name();
            let from = entry.path();
            let told = [told, b"/", name.as_bytes()].concat();
            let text = name.to_string_lossy();
            let below = if below.is_empty() { text.into_owned() } else { format!("{below}/{text}") };
            let metadata = match fs::symlink_metadata(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(|error| named(&from, error))?,
            };
            let (is_ignored, here) = ignored.matches_below(&below, parents);
            if metadata.is_dir() {
                if is_ignored && !ignored.may_reenter(&below) {
                    continue;
                }
                let mut entry = looks(Kind::Folder, [&told[..], b"/"].concat(), &metadata);
                entry.size = 0;
                if is_ignored {
                    self.waiting.push((told.clone(), header(&entry)));
                } else {
                    self.announce()?;
                    self.put(&header(&entry))?;
                }
                self.folder(&from, &told, &below, ignored, &here)?;
                self.waiting.pop_if(|(waiting, _)| *waiting == told);
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
        let mut entry = if kind.is_symlink() {
            let mut entry = looks(Kind::Symlink, told, metadata);
            entry.link = fs::read_link(from).map_err(|error| named(from, error))?.as_os_str().as_bytes().to_vec();
            entry
        } else if kind.is_fifo() {
            looks(Kind::Fifo, told, metadata)
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { Kind::CharDevice } else { Kind::BlockDevice };
            let mut entry = looks(kind, told, metadata);
            entry.device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            entry
        } else {
            // A socket is nothing to be copied.
            return Ok(());
        };
        entry.size = 0;
        self.put(&header(&entry))
    }

    /// Sends the directories that something lies in that goes along.
    fn announce(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.waiting).into_iter().try_for_each(|(_, header)| self.put(&header))
    }

    fn regular(&mut self, from: &Path, told: Vec<u8>, metadata: &fs::Metadata) -> io::Result<()> {
        if metadata.nlink() > 1 {
            match self.linked.entry((metadata.dev(), metadata.ino())) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let mut entry = looks(Kind::HardLink, told, metadata);
                    entry.link.clone_from(first.get());
                    return self.put(&header(&entry));
                }
                std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(told.clone())),
            }
        }
        let mut file = File::open(from).map_err(|error| named(from, error))?;
        let mut entry = looks(Kind::File, told, metadata);
        entry.size = metadata.len();
        entry.stored_bytes = entry.size;
        self.put(&header(&entry))?;
        let mut left = entry.size;
        let mut piece = vec![0; CHUNK];
        while left > 0 {
            let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match file.read(&mut piece[..wanted]).map_err(|error| named(from, error))? {
                // It has become shorter: what was announced must come.
                0 => {
                    piece[..wanted].fill(0);
                    self.put(&piece[..wanted])?;
                    left -= wanted as u64;
                }
                read => {
                    self.put(&piece[..read])?;
                    left -= read as u64;
                }
            }
        }
        self.pad(entry.size)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let zeros = [0; 512];
        self.put(&zeros[..usize::try_from(padding(length)).unwrap_or_default()])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A directory of the client's itself: what it looks like stays at home, it is as new as the build.
fn top(name: &str) -> Vec<u8> {
    let mut entry = Entry::new(Kind::Folder, format!("{name}/"), 0o755);
    let now = jiff::Timestamp::now();
    entry.mtime = (now.as_second(), u32::try_from(now.subsec_nanosecond()).unwrap_or_default());
    header(&entry)
}

fn looks(kind: Kind, path: Vec<u8>, metadata: &fs::Metadata) -> Entry {
    let mut entry = Entry::new(kind, path, metadata.mode() & 0o7777);
    entry.mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or_default());
    entry
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
    use ferry_spec::tar::{Reader, Source, next_entry, skip_padding};
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn ignored_files_stay_at_home() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/keep", "a/drop.log", "big/x", "big/keep/y", "top"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        }
        let ignored = Patterns::new(["**/*.log", "big", "!big/keep"]).unwrap();
        let parts = vec![
            Part::Folder { name: "context".to_owned(), path: dir.path().to_owned(), ignored },
            Part::Bytes { path: "dockerfile/Dockerfile".to_owned(), bytes: b"FROM x".to_vec() },
        ];
        let mut bytes = Vec::new();
        let mut stream = Box::pin(stream(parts));
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let mut reader = Reader(&bytes[..]);
        let mut names = Vec::new();
        while let Some(entry) = next_entry(&mut reader).unwrap() {
            names.push(String::from_utf8(entry.path.clone()).unwrap());
            reader.skip(entry.stored_bytes).unwrap();
            skip_padding(&mut reader, entry.stored_bytes).unwrap();
        }
        let expected = [
            "context/",
            "context/a/",
            "context/a/keep",
            "context/big/",
            "context/big/keep/",
            "context/big/keep/y",
            "context/top",
            "dockerfile/Dockerfile",
        ];
        assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), expected);
    }
}
