//! A process that stands in the files of a container and has no other view of any.
//!
//! For what is done with a container's files by the engine's order: copies, exports, comparisons. The calling process has one thread and does
//! nothing else; once it is inside, every path it uses is the container's, and it has the rights to work with files and no more.
//! Volumes and binds are those of the container's own mounts: none is mounted again in sight of the host.

use std::os::fd::{BorrowedFd, OwnedFd};

use ferry_spec::runtime::Mount;
use ferry_sys::capability::{self, Sets};
use ferry_sys::mount::{self, Attributes, Propagation};
use ferry_sys::namespace::{self, Namespaces};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::thread::set_no_new_privs;

use super::{mounts, user};
use crate::error::Error;
use crate::plan::{MountPlan, MountSource};
use crate::root::{Links, Root};

/// What works with files of every owner: chown, dac_override, dac_read_search, fowner, fsetid, mknod, setfcap.
const FILE_RIGHTS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// What the view shows of a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// All its mounts but those at these places, which are the kernel's.
    Without(&'a [String]),
    /// Its root file system and nothing mounted in it.
    RootAlone,
}

/// Goes into a copy of the mounts of the process that `pidfd` names.
///
/// # Errors
/// When it has ended, or the kernel refuses.
pub fn join(pidfd: BorrowedFd<'_>, shown: Shown<'_>) -> Result<(), Error> {
    super::become_separate(None)?;
    namespace::join(pidfd, Namespaces::MOUNT).map_err(|error| Error::step("join the container's mounts", error))?;
    own_mounts()?;
    match shown {
        Shown::Without(places) => places.iter().try_for_each(|place| take_off(place))?,
        Shown::RootAlone => {
            let root = mounts::clone_tree(CWD, "/".as_ref(), false)
                .map_err(|error| Error::step("copy the root file system's mount", error))?;
            enter(&root)?;
        }
    }
    close_devices()
}

/// Puts the view of a container together that does not run: its root file system, a detached mount, with the bind mounts of `mounts` in it;
/// others have nothing in them while nobody runs. Sources that have no path come as trees, each with the place of its mount.
///
/// # Errors
/// When a source is not there, or the kernel refuses.
pub fn build(rootfs: OwnedFd, mounts: &[Mount], mut given: Vec<(usize, OwnedFd)>) -> Result<(), Error> {
    super::become_separate(None)?;
    let mut plans = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let plan = MountPlan::new(mount, None)?;
        if matches!(plan.source, MountSource::Bind { .. }) {
            let tree = given.iter().position(|(at, _)| *at == index).map(|found| given.swap_remove(found).1);
            plans.push((plan, tree));
        }
    }
    own_mounts()?;
    let trees = plans.into_iter().map(|(plan, tree)| mounts::bind_tree(&plan, tree).map(|tree| (plan, tree)));
    let trees = trees.collect::<Result<Vec<_>, Error>>()?;
    attach(&rootfs)?;
    let root = Root::new(&rootfs);
    prepare(root)?;
    for (plan, tree) in &trees {
        let Some(tree) = tree else { continue };
        mounts::bind(root, plan, tree)
            .map_err(|mounts::Failed(cause)| mounts::mounting("bind", &plan.destination, &cause))?;
    }
    drop(trees);
    mounts::swap_root(&rootfs).map_err(|error| Error::step("pivot_root", error))?;
    close_devices()
}

/// Stands in a folder that is no container's root, a detached mount: nothing is made or mounted in it.
///
/// # Errors
/// When the kernel refuses.
pub fn stand_in(folder: &OwnedFd) -> Result<(), Error> {
    super::become_separate(None)?;
    own_mounts()?;
    attach(folder)?;
    mounts::swap_root(folder).map_err(|error| Error::step("pivot_root", error))?;
    close_devices()
}

