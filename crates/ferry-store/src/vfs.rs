//! Root file systems without overlay: the layers copied on top of each other into the container's own folder.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ferry_spec::digest::ChainId;
use ferry_sys::path::resolve_in_root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, Result};
use crate::images;
use crate::layers::Hidden;
use crate::layers::copy::{self, TreeRules};
use crate::layers::stream;
use crate::layers::unpack::{WhiteoutStyle, open_trusted, unpack};

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

impl Store {
    /// Unpacks layers, the lowest first, on top of each other into one empty folder. What they are is up to the caller, who has verified
    /// them; they cannot reach out of the folder all the same.
    ///
    /// # Errors
    /// When a layer is none, or passes the limits; the folder holds what was unpacked before.
    pub fn unpack_layers(&self, layers: &[File], target: &Path) -> Result<()> {
        let root = open_trusted(target).map_err(Error::errno("open", target))?;
        for (index, layer) in layers.iter().enumerate() {
            if index == 0 {
                self.unpack_one(layer, &root)?;
                continue;
            }
            let staging = target.with_extension("layer");
            images::make_folder(&staging)?;
            let unpacked = (|| {
                let source = open_trusted(&staging).map_err(Error::errno("open", &staging))?;
                let hidden = self.unpack_one(layer, &source)?;
                hide(&root, &hidden).map_err(Error::errno("hide files of", &staging))?;
                copy::copy_tree(&source, &root, &Rules(&hidden)).map_err(Error::errno("copy", &staging))
            })();
            // The first error is the one to tell.
            let removed = crate::collect::remove_tree(&staging);
            unpacked.and(removed)?;
        }
        Ok(())
    }

    fn unpack_one(&self, layer: &File, root: &OwnedFd) -> Result<Hidden> {
        let nothing_below = || Ok(None);
        let unpacked = stream::inflate_unhashed(layer, self.inner.limits, |stream| {
            unpack(stream, root.as_fd(), WhiteoutStyle::Listed, &nothing_below)
        });
        Ok(unpacked.map_err(Error::UnverifiedLayer)?.hidden)
    }
}

struct Plain;

impl TreeRules for Plain {
    fn keeps_looks(&self, _: &[u8]) -> bool {
        false
    }
}

/// Copies everything in one folder into another, empty one: owners, modes, times, hard links; extents are shared where the file system can.
///
/// # Errors
/// What the system says; what was copied before stays.
pub fn copy_folder(source: &Path, target: &Path) -> Result<()> {
    // Deep trees need a deep stack.
    const STACK_BYTES: usize = 32 << 20;
    let copy = || {
        let from = open_trusted(source).map_err(Error::errno("open", source))?;
        let to = open_trusted(target).map_err(Error::errno("open", target))?;
        copy::copy_tree(&from, &to, &Plain).map_err(Error::errno("copy", source))
    };
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("copy".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, copy);
        let thread = thread.map_err(Error::io("start a thread to copy", source))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether files of a folder can share their extents, by trying. The names that this takes are nobody else's, however many try at once.
pub fn shares_extents(folder: &Path) -> bool {
    let names = [(); 2].map(|()| folder.join(format!(".extents-{:016x}", rand::random::<u64>())));
    let probe = |name: &Path| File::options().create_new(true).read(true).write(true).open(name);
    let shared = probe(&names[0]).and_then(|mut from| {
        io::Write::write_all(&mut from, &[0; 4096])?;
        Ok(rustix::fs::ioctl_ficlone(probe(&names[1])?, from)?)
    });
    for name in names {
        // What is not there need not go.
        let _ = fs::remove_file(name);
    }
    shared.is_ok()
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
