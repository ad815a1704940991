//! Cache mounts that travel with a cache: each is a layer of its own which no record speaks of.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_engine::images::Images;
use ferry_spec::descriptor::Descriptor;
use rustix::fs::{Gid, Mode, Uid};

use crate::failure::{Doing, Failure, Result};
use crate::files;
use crate::output::tar_of;
use crate::solve::Ground;

/// The annotation that names the mount.
pub(super) const MOUNT: &str = "dev.ferry.cache-mount";
/// The annotation with mode, owner and group of the directory itself.
const LOOKS: &str = "dev.ferry.cache-mount.looks";

/// What a cache mount begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountBlob {
    pub(super) descriptor: Descriptor,
    looks: Option<(u32, u32, u32)>,
}

impl MountBlob {
    pub(super) fn of(layer: &Descriptor) -> Self {
        let looks = layer.annotations.get(LOOKS).and_then(|text| {
            let mut numbers = text.split(' ');
            let mode = u32::from_str_radix(numbers.next()?, 8).ok()?;
            Some((mode, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        });
        Self { descriptor: layer.clone(), looks }
    }

    /// Puts what it holds into an empty directory. Blocks.
    pub(crate) fn unpack(&self, images: &Images, folder: &Path) -> Result<()> {
        let target = std::fs::File::open(folder).doing("cannot open a cache mount")?;
        files::unpack_context(images.blob(&self.descriptor.digest)?, target.as_fd())?;
        let Some((mode, uid, gid)) = self.looks else { return Ok(()) };
        rustix::fs::fchown(&target, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| rustix::fs::fchmod(&target, Mode::from_raw_mode(mode & 0o7777)))
            .doing("cannot prepare a cache mount")
    }
}

/// Stores what is in a cache mount; `None` when there is none of that name. Blocks.
pub(super) fn pack(ground: &Ground, id: &str) -> Result<Option<Descriptor>> {
    let Some(mount) = ground.cache_mounts.find(ground.engine.workshop.folder(), id) else { return Ok(None) };
    let folder = std::fs::File::open(mount.data()).doing("cannot open a cache mount")?;
    let looks = folder.metadata().doing("cannot look at a cache mount")?;
    let (tar, writing) = tar_of(folder.into());
    let stored = ground.engine.images.spool_tar(tar);
    let written = writing.join().unwrap_or_else(|_| Err(Failure::internal("packing a cache mount panicked")));
    written?;
    let mut descriptor = stored?;
    let text = format!("{:o} {} {}", looks.mode() & 0o7777, looks.uid(), looks.gid());
    descriptor.annotations.insert(MOUNT.to_owned(), id.to_owned());
    descriptor.annotations.insert(LOOKS.to_owned(), text);
    Ok(Some(descriptor))
}

#[cfg(test)]
mod tests {
    use ferry_spec::digest::Digest;

    use super::*;

    #[test]
    fn looks_are_read_from_annotations() {
        let mut layer = Descriptor::new("", Digest::sha256(b"x"), 1);
        assert_eq!(MountBlob::of(&layer).looks, None);
        layer.annotations.insert(LOOKS.to_owned(), "1777 1 2".to_owned());
        assert_eq!(MountBlob::of(&layer).looks, Some((0o1777, 1, 2)));
        layer.annotations.insert(LOOKS.to_owned(), "9".to_owned());
        assert_eq!(MountBlob::of(&layer).looks, None);
    }
}
