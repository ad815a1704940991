//! What a layer hides, as lists, for hosts where a layer cannot say it in overlayfs's own way.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use ferry_sys::path::resolve_in_root;
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::path::split;

/// Paths relative to the layer's root, byte for byte as Latin-1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hidden {
    /// Names of the layers below that are gone.
    whiteouts: BTreeSet<String>,
    /// Folders that show nothing of the layers below.
    opaque: BTreeSet<String>,
    /// Folders whose looks are those of the layers below.
    implied: BTreeSet<String>,
}

impl Hidden {
    pub(crate) fn hide(&mut self, path: &[u8]) {
        self.whiteouts.insert(encode(path));
    }

    pub(crate) fn opaque(&mut self, path: &[u8]) {
        self.whiteouts.remove(&encode(path));
        self.opaque.insert(encode(path));
    }

    pub(crate) fn implied(&mut self, paths: &[Vec<u8>]) {
        self.implied.extend(paths.iter().map(|path| encode(path)));
    }

    /// The layer has something of its own there.
    pub(crate) fn reveal(&mut self, path: &[u8]) {
        if !self.whiteouts.is_empty() {
            self.whiteouts.remove(&encode(path));
        }
    }

    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        !self.whiteouts.is_empty() && self.whiteouts.contains(&encode(path))
    }

    pub(crate) fn is_implied(&self, path: &[u8]) -> bool {
        !self.implied.is_empty() && self.implied.contains(&encode(path))
    }

    pub(crate) fn whiteout_paths(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.whiteouts.iter().map(|text| decode(text))
    }

    pub(crate) fn opaque_paths(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.opaque.iter().map(|text| decode(text))
    }
}

impl Hidden {
    /// Says the same below `root` in the way that overlayfs reads.
    pub(super) fn write_for_overlay(&self, root: &OwnedFd, opaque_xattr: &str) -> Result<(), Errno> {
        let folder = |path: &[u8]| {
            let path = if path.is_empty() { b"." } else { path };
            resolve_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
        };
        for path in self.whiteout_paths() {
            let (above, name) = split(&path);
            match rustix::fs::mknodat(folder(above)?, name, FileType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        for path in self.opaque_paths() {
            rustix::fs::fsetxattr(folder(&path)?, opaque_xattr, b"y", XattrFlags::empty())?;
        }
        Ok(())
    }
}

fn encode(path: &[u8]) -> String {
    path.iter().copied().map(char::from).collect()
}

fn decode(text: &str) -> Vec<u8> {
    // Every character came from one byte.
    text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}
