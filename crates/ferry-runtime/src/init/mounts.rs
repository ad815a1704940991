//! The container's mounts, by descriptors alone.
//!
//! Sources are taken from the host's view first, each as a detached tree. The root is then put on top of `/`, where paths of the host
//! still resolve as before and only its descriptor leads into it; mounts go in by descriptors of their targets; last, it becomes the root
//! and the host's view is let go.

use std::os::fd::{AsFd, OwnedFd};

use ferry_sys::mount::{self, Attributes, Propagation};
use ferry_sys::namespace::Namespaces;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::joined_proc::is_proc;
use super::{CgroupEntry, CgroupView};
use crate::container::Rootfs;
use crate::error::{Error, cause_text};
use crate::plan::{MountPlan, MountSource, Plan};
use crate::root::{self, Links, Root};

/// Detached trees of what comes from the host.
pub(super) struct Trees {
    root: OwnedFd,
    /// One per mount of the plan; `None` for those that are not bind mounts.
    binds: Vec<Option<OwnedFd>>,
    /// Each procfs that was made beforehand, in the order of the plan.
    procs: Vec<OwnedFd>,
    /// The container has no cgroup namespace.
    read_from_host: bool,
}

/// Files below `/proc` that a mount may cover.
const MOUNTABLE_IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Sets the propagation of the host's view and takes out of it what the container gets.
pub(super) fn collect(
    plan: &Plan,
    rootfs: Rootfs,
    mut given: Vec<(usize, OwnedFd)>,
    procs: Vec<OwnedFd>,
) -> Result<Trees, Error> {
    let (propagation, _) = plan.root_propagation.unwrap_or((Propagation::Slave, true));
    // Shared mounts stay shared only for a container which is asked to spread its own.
    let propagation = if propagation == Propagation::Unbindable { Propagation::Slave } else { propagation };
    let keeps_shared = propagation == Propagation::Shared;
    if !keeps_shared {
        spread(propagation)?;
    }
    let mut take = |index: usize| {
        let found = given.iter().position(|(at, _)| *at == index)?;
        Some(given.swap_remove(found).1)
    };
    let binds = plan.mounts.iter().enumerate().map(|(index, mount)| bind_tree(mount, take(index)));
    let binds = binds.collect::<Result<_, _>>()?;
    let root = match rootfs {
        Rootfs::Mount(fd) => fd,
        Rootfs::Path(path) => clone_tree(CWD, &path, true)
            .map_err(|error| Error::step(format!("open the root file system {}", path.display()), error))?,
    };
    change(&root, c"", Propagation::Private, true)
        .map_err(|error| Error::step("make the root file system private", error))?;
    if keeps_shared {
        // What was taken out stays shared; what is let go of below must not go from the host.
        spread(Propagation::Slave)?;
    }
    let read_from_host = !plan.new_namespaces.contains(Namespaces::CGROUP);
    Ok(Trees { root, binds, procs, read_from_host })
}

fn spread(propagation: Propagation) -> Result<(), Error> {
    change(CWD, c"/", propagation, true).map_err(|error| Error::step("set the propagation of the host's mounts", error))
}

pub(super) fn bind_tree(mount: &MountPlan, given: Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
    let MountSource::Bind { path, recursive } = &mount.source else { return Ok(None) };
    let step = |cause: std::io::Error| mounting(&path.display().to_string(), &mount.destination, &cause_text(&cause));
    let tree = match given {
        Some(tree) => tree,
        None => clone_tree(CWD, path, *recursive).map_err(|error| step(error.into()))?,
    };
    for (attributes, recursive) in [(mount.attributes, false), (mount.recursive_attributes, true)] {
        if !attributes.is_empty() {
            mount::set_attributes(&tree, c"", attributes, recursive).map_err(step)?;
        }
    }
    if let Some((propagation, recursive)) = mount.propagation {
        change(&tree, c"", propagation, recursive).map_err(step)?;
    }
    Ok(Some(tree))
}

