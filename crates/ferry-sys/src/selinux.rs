//! SELinux: whether the kernel confines by it, and labels of files.
//!
//! Leaves out which label what gets: that is for callers to know. Trees of files are hostile: they are walked by descriptors, no link is followed,
//! and of a name only the last part is left to be looked up, in its folder's descriptor.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::vec;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatVfsMountFlags, XattrFlags};
use rustix::io::Errno;

use crate::tree::shows_the_kernel;

/// The attribute that keeps a file's label.
pub const ATTRIBUTE: &CStr = c"security.selinux";

/// `SELINUX_MAGIC`.
const MAGIC: u64 = 0xf97c_ff8c;
/// What every process is called while no policy is loaded.
const WITHOUT_POLICY: &[u8] = b"kernel";
/// As deep as folders may lie in each other: each takes a descriptor while what is in it is labelled.
const MAX_DEPTH: usize = 1024;

/// Whether the kernel confines by SELinux: its file system is there and can be written, and a policy is loaded. Found out once.
pub fn is_enabled() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    *ENABLED.get_or_init(|| {
        is_mounted()
            && !fs::read("/proc/thread-self/attr/current").is_ok_and(|context| trimmed(&context) == WITHOUT_POLICY)
    })
}

fn is_mounted() -> bool {
    if is_selinuxfs(Path::new("/sys/fs/selinux")) {
        return true;
    }
    let known = fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.ends_with("\tselinuxfs")));
    known
        && fs::read_to_string("/proc/self/mountinfo")
            .is_ok_and(|text| mounts_of_selinuxfs(&text).any(|place| is_selinuxfs(&place)))
}

fn is_selinuxfs(place: &Path) -> bool {
    let is_it = rustix::fs::statfs(place).is_ok_and(|found| (found.f_type as u64) & 0xffff_ffff == MAGIC);
    is_it && rustix::fs::statvfs(place).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Where `mountinfo` says that it is mounted.
fn mounts_of_selinuxfs(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    let lines = mountinfo.lines().filter(|line| line.contains(" - selinuxfs "));
    lines.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from)
}

/// A label without the zero byte that the kernel puts at its end.
fn trimmed(label: &[u8]) -> &[u8] {
    label.strip_suffix(b"\0").unwrap_or(label)
}

/// Gives a file or folder, by a descriptor that may be a mere location, and everything in it a label; itself last. File systems that keep no
/// labels are left as they are, and what has the label already is not touched.
///
/// # Errors
/// What the kernel answers, and for folders that lie too deep in each other.
pub fn relabel(root: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::statat(root, c"", AtFlags::EMPTY_PATH)?.st_mode).is_dir() {
        let folder = rustix::fs::openat(root, c".", FOLDER, Mode::empty())?;
        relabel_below(folder, label)?;
    }
    let itself = format!("/proc/self/fd/{}", root.as_raw_fd());
    let has = |buffer: &mut [u8]| rustix::fs::getxattr(&itself, ATTRIBUTE, buffer);
    set_unless_there(label, has, || rustix::fs::setxattr(&itself, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))
}

/// Gives one file or folder, and nothing in it, a label.
///
/// # Errors
/// What the kernel answers.
pub fn set_label(file: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A folder that is being worked on: its name in the one above, and what is still to do in it.
struct Level {
    name: CString,
    folder: OwnedFd,
    left: vec::IntoIter<CString>,
}

fn relabel_below(root: OwnedFd, label: &str) -> io::Result<()> {
    let mut levels = vec![Level { name: CString::default(), left: names(root.as_fd())?.into_iter(), folder: root }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.next() else {
            let done = levels.pop();
            if let (Some(done), Some(above)) = (done, levels.last()) {
                label_at(above.folder.as_fd(), &done.name, label)?;
            }
            continue;
        };
        match rustix::fs::openat(&level.folder, &name, FOLDER, Mode::empty()) {
            Ok(folder) if !shows_the_kernel(folder.as_fd())? => {
                if levels.len() == MAX_DEPTH {
                    return Err(io::Error::other(format!("folders lie more than {MAX_DEPTH} deep in each other")));
                }
                let left = names(folder.as_fd())?.into_iter();
                levels.push(Level { name, folder, left });
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => label_at(level.folder.as_fd(), &name, label)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// There is no call for links and devices that takes a descriptor; by way of its folder's descriptor the name is all that is looked up.
fn label_at(folder: BorrowedFd<'_>, name: &CStr, label: &str) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let has = |buffer: &mut [u8]| rustix::fs::lgetxattr(&path[..], ATTRIBUTE, buffer);
    set_unless_there(label, has, || rustix::fs::lsetxattr(&path[..], ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))
}

fn set_unless_there(
    label: &str,
    has: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    set: impl FnOnce() -> rustix::io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [0u8; 512];
    if has(&mut buffer).is_ok_and(|length| trimmed(&buffer[..length]) == label.as_bytes()) {
        return Ok(());
    }
    match set() {
        // Gone meanwhile, or in a file system that keeps none.
        Ok(()) | Err(Errno::NOENT | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mounts_are_found_among_others() {
        let mountinfo = "22 1 0:20 / /sys rw - sysfs sysfs rw\n\
                         30 22 0:26 / /sys/fs/selinux rw,nosuid - selinuxfs selinuxfs rw\n\
                         31 1 0:27 / /odd\\040place rw shared:3 - selinuxfs none rw\n";
        let found: Vec<_> = mounts_of_selinuxfs(mountinfo).collect();
        assert_eq!(found, [Path::new("/sys/fs/selinux"), Path::new("/odd\\040place")]);
        assert_eq!(trimmed(b"kernel\0"), WITHOUT_POLICY);
        assert!(!is_selinuxfs(Path::new("/proc")));
    }

    fn label_of(path: &Path) -> Option<String> {
        let mut buffer = [0u8; 128];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut buffer[..]).ok()?;
        Some(String::from_utf8_lossy(trimmed(&buffer[..length])).into_owned())
    }

    /// The attribute can be set by root whether the kernel has SELinux in use or not.
    #[test]
    fn trees_are_labelled_and_no_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("ferry-sys-selinux-{}", std::process::id()));
        let (tree, outside) = (dir.join("tree"), dir.join("outside"));
        fs::create_dir_all(tree.join("a/b/c")).expect("folders");
        fs::create_dir_all(outside.join("d")).expect("folders");
        fs::write(tree.join("a/b/file"), b"").expect("file");
        symlink(&outside, tree.join("a/out")).expect("link");
        let root = rustix::fs::open(&tree, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("root");
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        match rustix::fs::lsetxattr(&dir, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
            Ok(()) => {}
            // A container's root may not.
            Err(_) => return fs::remove_dir_all(dir).expect("clean"),
        }
        relabel(root.as_fd(), label).expect("labels");
        for path in ["", "a", "a/b", "a/b/c", "a/b/file", "a/out"] {
            let found = label_of(&tree.join(path));
            // A link keeps attributes in some file systems alone.
            assert!(found.as_deref() == Some(label) || path == "a/out", "{path}: {found:?}");
        }
        assert_ne!(label_of(&outside).as_deref(), Some(label));
        assert_ne!(label_of(&outside.join("d")).as_deref(), Some(label));
        let file =
            rustix::fs::open(tree.join("a/b/file"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("file");
        relabel(file.as_fd(), "a:b:c").expect("label of one file");
        assert_eq!(label_of(&tree.join("a/b/file")).as_deref(), Some("a:b:c"));
        fs::remove_dir_all(dir).expect("clean");
    }
}
