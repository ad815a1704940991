//! What a container's mounts are made from, when it starts: folders of the host, volumes, images, another container's shared memory.
//!
//! Volumes and images are hostile: a path in them is resolved below their folder's descriptor, and the tree that was found travels as a
//! descriptor, so that nobody can put another thing in its place.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_spec::runtime::Spec;
use ferry_store::MountOptions;
use ferry_sys::namespace::{self, Namespaces};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::Containers;
use super::record::{MountKind, MountRecord, Record};
use crate::devices::Devices;
use crate::error::{Context, Error, Result, os_text};

/// A detached tree of mounts, and which mount of the configuration it is for.
pub(super) type Given = (usize, OwnedFd);

/// Volumes that are mounted for work in files; dropping it lets go of them, which blocks.
pub(super) struct LentVolumes {
    containers: Containers,
    names: Vec<String>,
    user: String,
}

impl Drop for LentVolumes {
    fn drop(&mut self) {
        for name in &self.names {
            self.containers.inner.volumes.unmount(name, &self.user);
        }
    }
}

impl Containers {
    /// Mounts the volumes that something has to be mounted for. Blocks; on failure none of them is.
    pub(super) fn mount_volumes(&self, record: &Record) -> Result<()> {
        for name in volumes(record) {
            if let Err(error) = self.inner.volumes.mount(name, &record.id) {
                self.unmount_volumes(record);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Mounts the volumes of a container that does not run, for work in its files, and notes in `record` where those of plugins are. Blocks;
    /// on failure none of them is.
    pub(super) fn lend_volumes(&self, record: &mut Record) -> Result<LentVolumes> {
        let mut lent =
            LentVolumes { containers: self.clone(), names: Vec::new(), user: format!("{}/files", record.id) };
        for mount in &mut record.mounts {
            let MountKind::Volume { name, source, .. } = &mut mount.kind else { continue };
            if let Some(place) = self.inner.volumes.mount_anywhere(name, &lent.user)? {
                *source = place;
            }
            lent.names.push(name.clone());
        }
        Ok(lent)
    }

    /// Ends a container's use of its volumes' files. Blocks.
    pub(super) fn unmount_volumes(&self, record: &Record) {
        for name in volumes(record) {
            self.inner.volumes.unmount(name, &record.id);
        }
    }

    /// Opens what cannot be named by a path. `shm_of` is the process whose `/dev/shm` is shared. Blocks.
    pub(super) fn open_sources(
        &self,
        record: &Record,
        spec: &Spec,
        shm_of: Option<BorrowedFd<'_>>,
        rootfs: &OwnedFd,
    ) -> Result<Vec<Given>> {
        let place = |destination: &str| spec.mounts.iter().rposition(|mount| mount.destination == destination);
        let mut given = Vec::new();
        for (index, mount) in record.mounts.iter().enumerate() {
            let tree = match &mount.kind {
                MountKind::Bind { source, .. } if mount.own => {
                    owned_tree(source, !mount.non_recursive, &record.config.user, rootfs)?
                }
                _ => self.unnamed_source(record, index, mount)?,
            };
            let Some(tree) = tree else { continue };
            given.extend(place(&mount.destination).map(|place| (place, tree)));
        }
        let own_shm = record.mounts.iter().any(|mount| mount.destination == "/dev/shm");
        if let (Some(process), Some(index)) = (shm_of, place("/dev/shm").filter(|_| !own_shm)) {
            given.push((index, shared_memory_of(process)?));
        }
        Ok(given)
    }

    /// The tree of a mount that no path can name; its volume is mounted already. Blocks.
    pub(super) fn unnamed_source(&self, record: &Record, index: usize, mount: &MountRecord) -> Result<Option<OwnedFd>> {
        match &mount.kind {
            MountKind::Volume { source, subpath, .. } if !subpath.is_empty() => {
                let root = open_folder(Path::new(source))?;
                tree_below(root.as_fd(), source, subpath).map(Some)
            }
            MountKind::Image { subpath, .. } => self.image_tree(record, index, mount, subpath).map(Some),
            _ => Ok(None),
        }
    }

    fn image_tree(&self, record: &Record, index: usize, mount: &MountRecord, subpath: &str) -> Result<OwnedFd> {
        let MountKind::Image { content: Some(content), reference, .. } = &mount.kind else {
            return Err(Error::internal(format!("the image mounted at {} is not known", mount.destination)));
        };
        let folder = image_folder(&self.data_folder(&record.id), index);
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        for part in [&upper, &work] {
            fs::create_dir_all(part).context("cannot make the folders of an image mount")?;
        }
        let options = MountOptions {
            volatile: true,
            read_only: !(record.build_step && mount.writable),
            limited: false,
            label: record.mount_label(),
        };
        let root = self.inner.store.mount_rootfs(content.chain_id.as_ref(), &upper, &work, options);
        let root = root.context(format!("cannot mount image {reference}"))?;
        match subpath {
            "" => Ok(root),
            subpath if record.build_step => tree_in_root(root.as_fd(), subpath),
            subpath => tree_below(root.as_fd(), reference, subpath),
        }
    }

    /// Makes missing folders of `-v`, and checks that mounts can spread as they are asked to.
    pub(super) fn prepare_binds(&self, record: &Record) -> Result<()> {
        for mount in &record.mounts {
            let MountKind::Bind { source, create_source } = &mount.kind else { continue };
            if Path::new(source).symlink_metadata().is_err() {
                if !create_source {
                    return Err(Error::invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {source}"
                    )));
                }
                make_source(Path::new(source)).context(format!("error while creating mount source path '{source}'"))?;
            }
            check_flags(mount)?;
            // What is around the data root follows the host where it can, since nobody asked for it.
            let is_own_choice =
                mount.propagation == "rslave" && super::mounts::is_near(source, &self.inner.config.data_root);
            if !is_own_choice {
                check_propagation(source, &mount.propagation)?;
            }
        }
        Ok(())
    }
}

impl Containers {
    /// The names of devices that are registered by CDI. Blocks.
    pub(crate) fn device_names(&self) -> Vec<String> {
        let listing = Devices::new(self.inner.config.cdi_spec_dirs.clone()).list();
        listing.devices.into_iter().map(|device| device.id).collect()
    }

