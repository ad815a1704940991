//! Directories of a client that are kept, and brought to what a build asks for of them now: what is not the same as it was told to be the last
//! time is made anew, and only of that the content travels.
//!
//! [`told`] takes what a client tells of its directories, [`follow`] finds out what of that paths lead to, [`lend`] brings it here.
//!
//! What a client tells is hostile: names lead nowhere but into the folder. The content of a file is digested while it comes, so steps that
//! look at it later need not read it again.

mod bytes;
mod follow;
mod lend;
mod told;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ferry_api::context::{Listed, ListedKind};
use ferry_sys::tree::Looks;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::contexts::Contexts;

pub(crate) use lend::Synced;
pub use told::Wanted;

/// Files of fewer bytes are never given to layers.
const GIVEN: u64 = 1 << 20;

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
    fn of(entries: BTreeMap<Vec<u8>, Known>) -> Self {
        Self { entries: Arc::new(entries), below: Vec::new() }
    }

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
    match folder.known_as(Index::of(entries)) {
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