/// Puts the root on top of a folder of the host's view. Returns its descriptor.
pub(super) fn attach_root(trees: &Trees, at: &std::path::Path) -> Result<OwnedFd, Error> {
    let step = |error: Errno| Error::step("attach the root file system", error);
    // A shared parent would refuse the change of root, and the folder's own mount, too.
    let whole = at != std::path::Path::new("/");
    change(CWD, c"/", Propagation::Private, whole).map_err(|error| Error::step("make / private", error))?;
    move_mount(&trees.root, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(step)?;
    rustix::io::fcntl_dupfd_cloexec(&trees.root, 3).map_err(step)
}

/// Makes what programs find in every container of Docker's though their images bring it not.
pub(super) fn mark_root(root: Root<'_>) -> Result<(), Error> {
    let make = || -> Result<(), Errno> {
        root.make_file("/.dockerenv", 0o755, Links::Refuse)?;
        let etc = root.make_directory("/etc", 0o755, Links::Follow)?;
        rustix::fs::symlinkat("/proc/mounts", &etc, "mtab")
    };
    match make() {
        Ok(()) | Err(Errno::ROFS | Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::step("make /.dockerenv and /etc/mtab", error)),
    }
}

/// The file systems by which the kernel shows itself, where the container has them, by their mounts.
#[derive(Debug, Default)]
pub(super) struct SystemMounts {
    pub(super) proc: Option<OwnedFd>,
    pub(super) sys: Option<OwnedFd>,
}

/// Makes the mounts of the plan in their order.
pub(super) fn make(
    plan: &Plan,
    root: Root<'_>,
    trees: Trees,
    cgroups: &[CgroupView],
    cgroup: &mut CgroupEntry<'_>,
) -> Result<SystemMounts, Error> {
    let mut system = SystemMounts::default();
    let mut procs = trees.procs.into_iter();
    for (mount, tree) in plan.mounts.iter().zip(trees.binds) {
        let source = match &mount.source {
            MountSource::Bind { path, .. } => path.display().to_string(),
            MountSource::Cgroup { .. } => "cgroup".into(),
            MountSource::FileSystem { source, .. } => source.clone(),
        };
        let made = match (&mount.source, tree) {
            (MountSource::Bind { .. }, Some(tree)) => bind(root, mount, &tree),
            (MountSource::Bind { .. }, None) => Err(Failed("its source was not opened".into())),
            (MountSource::FileSystem { kind, .. }, _) => {
                let ready = if is_proc(mount) { procs.next() } else { None };
                file_system(root, mount, ready).map(|made| match (kind.as_str(), mount.destination.as_str()) {
                    ("proc", "/proc") => system.proc = Some(made),
                    ("sysfs", "/sys") => system.sys = Some(made),
                    _ => {}
                })
            }
            (MountSource::Cgroup { read_only }, _) => {
                cgroup.enter()?;
                let view = if trees.read_from_host { View::Host } else { View::Namespace };
                cgroup_tree(
                    root,
                    mount,
                    CgroupTree {
                        hierarchies: cgroups,
                        view,
                        read_only: *read_only,
                        label: plan.mount_label.as_deref(),
                    },
                )
            }
        };
        made.map_err(|Failed(cause)| mounting(&source, &mount.destination, &cause))?;
    }
    Ok(system)
}

pub(super) fn mounting(source: &str, destination: &str, cause: &str) -> Error {
    Error::internal(format!("error mounting {source:?} to rootfs at {destination:?}: {cause}"))
}

/// The cause of a failed mount, as text.
pub(super) struct Failed(pub(super) String);

impl<E: Into<std::io::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed(cause_text(&error.into()))
    }
}

pub(super) fn bind(root: Root<'_>, mount: &MountPlan, tree: &OwnedFd) -> Result<(), Failed> {
    let target = if root::is_directory(tree)? {
        root.make_directory(&mount.destination, 0o755, Links::Follow)?
    } else {
        root.make_file(&mount.destination, 0o755, Links::Follow)?
    };
    let whole_proc = mount.destination.trim_end_matches('/') == "/proc" && root::is_in_proc(tree)?;
    if root::is_in_proc(&target)? && !whole_proc && !MOUNTABLE_IN_PROC.contains(&mount.destination.as_str()) {
        return Err(Failed(format!("{:?} cannot be mounted because it is inside /proc", mount.destination)));
    }
    Ok(attach(tree, &target)?)
}