    /// Devices of drivers; what they mount may take the place of a mount that is there.
    pub(super) fn inject_devices(&self, record: &Record, spec: &mut Spec, given: &mut Vec<Given>) -> Result<()> {
        let requests = record.host_config.device_requests.as_deref().unwrap_or_default();
        let before = spec.mounts.clone();
        Devices::new(self.inner.config.cdi_spec_dirs.clone()).inject(requests, spec)?;
        given.retain_mut(|(index, _)| {
            let now = spec.mounts.iter().position(|mount| *mount == before[*index]);
            *index = now.unwrap_or(usize::MAX);
            *index != usize::MAX
        });
        Ok(())
    }
}

/// Folder of an image mount in the container's.
pub(super) fn image_folder(container: &Path, index: usize) -> std::path::PathBuf {
    container.join("images").join(index.to_string())
}

fn volumes(record: &Record) -> impl Iterator<Item = &str> {
    record.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some(name.as_str()),
        _ => None,
    })
}

pub(super) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).context(format!("cannot open {}", path.display()))
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// The tree of mounts at a path below a folder, whose name is for messages.
fn tree_below(root: impl AsFd, name: &str, subpath: &str) -> Result<OwnedFd> {
    let found = open_below(&root, subpath).map_err(|error| match error {
        Errno::XDEV => {
            Error::invalid(format!("path concatenation escapes the base directory, base: {name}, subpath: {subpath}"))
        }
        error => {
            let missing = first_missing(&root, subpath);
            let text = os_text(&error.into());
            Error::not_found(format!("cannot access path {name}/{subpath}: lstat {name}/{missing}: {text}"))
        }
    })?;
    open_tree(found, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE)
        .context(format!("cannot take {subpath} of {name}"))
}

/// The tree of mounts at a path of a build's tree, whose links are followed inside of it.
fn tree_in_root(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    let found =
        ferry_sys::path::resolve_in_root(&root, path, OFlags::PATH, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::not_found(format!("\"{path}\": not found")),
            errno => Error::internal(format!("cannot open {path}")).with_source(std::io::Error::from(errno)),
        })?;
    open_tree(found, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH).context(format!("cannot take {path}"))
}

