//! Digests of what files are: kind, mode, owner, content, links, attributes; never times.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::tree::{Found, Walk};
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use crate::failure::{Doing, Result};
use crate::files;
use crate::synced::{Index, Known};

/// Attributes that count.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Shows every entry of a tree that was built, a folder before what is in it; the first failure ends it.
pub(crate) fn each_of_built(root: BorrowedFd<'_>, mut visit: impl FnMut(Found) -> Result<()>) -> Result<()> {
    let root = files::open_folder(root)?;
    let mut failure = None;
    let mut visit = |found: Found| {
        visit(found).map_err(|error| {
            failure = Some(error);
            std::io::ErrorKind::Other.into()
        })
    };
    let walked = Walk::new(is_kept, &mut visit).children(root.as_fd(), b"");
    match failure {
        Some(failure) => Err(failure),
        None => walked.doing("cannot read what was built"),
    }
}

/// Takes in entries one by one; their order counts.
pub(crate) struct ContentHasher {
    hasher: Sha256,
    buffer: Vec<u8>,
}

impl ContentHasher {
    pub(crate) fn new() -> Self {
        Self { hasher: Sha256::new(), buffer: vec![0; 256 * 1024] }
    }

    /// Takes in a word of the caller's.
    pub(crate) fn word(&mut self, word: &[u8]) {
        self.hasher.update((word.len() as u64).to_le_bytes());
        self.hasher.update(word);
    }

    fn head(&mut self, name: &[u8], kind: FileType, mode: u32, (uid, gid): (u32, u32)) {
        self.word(name);
        self.hasher.update(kind.as_raw_mode().to_le_bytes());
        // Of a link nothing but its target can be told apart by anybody.
        if !kind.is_symlink() {
            self.hasher.update(mode.to_le_bytes());
        }
        self.hasher.update(uid.to_le_bytes());
        self.hasher.update(gid.to_le_bytes());
    }

    fn content(&mut self, digest: &[u8], length: u64) {
        self.hasher.update(digest);
        self.hasher.update(length.to_le_bytes());
    }

    /// Takes in an entry of a client's directory, as if it had been found there.
    pub(crate) fn known(&mut self, name: &[u8], known: &Known) {
        self.head(name, known.kind, known.mode, (0, 0));
        match known.kind {
            FileType::RegularFile => self.content(&known.digest, known.size),
            FileType::Symlink => self.word(&known.link),
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.hasher.update(known.device.0.to_le_bytes());
                self.hasher.update(known.device.1.to_le_bytes());
            }
            _ => {}
        }
    }

    /// Takes in an entry under a name.
    pub(crate) fn entry(&mut self, name: &[u8], found: &mut Found) -> io::Result<()> {
        self.head(name, found.kind, found.looks.mode, (found.looks.uid, found.looks.gid));
        for (name, value) in &found.looks.xattrs {
            self.word(name);
            self.word(value);
        }
        match found.kind {
            FileType::RegularFile => {
                let Some(file) = found.file.take() else { return Ok(()) };
                self.file(file)
            }
            FileType::Symlink => {
                self.word(&found.link.clone());
                Ok(())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.hasher.update(found.device.0.to_le_bytes());
                self.hasher.update(found.device.1.to_le_bytes());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, file: OwnedFd) -> io::Result<()> {
        let mut file = File::from(file);
        let (mut hasher, mut length) = (Sha256::new(), 0_u64);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&self.buffer[..read]);
                    length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.content(&hasher.finalize(), length);
        Ok(())
    }

    pub(crate) fn finish(self) -> String {
        format!("content:{}", hex::encode(self.hasher.finalize()))
    }
}

/// The digest of everything in a folder of which all is known.
pub(crate) fn of_index(index: &Index) -> String {
    let mut hasher = ContentHasher::new();
    index.walk(b"", |name, known| {
        if !name.is_empty() {
            hasher.known(name, known);
        }
    });
    hasher.finish()
}

/// The digest of everything in a folder. Blocks.
pub(crate) fn of_tree(root: BorrowedFd<'_>) -> Result<String> {
    // A mount that was just made is no more than a place.
    let root = files::open_folder(root)?;
    let mut hasher = ContentHasher::new();
    let mut visit = |mut found: Found| {
        let name = found.path.clone();
        hasher.entry(&name, &mut found)
    };
    Walk::new(is_kept, &mut visit).children(root.as_fd(), b"").doing("cannot read a tree")?;
    Ok(hasher.finish())
}