/// Mounts a file system, one that is `ready` or a new one.
fn file_system(root: Root<'_>, mount: &MountPlan, ready: Option<OwnedFd>) -> Result<OwnedFd, Failed> {
    let MountSource::FileSystem { kind, .. } = &mount.source else { return Err(Failed("it is no file system".into())) };
    // The places that programs trust must be where they seem to be; elsewhere an image may use links as it likes.
    let trusted = ["/proc", "/sys", "/dev"]
        .iter()
        .any(|top| mount.destination == *top || mount.destination.starts_with(&format!("{top}/")));
    let links = if trusted { Links::Refuse } else { Links::Follow };
    let target = match root.make_directory(&mount.destination, 0o755, links) {
        Err(Errno::LOOP | Errno::NOTDIR) if links == Links::Refuse => {
            return Err(Failed(format!("filesystem {kind:?} must be mounted on ordinary directory")));
        }
        other => other?,
    };
    if kind != "proc" && root::is_in_proc(&target)? {
        return Err(Failed(format!("{:?} cannot be mounted because it is inside /proc", mount.destination)));
    }
    let detached = match ready {
        Some(ready) => ready,
        None => new_mount(mount)?,
    };
    if let Some((propagation, recursive)) = mount.propagation {
        change(&detached, c"", propagation, recursive)?;
    }
    if let Some(label) = &mount.root_label {
        let folder =
            rustix::fs::openat(&detached, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        ferry_sys::selinux::set_label(folder.as_fd(), label)?;
    }
    attach(&detached, &target)?;
    Ok(detached)
}

/// Makes the file system of a mount, detached.
fn new_mount(mount: &MountPlan) -> Result<OwnedFd, Failed> {
    let MountSource::FileSystem { kind, source, parameters } = &mount.source else {
        return Err(Failed("it is no file system".into()));
    };
    // The device nodes go in before it becomes read-only.
    let deferred = if mount.destination == "/dev" { mount::READ_ONLY } else { 0 };
    new_file_system(kind, source, parameters, mount.attributes.set & !deferred)
}

/// Makes a procfs of the namespace that the calling process lives in, detached.
pub(super) fn make_proc(mount: &MountPlan) -> Result<OwnedFd, Error> {
    new_mount(mount).map_err(|Failed(cause)| mounting("proc", &mount.destination, &cause))
}

/// Makes an empty folder the root of the calling process, which has a mount namespace of its own.
pub(super) fn enter_empty_root() -> Result<(), Error> {
    let step = |error: Errno| Error::step("enter an empty root", error);
    change(CWD, c"/", Propagation::Private, true).map_err(|error| Error::step("enter an empty root", error))?;
    let empty = empty_read_only(None)?;
    move_mount(&empty, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(step)?;
    swap_root(&empty).map_err(step)
}

/// Makes a file system as a detached mount.
fn new_file_system(
    kind: &str,
    source: &str,
    parameters: &[(String, Option<String>)],
    attributes: u64,
) -> Result<OwnedFd, Failed> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        let text = cause_text(&error.into());
        Failed(if error == Errno::NODEV { format!("unknown file system {kind:?}: {text}") } else { text })
    })?;
    let configure = || -> Result<(), Errno> {
        fsconfig_set_string(context.as_fd(), "source", source)?;
        for (name, value) in parameters {
            match value {
                Some(value) => fsconfig_set_string(context.as_fd(), name.as_str(), value.as_str())?,
                None => fsconfig_set_flag(context.as_fd(), name.as_str())?,
            }
        }
        fsconfig_create(context.as_fd())
    };
    configure().map_err(|error| Failed(with_kernel_words(&context, error)))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(Failed::from)
}

/// The errno, and what the kernel has to say about it.
fn with_kernel_words(context: &OwnedFd, error: Errno) -> String {
    let mut words = [0u8; 512];
    let text = cause_text(&error.into());
    match rustix::io::read(context, &mut words) {
        Ok(length) if length > 2 => format!("{text} ({})", String::from_utf8_lossy(&words[2..length]).trim()),
        // No words are no failure of their own.
        _ => text,
    }
}

/// Where the container's view of its cgroups comes from.
#[derive(Clone, Copy)]
enum View {
    /// Its namespace: its own cgroup is the root.
    Namespace,
    /// The host's tree.
    Host,
}

/// What a container sees of its cgroups.
struct CgroupTree<'a> {
    hierarchies: &'a [CgroupView],
    view: View,
    read_only: bool,
    /// SELinux label of the folder around several hierarchies.
    label: Option<&'a str>,
}