pub(super) fn open_below(root: impl AsFd, path: &str) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The shortest beginning of a path that is not there.
fn first_missing(root: impl AsFd, path: &str) -> &str {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
    let mut beginnings = ends.map(|end| &path[..end]);
    beginnings.find(|beginning| open_below(&root, beginning).is_err()).unwrap_or(path)
}

/// The file system at another container's `/dev/shm`.
///
/// Only a thread in that container's mounts may copy one of them; it does nothing else there, and its root is the container's, so that no
/// link leads it out.
fn shared_memory_of(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    const TMPFS: u64 = 0x0102_1994;
    const FAILED: &str = "cannot share the shared memory of the other container";
    let mounts = namespace::of_process(process, "mnt").context(FAILED)?;
    let take = move || -> std::io::Result<OwnedFd> {
        ferry_sys::path::unshare_working_folder()?;
        namespace::join(mounts.as_fd(), Namespaces::MOUNT)?;
        let tree = open_tree(CWD, "/dev/shm", CLONE | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)?;
        if u64::try_from(rustix::fs::fstatfs(&tree)?.f_type) != Ok(TMPFS) {
            return Err(std::io::Error::other("/dev/shm is no tmpfs"));
        }
        Ok(tree)
    };
    let thread = std::thread::Builder::new().name("shm".to_owned()).spawn(take).context("cannot start a thread")?;
    let taken = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    taken.context(FAILED)
}

/// A folder of the host whose owner is shown as the container's user, and the other way round; `None` where they are the same.
fn owned_tree(source: &str, recursive: bool, user: &str, rootfs: &OwnedFd) -> Result<Option<OwnedFd>> {
    let Some((uid, gid)) = crate::execs::user::numbers(rootfs, user) else {
        // The start will say what is wrong with the user.
        return Ok(None);
    };
    let mut flags = CLONE;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source, flags).context(format!("cannot take {source}"))?;
    let owner = rustix::fs::fstat(&tree).context(format!("cannot look at {source}"))?;
    if (owner.st_uid, owner.st_gid) == (uid, gid) {
        return Ok(None);
    }
    let mapped = namespace::user_namespace(&swapped(owner.st_uid, uid), &swapped(owner.st_gid, gid))
        .and_then(|ids| ferry_sys::mount::map_ids(&tree, &ids, recursive));
    mapped.map_err(|error| {
        Error::invalid(format!(
            "mount option own: the files of {source} cannot be shown as another user's ({}); its file system, or one mounted below, has \
             no idmapped mounts. Leave `own` out, or let the files belong to {uid}:{gid}",
            os_text(&error)
        ))
    })?;
    Ok(Some(tree))
}

/// A map of all ids onto themselves but for two, which change places.
fn swapped(one: u32, other: u32) -> String {
    let mut lines = String::new();
    let mut line = |inside: u32, outside: u32, count: u32| {
        if count > 0 {
            lines.push_str(&format!("{inside} {outside} {count}\n"));
        }
    };
    let (low, high) = (one.min(other), one.max(other));
    if low == high {
        return format!("0 0 {}\n", u32::MAX);
    }
    line(0, 0, low);
    line(low, high, 1);
    line(low + 1, low + 1, high - low - 1);
    line(high, low, 1);
    line(high + 1, high + 1, u32::MAX - high - 1);
    lines
}

/// Makes missing folders, which belong to the owner of the folder they are made in: whoever may write there may write to them.
fn make_source(path: &Path) -> std::io::Result<()> {
    let mut missing = Vec::new();
    let mut there = path;
    while there.symlink_metadata().is_err() {
        missing.push(there);
        there = there.parent().unwrap_or_else(|| Path::new("/"));
    }
    let owner = fs::metadata(there)?;
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        if let Err(error) = std::os::unix::fs::lchown(folder, Some(owner.uid()), Some(owner.gid())) {
            tracing::warn!(folder = %folder.display(), %error, "the folder of a mount belongs to root: its file system knows no owners");
        }
    }
    Ok(())
}

