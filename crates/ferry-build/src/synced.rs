//! Directories of a client that are kept, and brought to what they are now: what is not the same as it was told to be the last time is made
//! anew, and only of that the content travels.
//!
//! What a client tells is hostile: names lead nowhere but into the folder. The content of a file is digested while it comes, so steps that
//! look at it later need not read it again.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ferry_api::context::{Listed, ListedKind};
use ferry_engine::workshop::Workshop;
use ferry_sys::tree::{Looks, Maker, Owner, Rules, clean};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::contexts::Contexts;
use crate::failure::{Doing, Failure, Result};
use crate::tree::Folder;

/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;
/// Files of so many bytes are digested by a thread of their own.
const LARGE: u64 = 4 << 20;
/// Files of fewer bytes are never given to layers.
const GIVEN: u64 = 1 << 20;
/// So many bytes that came are brought to the disk at once.
const BEGINS_SYNC: u64 = 16 << 20;
/// Pieces that such a thread may be behind.
const PIECES_BETWEEN: usize = 8;

/// What is known of the entries of a folder without looking at them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    entries: Arc<BTreeMap<Vec<u8>, Known>>,
    /// The place in them of the folder it is of, in the order's form.
    below: Vec<u8>,
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) size: u64,
    /// Of the content of a regular file.
    pub(crate) digest: [u8; 32],
    mtime: (i64, u32),
    /// What the client told, as it came.
    told: Vec<u8>,
    /// One more name of another file.
    is_other_name: bool,
}