/// Copies the mount of a folder, to be looked at alone: nothing can be written and no device opened by the copy.
///
/// # Errors
/// When the folder is not in this process's view, or the kernel refuses.
pub fn copy_to_look_at(folder: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let copy = mounts::clone_tree(folder, "".as_ref(), false)
        .map_err(|error| Error::step("copy the mount of a folder", error))?;
    mounts::set(&copy, mount::READ_ONLY | mount::NO_DEV, false)
        .map_err(|error| Error::step("make the copy read-only", error))?;
    Ok(copy)
}

/// Goes to a place where there is nothing: for work on descriptors alone.
///
/// # Errors
/// When the kernel refuses.
pub fn nowhere() -> Result<(), Error> {
    super::become_separate(None)?;
    namespace::unshare(Namespaces::MOUNT).map_err(|error| Error::step("make mounts of its own", error))?;
    mounts::enter_empty_root()
}

/// Gives up every right but that to work with files; and `CAP_SYS_ADMIN`, by which the marks of overlayfs are read, where that is asked for.
///
/// # Errors
/// What the kernel answers.
pub fn keep_file_rights(and_marks: bool) -> Result<(), Error> {
    let step = |error: std::io::Error| Error::step("give up rights", error);
    let held = capability::get().map_err(step)?.permitted;
    let kept = held & (FILE_RIGHTS | if and_marks { 1 << capability::SYS_ADMIN } else { 0 });
    set_no_new_privs(true).map_err(|error| step(error.into()))?;
    capability::limit_bounding(0).map_err(step)?;
    capability::set(Sets { effective: kept, permitted: kept, inheritable: 0 }).map_err(step)?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Finds user and group of Docker's user text in the files of the view.
///
/// # Errors
/// Docker's, for a user that is not there.
pub fn user_of(text: &str) -> Result<(u32, u32), Error> {
    user::ids_of(text).map_err(|failure| failure.into_error("look up the user"))
}

/// Puts a detached mount on top of `/`.
fn attach(tree: &OwnedFd) -> Result<(), Error> {
    mounts::change(tree, c"", Propagation::Private, true)
        .map_err(|error| Error::step("make the root file system private", error))?;
    move_mount(tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::step("attach the root file system", error))
}

fn own_mounts() -> Result<(), Error> {
    namespace::unshare(Namespaces::MOUNT).map_err(|error| Error::step("make mounts of its own", error))?;
    mounts::change(CWD, c"/", Propagation::Private, true).map_err(|error| Error::step("make the mounts private", error))
}

/// Device nodes cannot be opened in this view: a container may put one where a file was a moment ago, and no limit of its own holds here.
fn close_devices() -> Result<(), Error> {
    let attributes = Attributes { set: mount::NO_DEV, ..Attributes::default() };
    mount::set_attributes(CWD, c"/", attributes, true).map_err(|error| Error::step("close devices", error))
}

/// Takes everything off a place, in this process's view alone.
fn take_off(place: &str) -> Result<(), Error> {
    loop {
        match unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(Error::step(format!("take {place} out of the view"), error)),
        }
    }
}

/// Makes a mount the root and lets everything else go.
fn enter(root: &OwnedFd) -> Result<(), Error> {
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::step("attach the root file system", error))?;
    mounts::swap_root(root).map_err(|error| Error::step("pivot_root", error))
}

/// What every container of Docker's has from its creation on.
fn prepare(root: Root<'_>) -> Result<(), Error> {
    mounts::mark_root(root)?;
    for path in ["/dev", "/proc", "/sys"] {
        match root.make_directory(path, 0o755, Links::Refuse) {
            // An image may have whatever it likes there.
            Ok(_) | Err(Errno::LOOP | Errno::NOTDIR | Errno::ROFS) => {}
            Err(error) => return Err(Error::step(format!("make {path}"), error)),
        }
    }
    Ok(())
}

/// Closes every descriptor from 3 on but these.
///
/// # Errors
/// What the kernel answers.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Error> {
    super::close_host_descriptors(kept, 0)
}
