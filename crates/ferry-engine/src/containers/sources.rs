//! What a container's mounts are made from, when it starts: folders of the host, volumes, images, another container's shared memory.
//!
//! Volumes and images are hostile: a path in them is resolved below their folder's descriptor, and the tree that was found travels as a
//! descriptor, so that nobody can put another thing in its place.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
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

    /// Mounts the volumes of a container that does not run, for work in its files. Blocks; on failure none of them is.
    pub(super) fn lend_volumes(&self, record: &Record) -> Result<LentVolumes> {
        let mut lent =
            LentVolumes { containers: self.clone(), names: Vec::new(), user: format!("{}/files", record.id) };
        for name in volumes(record) {
            self.inner.volumes.mount(name, &lent.user)?;
            lent.names.push(name.to_owned());
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
    pub(super) fn open_sources(&self, record: &Record, spec: &Spec, shm_of: Option<u32>) -> Result<Vec<Given>> {
        let place = |destination: &str| spec.mounts.iter().rposition(|mount| mount.destination == destination);
        let mut given = Vec::new();
        for (index, mount) in record.mounts.iter().enumerate() {
            let Some(tree) = self.unnamed_source(record, index, mount)? else { continue };
            given.extend(place(&mount.destination).map(|place| (place, tree)));
        }
        let own_shm = record.mounts.iter().any(|mount| mount.destination == "/dev/shm");
        if let (Some(pid), Some(index)) = (shm_of, place("/dev/shm").filter(|_| !own_shm)) {
            given.push((index, shared_memory_of(pid)?));
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
        let options =
            MountOptions { volatile: true, read_only: !(record.build_step && mount.writable), limited: false };
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
                fs::create_dir_all(source).context(format!("error while creating mount source path '{source}'"))?;
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

fn open_folder(path: &Path) -> Result<OwnedFd> {
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

fn open_below(root: impl AsFd, path: &str) -> std::result::Result<OwnedFd, Errno> {
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
fn shared_memory_of(pid: u32) -> Result<OwnedFd> {
    const TMPFS: u64 = 0x0102_1994;
    let take = move || -> std::io::Result<OwnedFd> {
        let mounts = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
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
    taken.context("cannot share the shared memory of the other container")
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
        };
        let text = check_flags(&mount).unwrap_err().text();
        assert_eq!(text, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive");
        assert!(check_flags(&MountRecord { writable: false, ..mount }).is_ok());
    }
}