/// A path in the form in which the entries of a folder come before the next folder's: a part ends before anything that a name can have.
fn in_order(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn from_order(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

impl Index {
    /// The same of a folder in it.
    pub(crate) fn within(&self, path: &[u8]) -> Self {
        Self { entries: Arc::clone(&self.entries), below: self.key(path) }
    }

    fn key(&self, path: &[u8]) -> Vec<u8> {
        match (self.below.is_empty(), path.is_empty()) {
            (_, true) => self.below.clone(),
            (true, _) => in_order(path),
            (false, false) => [&self.below[..], &[0], &in_order(path)].concat(),
        }
    }

    /// Shows what is at a path, which has no links, under the empty name, and everything below it, as a walk over the files would.
    pub(crate) fn walk(&self, path: &[u8], mut visit: impl FnMut(&[u8], &Known)) {
        let top = self.key(path);
        if let Some(known) = self.entries.get(&top) {
            visit(b"", known);
        }
        let first = if top.is_empty() { Vec::new() } else { [&top[..], &[0]].concat() };
        for (key, known) in self.entries.range(first.clone()..) {
            let Some(below) = key.strip_prefix(&first[..]) else { break };
            visit(&from_order(below), known);
        }
    }
}

/// Which files are wanted: pairs of a place in the list and a count.
pub type Wanted = Vec<(usize, usize)>;

/// Takes a list of a client's directories and then what is wanted of them; `tell` tells the client what that is. Blocks.
pub(crate) fn receive(
    body: &mut impl Read,
    key: &str,
    contexts: &Contexts,
    workshop: &Workshop,
    tell: impl FnOnce(Wanted) -> Result<()>,
) -> Result<Arc<Folder>> {
    let mut list = Vec::new();
    while let Some(entry) = Listed::read(body).doing("cannot read the build context")? {
        list.push(entry);
    }
    let taken = contexts.take(key);
    let folder = match &taken {
        Some(kept) => kept.folder(),
        None => Arc::new(Folder::open(workshop.context_folder()?)?),
    };
    let before = folder.index().cloned().unwrap_or_default();
    let entries = {
        let mut update = Update::plan(list, &before)?;
        update.remove(folder.as_fd(), &before)?;
        tell(update.wanted())?;
        let bytes = update.wanted_bytes();
        let entries = update.carry_out(folder.as_fd(), body)?;
        if bytes >= BEGINS_SYNC {
            // Much of it is going to be files of layers.
            workshop.begin_sync();
        }
        entries
    };
    let index = Index { entries: Arc::new(entries), below: Vec::new() };
    let folder = Arc::new(folder.known_as(index)?);
    match taken {
        Some(kept) => contexts.put_back(kept.used(), &folder),
        None => contexts.keep(key, "context", &folder),
    }
    Ok(folder)
}

/// Lets go of the files of a context that became files of layers: those keep them alone, and they travel again when they are needed again.
/// Blocks.
pub(crate) fn let_go(key: &str, contexts: &Contexts) {
    let Some(kept) = contexts.take(key) else { return };
    let folder = kept.folder();
    let Some(index) = folder.index() else { return };
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let is_given = |(key, known): &(&Vec<u8>, &Known)| {
        if !known.kind.is_file() || known.size < GIVEN || known.is_other_name {
            return false;
        }
        let path = from_order(key);
        let opened = ferry_sys::path::resolve_in_root(folder.as_fd(), &path[..], flags, Mode::empty());
        let has_other_names = opened.and_then(rustix::fs::fstat).is_ok_and(|stat| stat.st_nlink > 1);
        // One that cannot be removed is right as it is.
        has_other_names && unlink(folder.as_fd(), &path, AtFlags::empty()).is_ok()
    };
    let given: HashSet<&Vec<u8>> = index.entries.iter().filter(is_given).map(|(key, _)| key).collect();
    if given.is_empty() {
        return contexts.put_back(kept, &folder);
    }
    let mut entries = index.entries.as_ref().clone();
    entries.retain(|key, _| !given.contains(key));
    match folder.known_as(Index { entries: Arc::new(entries), below: Vec::new() }) {
        Ok(folder) => contexts.put_back(kept, &Arc::new(folder)),
        Err(failure) => tracing::warn!(error = %failure, "a context of a client is not kept"),
    }
}

fn unlink(root: BorrowedFd<'_>, path: &[u8], how: AtFlags) -> rustix::io::Result<()> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder = ferry_sys::path::resolve_in_root(root, above, flags, Mode::empty())?;
    rustix::fs::unlinkat(&folder, name, how)
}

/// What is to be done.
struct Update {
    /// In the order in which they were told.
    all: Vec<(Vec<u8>, Known)>,
    /// The places of those that are made anew.
    changed: Vec<usize>,
    /// Folders whose times would show that something in them was made anew.
    touched: HashSet<Vec<u8>>,
}

impl Update {
    fn plan(list: Vec<(Listed, Vec<u8>)>, before: &Index) -> Result<Self> {
        let mut update = Self { all: Vec::with_capacity(list.len()), changed: Vec::new(), touched: HashSet::new() };
        let mut anew: HashSet<Vec<u8>> = HashSet::new();
        // Whatever lies in something lies in a folder that was told, so what is told is what is there.
        let mut folders: HashSet<Vec<u8>> = HashSet::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for (at, (listed, told)) in list.into_iter().enumerate() {
            let shown = String::from_utf8_lossy(&listed.path).into_owned();
            let outside = || Failure::invalid(format!("invalid entry name {shown:?}"));
            if clean(&listed.path).is_none_or(|path| path.is_empty() || path != listed.path) {
                return Err(outside());
            }
            let key = in_order(&listed.path);
            let above = key.iter().rposition(|byte| *byte == 0).map(|slash| &key[..slash]);
            if above.is_some_and(|above| !folders.contains(above)) || !seen.insert(key.clone()) {
                return Err(outside());
            }
            let mut known = Known::of(listed, told);
            if known.kind.is_dir() {
                folders.insert(key.clone());
            }
            let is_same = match before.entries.get(&key) {
                Some(old) if old.told == known.told => {
                    known.digest = old.digest;
                    !known.is_other_name || !anew.contains(&in_order(&known.link))
                }
                _ => false,
            };
            if !is_same {
                anew.insert(key.clone());
                update.touch(&key);
                update.changed.push(at);
            }
            update.all.push((key, known));
        }
        Ok(update)
    }

    fn touch(&mut self, key: &[u8]) {
        if let Some(slash) = key.iter().rposition(|byte| *byte == 0) {
            self.touched.insert(key[..slash].to_vec());
        }
    }

    /// Removes what is no longer there, and what is there as something else.
    fn remove(&mut self, root: BorrowedFd<'_>, before: &Index) -> Result<()> {
        let now: BTreeMap<&[u8], FileType> = self.all.iter().map(|(key, known)| (&key[..], known.kind)).collect();
        let is_gone = |(key, known): &(&Vec<u8>, &Known)| now.get(&key[..]).is_none_or(|kind| *kind != known.kind);
        // What is in a folder goes before it.
        let gone: Vec<_> = before.entries.iter().rev().filter(is_gone).collect();
        for (key, known) in gone {
            let path = from_order(key);
            let how = if known.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlink(root, &path, how) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).doing(format!("cannot remove {}", String::from_utf8_lossy(&path))),
            }
            self.touch(key);
        }
        Ok(())
    }

    fn needs_content(&self, at: usize) -> bool {
        let known = &self.all[at].1;
        known.kind.is_file() && !known.is_other_name && known.size > 0
    }

    fn wanted(&self) -> Wanted {
        let mut wanted: Wanted = Vec::new();
        for at in self.changed.iter().copied().filter(|at| self.needs_content(*at)) {
            match wanted.last_mut() {
                Some((first, count)) if *first + *count == at => *count += 1,
                _ => wanted.push((at, 1)),
            }
        }
        wanted
    }

    fn wanted_bytes(&self) -> u64 {
        let wanted = self.changed.iter().filter(|at| self.needs_content(**at));
        wanted.map(|at| self.all[*at].1.size).sum()
    }

    /// Makes what changed; returns everything that is there now.
    fn carry_out(mut self, root: BorrowedFd<'_>, body: &mut impl Read) -> Result<BTreeMap<Vec<u8>, Known>> {
        let rules = Rules { owner: Owner::Caller, replaces_kinds: true, label: "/".to_owned() };
        let mut maker = Maker::new(root, rules);
        let changed: HashSet<usize> = self.changed.iter().copied().collect();
        let folders = self.all.iter().enumerate().filter(|(_, (_, known))| known.kind.is_dir());
        for (_, (key, known)) in folders.filter(|(at, (key, _))| changed.contains(at) || self.touched.contains(key)) {
            maker.folder(&from_order(key), &known.looks())?;
        }
        let mut buffers = Vec::new();
        for at in self.changed.iter().copied() {
            let is_other_name = self.all[at].1.is_other_name;
            let (key, known) = &mut self.all[at];
            let (path, looks) = (from_order(key), known.looks());
            match known.kind {
                // Whatever it is another name of comes first.
                FileType::RegularFile if is_other_name => {}
                FileType::RegularFile => {
                    let size = known.size;
                    let digest = &mut known.digest;
                    maker.file::<Failure>(&path, &looks, |file| {
                        *digest = copy(body, file, size, &mut buffers)?;
                        Ok(())
                    })?;
                }
                FileType::Symlink => maker.symlink(&path, &known.link, &looks)?,
                FileType::Directory => {}
                kind => maker.node(&path, kind, known.device, &looks)?,
            }
        }
        let mut entries: BTreeMap<Vec<u8>, Known> = BTreeMap::new();
        for (at, (key, mut known)) in self.all.into_iter().enumerate() {
            if known.is_other_name {
                let unknown = || Failure::invalid("a hard link to a file that was not told before");
                let first = entries.get(&in_order(&known.link)).filter(|first| first.kind.is_file());
                let first = first.ok_or_else(unknown)?;
                (known.digest, known.size) = (first.digest, first.size);
                if changed.contains(&at) {
                    maker.hard_link(&from_order(&key), &known.link)?;
                }
            }
            entries.insert(key, known);
        }
        maker.finish()?;
        Ok(entries)
    }
}

