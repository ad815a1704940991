//! Giving labels to what containers find of the host's.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::error::{Context, Error, Result, os_text};

/// What belongs to the whole host: with another label it would not come up again.
const OF_THE_HOST: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Gives a folder or file that was named by a user a label, with everything in it. Docker's words.
pub(super) fn relabel_source(source: &Path, label: &str) -> Result<()> {
    let path = fs::canonicalize(source)
        .context(format!("error evaluating symlinks from mount source \"{}\"", source.display()))?;
    if is_of_the_host(&path, &homes()) {
        let path = path.display();
        return Err(Error::internal(format!(
            "error setting label on mount source '{path}': SELinux relabeling of {path} is not allowed"
        )));
    }
    // Nobody has put a link on the way since.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let tree = rustix::fs::openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let tree = tree.context(format!("error setting label on mount source '{}'", path.display()))?;
    relabel_tree(tree.as_fd(), &path.display().to_string(), label)
}

/// Gives what a descriptor stands for a label, with everything in it.
pub(super) fn relabel_tree(tree: BorrowedFd<'_>, name: &str, label: &str) -> Result<()> {
    ferry_sys::selinux::relabel(tree, label)
        .map_err(|error| Error::internal(format!("error setting label on mount source '{name}': {}", os_text(&error))))
}

/// Gives a file of the engine's own a label; one that is not there has none.
pub(super) fn relabel_own(file: &Path, label: &str) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(file, flags, Mode::empty()) {
        Ok(opened) => relabel_tree(opened.as_fd(), &file.display().to_string(), label),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).context(format!("cannot open {}", file.display())),
    }
}

fn is_of_the_host(path: &Path, homes: &[PathBuf]) -> bool {
    OF_THE_HOST.iter().any(|place| path == Path::new(place)) || homes.iter().any(|home| path == home)
}

/// The folders of those who started the daemon.
fn homes() -> Vec<PathBuf> {
    let user = std::env::var("SUDO_USER").ok();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_user = user.and_then(|user| home_of(&users, &user));
    std::env::var_os("HOME").map(PathBuf::from).into_iter().chain(of_user).filter(|home| home.is_absolute()).collect()
}

fn home_of(users: &str, user: &str) -> Option<PathBuf> {
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == user).then(|| fields.nth(4).map(PathBuf::from))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_host_is_not_relabelled() {
        let homes = [PathBuf::from("/home/me")];
        for path in ["/", "/usr", "/etc/", "/var/lib", "/home/me", "/tmp"] {
            assert!(is_of_the_host(Path::new(path), &homes), "{path}");
        }
        for path in ["/usr/src", "/home/me/work", "/srv/www"] {
            assert!(!is_of_the_host(Path::new(path), &homes), "{path}");
        }
        let error = relabel_source(Path::new("/usr/../etc"), "u:r:t:s0").unwrap_err().text();
        assert_eq!(error, "error setting label on mount source '/etc': SELinux relabeling of /etc is not allowed");
        assert!(relabel_source(Path::new("/none/such"), "u:r:t:s0").is_err());
        assert_eq!(
            home_of("root:x:0:0:root:/root:/bin/sh\nme:x:1:1::/home/me:/bin/sh\n", "me"),
            Some("/home/me".into())
        );
    }
}
