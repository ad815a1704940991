//! Network sysctls of the calling thread's namespace.

use std::{fs, io, path::PathBuf};

use crate::error::Error;

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
    }
}