impl Known {
    fn of(listed: Listed, told: Vec<u8>) -> Self {
        let kind = match listed.kind {
            ListedKind::Folder => FileType::Directory,
            ListedKind::File | ListedKind::HardLink => FileType::RegularFile,
            ListedKind::Symlink => FileType::Symlink,
            ListedKind::Fifo => FileType::Fifo,
            ListedKind::CharDevice => FileType::CharacterDevice,
            ListedKind::BlockDevice => FileType::BlockDevice,
        };
        Self {
            kind,
            mode: listed.mode,
            link: listed.link,
            device: listed.device,
            size: listed.size,
            digest: [0; 32],
            mtime: listed.mtime,
            told,
            is_other_name: listed.kind == ListedKind::HardLink,
        }
    }

    fn looks(&self) -> Looks {
        Looks { mode: self.mode, mtime: self.mtime, ..Looks::default() }
    }
}

/// Copies so many bytes, and returns their digest.
fn copy(body: &mut impl Read, file: &mut std::fs::File, size: u64, buffers: &mut Vec<Vec<u8>>) -> Result<[u8; 32]> {
    if size >= LARGE {
        return copy_large(body, file, size, buffers);
    }
    if buffers.is_empty() {
        buffers.push(vec![0; PIECE]);
    }
    let buffer = &mut buffers[0];
    let mut hasher = Sha256::new();
    let mut left = size;
    while left > 0 {
        let read = read_some(body, buffer, left)?;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).doing("cannot write a file")?;
        left -= read as u64;
    }
    Ok(hasher.finalize().into())
}

