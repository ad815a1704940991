//! Root file systems without overlay: the layers copied on top of each other into the container's own folder.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ferry_spec::digest::ChainId;
use ferry_sys::path::resolve_in_root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, Result};
use crate::layers::Hidden;
use crate::layers::copy::{self, TreeRules};
use crate::layers::unpack::open_trusted;

/// In the work folder, which overlay does not use here: the copy is whole.
const FILLED: &str = "filled";

struct Rules<'a>(&'a Hidden);

impl TreeRules for Rules<'_> {
    fn keeps_looks(&self, path: &[u8]) -> bool {
        self.0.is_implied(path)
    }
}

/// Copies the layers of `chain` into `upper`, once; a copy that was cut short is begun anew.
pub(crate) fn fill(store: &Store, chain: Option<&ChainId>, upper: &Path, work: &Path) -> Result<()> {
    let mark = work.join(FILLED);
    if mark.exists() {
        return Ok(());
    }
    let target = open_trusted(upper).map_err(Error::errno("open", upper))?;
    copy::empty(&target).map_err(Error::errno("empty", upper))?;
    let layers = chain.map_or_else(|| Ok(Vec::new()), |chain| store.hidden_of_chain(chain))?;
    for (folder, hidden) in layers.iter().rev() {
        hide(&target, hidden).map_err(Error::errno("hide files of", folder))?;
        let source = open_trusted(folder).map_err(Error::errno("open", folder))?;
        copy::copy_tree(&source, &target, &Rules(hidden)).map_err(Error::errno("copy", folder))?;
    }
    fs::write(&mark, b"").map_err(Error::io("create", &mark))
}

fn hide(target: &OwnedFd, hidden: &Hidden) -> Result<(), Errno> {
    for path in hidden.opaque_paths() {
        let path = if path.is_empty() { b".".to_vec() } else { path };
        if let Some(folder) = folder_below(target, &path)? {
            copy::empty(&folder)?;
        }
    }
    for path in hidden.whiteout_paths() {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], &path[..]),
        };
        if let Some(folder) = folder_below(target, above)? {
            copy::remove(&folder, name)?;
        }
    }
    Ok(())
}

fn folder_below(root: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    match resolve_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Bytes of regular files below a folder; one with several names counts once.
pub(crate) fn folder_bytes(path: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut linked = std::collections::HashSet::new();
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            // A running container removes things while they are counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => todo.push(entry.path()),
                Ok(metadata)
                    if metadata.is_file()
                        && (metadata.nlink() < 2 || linked.insert((metadata.dev(), metadata.ino()))) =>
                {
                    total += metadata.len();
                }
                _ => {}
            }
        }
    }
    Ok(total)
}
