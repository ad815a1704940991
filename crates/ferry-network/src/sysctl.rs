//! Network sysctls of the calling thread's namespace.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use crate::error::Error;

/// Namespaces that are looked up in one instance of `/proc`.
const SHARED_BY: u32 = 64;

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Reads a sysctl below `net/`; none when the kernel does not have it.
pub(crate) fn read(name: &str) -> Option<String> {
    fs::read_to_string(path(name)).ok().map(|text| text.trim().to_owned())
}

/// Tells whether the kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    path("ipv6").exists()
}

/// Writes a sysctl below `net/`.
pub(crate) fn write(name: &str, value: &str) -> Result<(), Error> {
    fs::write(path(name), value).map_err(Error::file("write", path(name)))
}

/// Writes a sysctl that a kernel without IPv6 does not have.
pub(crate) fn write_if_present(name: &str, value: &str) -> Result<(), Error> {
    match fs::write(path(name), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("write", path(name))(error)),
        _ => Ok(()),
    }
}

/// Writes a sysctl of a container's namespace, in which the calling thread is.
pub(crate) fn write_inside(name: &str, value: &str) -> Result<(), Error> {
    let written = match instance() {
        Some(proc) => write_below(&proc, name, value),
        None => fs::write(path(name), value),
    };
    written.map_err(Error::file("write", path(name)))
}

/// The same for one that a kernel without IPv6 does not have.
pub(crate) fn write_inside_if_present(name: &str, value: &str) -> Result<(), Error> {
    match write_inside(name, value) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn write_below(proc: &OwnedFd, name: &str, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(proc.as_fd(), format!("sys/net/{name}"), flags, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

/// An instance of `/proc` of our own, and a new one now and then: the kernel finds a sysctl by going through those of that name of all
/// namespaces that were looked up in the same instance. None where it cannot be made.
fn instance() -> Option<Arc<OwnedFd>> {
    static SHARED: Mutex<Option<(Arc<OwnedFd>, u32)>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((proc, uses)) = shared.as_mut().filter(|(_, uses)| *uses < SHARED_BY) {
        *uses += 1;
        return Some(Arc::clone(proc));
    }
    let proc = Arc::new(mount_proc().ok()?);
    *shared = Some((Arc::clone(&proc), 0));
    Some(proc)
}

fn mount_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A host that forwards IPv6 ignores router advertisements unless told otherwise, and would lose
/// its own default route with them: links that listen to them go on doing so.
pub(crate) fn keep_router_advertisements() -> Result<(), Error> {
    let links = fs::read_dir(path("ipv6/conf")).map_err(Error::file("list", path("ipv6/conf")))?;
    for link in links.flatten() {
        let Ok(name) = link.file_name().into_string() else { continue };
        let setting = format!("ipv6/conf/{name}/accept_ra");
        if name != "default" && read(&setting).as_deref() == Some("1") {
            write_if_present(&setting, "2")?;
        }
    }
    Ok(())
}

/// Refuses link names that the kernel would, or that would leave the folder of a link's sysctls.
pub(crate) fn check_link_name(name: &str) -> Result<(), Error> {
    let is_bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(is_bad) {
        return Err(Error::Invalid(format!("link name {name:?} is not 1 to 15 bytes without `/`, `:` and blanks")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_that_would_escape_are_refused() {
        for name in ["", "..", "a/b", "a b", "a:b", "a\0", "0123456789abcdef"] {
            assert!(check_link_name(name).is_err(), "{name:?}");
        }
        for name in ["eth0", "ferry0", "br-lan.5", "0123456789abcde"] {
            assert!(check_link_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_missing_sysctl_is_tolerated_only_where_said() {
        assert_eq!(read("no/such/thing"), None);
        assert!(write_if_present("no/such/thing", "1").is_ok());
        assert!(write("no/such/thing", "1").is_err());
        assert!(write_inside_if_present("no/such/thing", "1").is_ok());
        assert!(write_inside("no/such/thing", "1").is_err());
    }
}