/// The same on two threads: one writes while the other digests.
fn copy_large(
    body: &mut impl Read,
    file: &mut std::fs::File,
    size: u64,
    buffers: &mut Vec<Vec<u8>>,
) -> Result<[u8; 32]> {
    let (full, to_digest) = std::sync::mpsc::sync_channel::<(Vec<u8>, usize)>(PIECES_BETWEEN);
    let (empty, emptied) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let digesting = scope.spawn(move || {
            let mut hasher = Sha256::new();
            for (piece, length) in to_digest {
                hasher.update(&piece[..length]);
                // Whoever writes may be done.
                let _ = empty.send(piece);
            }
            hasher.finalize().into()
        });
        let mut left = size;
        while left > 0 {
            let mut piece = emptied.try_recv().ok().or_else(|| buffers.pop()).unwrap_or_else(|| vec![0; PIECE]);
            let read = read_some(body, &mut piece, left)?;
            file.write_all(&piece[..read]).doing("cannot write a file")?;
            left -= read as u64;
            if full.send((piece, read)).is_err() {
                break;
            }
        }
        drop(full);
        let digest = digesting.join().map_err(|_| Failure::internal("the digest of a file panicked"));
        // For the next file.
        buffers.extend(emptied.try_iter());
        digest
    })
}