fn cgroup_tree(root: Root<'_>, mount: &MountPlan, tree: CgroupTree<'_>) -> Result<(), Failed> {
    let CgroupTree { hierarchies, view, read_only, label } = tree;
    let target = root.make_directory(&mount.destination, 0o755, Links::Refuse)?;
    let attributes = mount.attributes.set;
    if let [CgroupView { name: None, .. }] = hierarchies {
        // Its root is that of the cgroup namespace, be it the container's or the host's.
        let tree = new_file_system("cgroup2", "cgroup", &[], attributes)?;
        return Ok(attach(&tree, &target)?);
    }
    let writable = attributes & !mount::READ_ONLY;
    let mut parameters = vec![("mode".to_owned(), Some("755".to_owned()))];
    parameters.extend(label.map(context));
    let folder = new_file_system("tmpfs", "tmpfs", &parameters, writable)?;
    attach(&folder, &target)?;
    for hierarchy in hierarchies {
        let Some(name) = &hierarchy.name else { continue };
        rustix::fs::mkdirat(&folder, name.as_str(), Mode::from_raw_mode(0o755))?;
        let target = rustix::fs::openat(&folder, name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let tree = match view {
            View::Namespace => new_file_system("cgroup", "cgroup", &hierarchy.parameters, attributes)?,
            View::Host => host_cgroup(&hierarchy.host_path, attributes)?,
        };
        attach(&tree, &target)?;
        for link in hierarchy.links.iter().filter(|link| *link != name) {
            rustix::fs::symlinkat(name.as_str(), &folder, link.as_str())?;
        }
    }
    if read_only {
        set(&folder, mount::READ_ONLY, false)?;
    }
    Ok(())
}

fn host_cgroup(path: &std::path::Path, attributes: u64) -> Result<OwnedFd, Failed> {
    let tree = clone_tree(CWD, path, false)?;
    set(&tree, attributes, false)?;
    Ok(tree)
}

/// What has to wait until everything is in its place.
pub(super) fn finish(plan: &Plan, root: Root<'_>) -> Result<(), Error> {
    for mount in plan.mounts.iter().filter(|mount| mount.destination == "/dev") {
        if matches!(mount.source, MountSource::FileSystem { .. }) && mount.attributes.set & mount::READ_ONLY != 0 {
            let step = |error: std::io::Error| Error::step("make /dev read-only", error);
            let dev = root.locate("/dev", Links::Refuse).map_err(|error| step(error.into()))?;
            set(&dev, mount::READ_ONLY, false).map_err(step)?;
        }
    }
    Ok(())
}

/// Makes the container's root the root, and lets the host's view go.
pub(super) fn pivot(plan: &Plan, root: &OwnedFd) -> Result<(), Error> {
    let step = |error: Errno| Error::step("pivot_root", error);
    if plan.readonly_root {
        set(root, mount::READ_ONLY, false)
            .map_err(|error| Error::step("make the root file system read-only", error))?;
    }
    match swap_root(root) {
        // Nothing can be pivoted away from the first file system of a boot.
        Err(Errno::INVAL) if plan.may_change_root => change_root(root).map_err(step)?,
        other => other.map_err(step)?,
    }
    if let Some((propagation, recursive)) = plan.root_propagation {
        change(CWD, c"/", propagation, recursive)
            .map_err(|error| Error::step("set the propagation of the root file system", error))?;
    }
    Ok(())
}

pub(super) fn swap_root(root: &OwnedFd) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    // The old root comes to lie on top of the new one, where "." finds it again.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Makes the root the root where it cannot be pivoted into: the old one stays below it, without the file systems that would give most away.
fn change_root(root: &OwnedFd) -> Result<(), Errno> {
    for path in ["/proc", "/sys"] {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            // It was not mounted.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::process::fchdir(root)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

/// Copies a tree of mounts, detached.
pub(super) fn clone_tree(dir: impl AsFd, path: &std::path::Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(dir, path, flags)
}

/// Puts a detached tree on what `target` names.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// The parameter by which all files of a file system have one SELinux label.
fn context(label: &str) -> (String, Option<String>) {
    ("context".to_owned(), Some(label.to_owned()))
}

/// Makes an empty file system that cannot be written, as a detached mount.
pub(super) fn empty_read_only(label: Option<&str>) -> Result<OwnedFd, Error> {
    let mut parameters =
        vec![("nr_blocks".to_owned(), Some("1".to_owned())), ("nr_inodes".to_owned(), Some("1".to_owned()))];
    parameters.extend(label.map(context));
    let attributes = mount::READ_ONLY | mount::NO_SUID | mount::NO_DEV | mount::NO_EXEC;
    new_file_system("tmpfs", "tmpfs", &parameters, attributes)
        .map_err(|Failed(cause)| Error::internal(format!("make an empty file system: {cause}")))
}

pub(super) fn set(tree: impl AsFd, attributes: u64, recursive: bool) -> std::io::Result<()> {
    mount::set_attributes(tree, c"", Attributes { set: attributes, ..Attributes::default() }, recursive)
}

pub(super) fn change(
    dir: impl AsFd,
    path: &std::ffi::CStr,
    propagation: Propagation,
    recursive: bool,
) -> std::io::Result<()> {
    let attributes = Attributes { propagation: Some(propagation), ..Attributes::default() };
    mount::set_attributes(dir, path, attributes, recursive)
}