/// Contradictions that only an API client can ask for.
fn check_flags(mount: &MountRecord) -> Result<()> {
    let conflict = match (mount.writable, mount.read_only_non_recursive, mount.read_only_force_recursive) {
        (true, true, _) => "!ReadOnly && BindOptions.ReadOnlyNonRecursive",
        (true, _, true) => "!ReadOnly && BindOptions.ReadOnlyForceRecursive",
        (_, true, true) => "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        _ => return Ok(()),
    };
    Err(Error::internal(format!("mount options conflict: {conflict}")))
}

/// A mount spreads only where the one it is taken from does.
fn check_propagation(source: &str, propagation: &str) -> Result<()> {
    let (wanted, what): (&[&str], _) = match propagation {
        "shared" | "rshared" => (&["shared:"], "a shared mount"),
        "slave" | "rslave" => (&["shared:", "master:"], "a shared or slave mount"),
        _ => return Ok(()),
    };
    let path = fs::canonicalize(source).map_err(|error| Error::internal(format!("{source}: {}", os_text(&error))))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
    let (mount_point, optional) =
        mount_of(&mounts, &path).ok_or_else(|| Error::internal(format!("Can't find mount point of {source}")))?;
    if optional.split(' ').any(|field| wanted.iter().any(|word| field.starts_with(word))) {
        return Ok(());
    }
    Err(Error::internal(format!("path {source} is mounted on {mount_point} but it is not {what}")))
}

/// The mount that a path lies on: where it is mounted, and its optional fields in the text of `mountinfo`.
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let mut found: Option<(&str, &str)> = None;
    for line in mountinfo.lines() {
        let (before, _) = line.split_once(" - ")?;
        let mut fields = before.splitn(7, ' ').skip(4);
        let Some(mount_point) = fields.next() else { continue };
        let optional = fields.nth(1).unwrap_or_default();
        let longest = found.is_none_or(|(other, _)| mount_point.len() >= other.len());
        if longest && path.starts_with(mount_point) {
            found = Some((mount_point, optional));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
22 21 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw
23 21 0:6 / /run rw shared:2 master:1 - tmpfs tmpfs rw
";

    #[test]
    fn the_longest_mount_point_counts() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(of("/home"), ("/", "shared:1"));
        assert_eq!(of("/dev/shm"), ("/dev", ""));
        assert_eq!(of("/run/x"), ("/run", "shared:2 master:1"));
        assert_eq!(of("/runner"), ("/", "shared:1"));
    }

    #[test]
    fn paths_stay_below_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("a/out")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/in")).unwrap();
        let root = open_folder(dir.path()).unwrap();
        assert!(open_below(&root, "a/in").is_ok());
        let error = tree_below(&root, "/v", "a/out").unwrap_err().text();
        assert_eq!(error, "path concatenation escapes the base directory, base: /v, subpath: a/out");
        let error = tree_below(&root, "/v", "a/none/c").unwrap_err().text();
        assert_eq!(error, "cannot access path /v/a/none/c: lstat /v/a/none: no such file or directory");
    }

    #[test]
    fn two_ids_change_places_and_no_other() {
        assert_eq!(swapped(1000, 0), "0 1000 1\n1 1 999\n1000 0 1\n1001 1001 4294966294\n");
        assert_eq!(swapped(5, 6), "0 0 5\n5 6 1\n6 5 1\n7 7 4294967288\n");
        assert_eq!(swapped(7, 7), "0 0 4294967295\n");
    }

    #[test]
    fn contradictions_are_named() {
        let mount = MountRecord {
            kind: MountKind::Bind { source: "/a".into(), create_source: false },
            destination: "/b".into(),
            mode: String::new(),
            writable: true,
            propagation: String::new(),
            non_recursive: false,
            read_only_non_recursive: true,
            read_only_force_recursive: false,
            own: false,
        };
        let text = check_flags(&mount).unwrap_err().text();
        assert_eq!(text, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive");
        assert!(check_flags(&MountRecord { writable: false, ..mount }).is_ok());
    }
}
