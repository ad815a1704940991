//! Paths that read as empty or cannot be written.
//!
//! What is put over them are objects of our own, by descriptor: never a path inside the container, which a process there could change
//! while we look.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use ferry_sys::mount;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, major, minor};
use rustix::io::Errno;

use super::mounts::{SystemMounts, attach, clone_tree, empty_read_only, set};
use crate::error::Error;
use crate::root::{Links, Root, is_directory};

/// Opens the host's null device, for containers whose `/dev` is not ours.
pub(super) fn host_null() -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, "/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::step("open /dev/null", error))
}

/// Puts nothing over each path that exists.
pub(super) fn mask(
    root: Root<'_>,
    system: &SystemMounts,
    paths: &[String],
    null: OwnedFd,
    label: Option<&str>,
) -> Result<(), Error> {
    verify_null(&null)?;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let step = |error: Errno| Error::step(format!("can't mask path {path:?}"), error);
        let Some(target) = existing(root, system, path).map_err(step)? else { continue };
        if !is_directory(&target).map_err(step)? {
            let tree = clone_tree(&null, Path::new(""), false).map_err(step)?;
            set(&tree, mount::READ_ONLY, false)
                .map_err(|error| Error::step(format!("can't mask path {path:?}"), error))?;
            attach(&tree, &target).map_err(step)?;
            continue;
        }
        match &empty {
            // The first mount is the source of the others: a detached one could not be copied.
            None => {
                let fresh = empty_read_only(label)?;
                attach(&fresh, &target).map_err(step)?;
                empty = Some(fresh);
            }
            Some(first) => {
                let tree = clone_tree(first, Path::new(""), false).map_err(step)?;
                attach(&tree, &target).map_err(step)?;
            }
        }
    }
    Ok(())
}

/// Makes each path that exists read-only, with everything mounted in it.
pub(super) fn read_only(root: Root<'_>, system: &SystemMounts, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        let step = |error: std::io::Error| Error::step(format!("can't make {path:?} read-only"), error);
        let Some(target) = existing(root, system, path).map_err(|error| step(error.into()))? else { continue };
        let tree = clone_tree(&target, Path::new(""), true).map_err(|error| step(error.into()))?;
        set(&tree, mount::READ_ONLY, true).map_err(step)?;
        attach(&tree, &target).map_err(|error| step(error.into()))?;
    }
    Ok(())
}

/// What is there. Paths of the kernel's own file systems are looked up in their mounts: on the way there from the root, whoever can change
/// the root might lead aside, and a path that is not there is not masked.
fn existing(root: Root<'_>, system: &SystemMounts, path: &str) -> Result<Option<OwnedFd>, Errno> {
    let below = |top: &str, mount: &'_ Option<OwnedFd>| {
        let rest = path.strip_prefix(top)?.strip_prefix('/')?;
        mount.as_ref().map(|mount| Root::new(&mount.as_fd()).locate(rest, Links::Follow))
    };
    let found = below("/proc", &system.proc).or_else(|| below("/sys", &system.sys));
    match found.unwrap_or_else(|| root.locate(path, Links::Follow)) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn verify_null(null: &OwnedFd) -> Result<(), Error> {
    let stat = rustix::fs::statat(null, "", AtFlags::EMPTY_PATH)
        .map_err(|error| Error::step("stat the null device", error))?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) {
        return Ok(());
    }
    Err(Error::internal("/dev/null is not the null device"))
}