/// Reads some of the bytes that are left, at least one.
fn read_some(body: &mut impl Read, buffer: &mut [u8], left: u64) -> Result<usize> {
    let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    loop {
        match body.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(Failure::invalid("cannot read the build context: unexpected EOF")),
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).doing("cannot read the build context"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    fn listed(path: &str, kind: ListedKind, content: &str, stamp: &str) -> (Listed, Vec<u8>) {
        let listed = Listed {
            path: path.into(),
            kind,
            mode: 0o755,
            mtime: (1000, 5),
            size: if kind == ListedKind::File { content.len() as u64 } else { 0 },
            link: if kind == ListedKind::File { Vec::new() } else { content.into() },
            device: (0, 0),
            stamp: stamp.into(),
        };
        let mut told = Vec::new();
        listed.encode(&mut told);
        (listed, told)
    }

    /// Brings a folder to a list; returns what was wanted of it.
    fn sync(root: &Path, index: &mut Index, list: Vec<(Listed, Vec<u8>)>, contents: &str) -> Result<Wanted> {
        let root = std::fs::File::open(root).unwrap();
        let mut update = Update::plan(list, index)?;
        update.remove(root.as_fd(), index)?;
        let wanted = update.wanted();
        let entries = update.carry_out(root.as_fd(), &mut contents.as_bytes())?;
        *index = Index { entries: Arc::new(entries), below: Vec::new() };
        Ok(wanted)
    }

    fn digests(root: &Path, index: &Index) -> [String; 2] {
        let folder = std::fs::File::open(root).unwrap();
        [crate::content::of_tree(folder.as_fd()).unwrap(), crate::content::of_index(index)]
    }

    #[test]
    fn only_what_changed_is_wanted_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::default();
        let all = |second: &str, stamp: &str| {
            vec![
                listed("c", ListedKind::Folder, "", ""),
                listed("c/a-b", ListedKind::File, "dash", "1"),
                listed("c/a", ListedKind::Folder, "", ""),
                listed("c/a/one", ListedKind::File, "one", "1"),
                listed("c/a/two", ListedKind::File, second, stamp),
                listed("c/a/again", ListedKind::HardLink, "c/a/two", ""),
                listed("c/link", ListedKind::Symlink, "a/one", ""),
                listed("c/empty", ListedKind::File, "", "1"),
            ]
        };
        assert_eq!(sync(dir.path(), &mut index, all("two", "1"), "dashonetwo").unwrap(), [(1, 1), (3, 2)]);
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known, "what is known is what is there");
        let inode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().ino();
        let before = (inode("c/a/one"), inode("c/a/two"));
        assert_eq!(sync(dir.path(), &mut index, all("two", "1"), "").unwrap(), []);
        assert_eq!(sync(dir.path(), &mut index, all("TWO!", "2"), "TWO!").unwrap(), [(4, 1)]);
        assert_eq!(std::fs::read_to_string(dir.path().join("c/a/again")).unwrap(), "TWO!");
        assert_eq!(inode("c/a/one"), before.0);
        assert_ne!(inode("c/a/two"), before.1, "nobody writes to a file that may have another name");
        let times = std::fs::metadata(dir.path().join("c/a")).unwrap();
        assert_eq!((times.mtime(), times.mtime_nsec()), (1000, 5));
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known);
        let fewer = vec![
            listed("c", ListedKind::Folder, "", ""),
            listed("c/a", ListedKind::File, "file", "3"),
            listed("c/link", ListedKind::Symlink, "elsewhere", ""),
        ];
        assert_eq!(sync(dir.path(), &mut index, fewer, "file").unwrap(), [(1, 1)]);
        assert_eq!(std::fs::read_dir(dir.path().join("c")).unwrap().count(), 2);
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known);
    }

    #[test]
    fn lists_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || listed("c", ListedKind::Folder, "", "");
        for list in [
            vec![listed("../x", ListedKind::File, "x", "")],
            vec![listed("/x", ListedKind::File, "x", "")],
            vec![listed("", ListedKind::Folder, "", "")],
            vec![folder(), listed("c/./x", ListedKind::File, "x", "")],
            vec![listed("c/x", ListedKind::File, "x", "")],
            vec![folder(), folder()],
            vec![folder(), listed("c/l", ListedKind::Symlink, "/", ""), listed("c/l/x", ListedKind::File, "x", "")],
            vec![folder(), listed("c/h", ListedKind::HardLink, "etc/passwd", "")],
        ] {
            assert!(sync(dir.path(), &mut Index::default(), list, "xxxx").is_err());
        }
        let cut = vec![folder(), listed("c/x", ListedKind::File, "long", "")];
        assert!(sync(dir.path(), &mut Index::default(), cut, "lo").is_err());
    }
}
