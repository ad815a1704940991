//! Options of the `local` driver: what `mount(8)` would take. Pure but for looking up a server's name.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use super::limit;
use crate::error::{Error, Result};

/// What is mounted on a volume's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalMount {
    /// File system, such as `nfs`, `tmpfs` or `none`.
    pub(super) kind: String,
    /// Device, such as `:/export` or a folder.
    pub(super) device: String,
    /// Options, comma-separated.
    pub(super) options: String,
    /// The device is a file with a file system in it.
    pub(super) is_image: bool,
}

/// Docker's checks.
///
/// # Errors
/// InvalidArgument with Docker's text.
pub(super) fn check(options: &BTreeMap<String, String>, root: &Path) -> Result<()> {
    const KNOWN: [&str; 5] = ["type", "o", "device", "size", limit::OWN_SIZE];
    const NEEDED: [(&str, &[&str]); 3] = [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];
    if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    if let Some(device) = options.get("device")
        && options.get("type").is_some_and(|kind| kind == "cifs")
        && has_port(device)
    {
        return Err(Error::invalid("port not allowed in CIFS device URL, include 'port' in 'o='".to_owned()));
    }
    limit::check(options, root)?;
    for (option, needed) in NEEDED {
        let missing = needed.iter().find(|name| options.contains_key(option) && !options.contains_key(**name));
        if let Some(missing) = missing {
            return Err(Error::invalid(format!("missing required option: {missing:?}")));
        }
    }
    Ok(())
}

/// `//host:port/share`.
fn has_port(device: &str) -> bool {
    let authority = device.trim_start_matches('/').split('/').next().unwrap_or_default();
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// What the options ask to be mounted; `None` is a plain folder.
pub(super) fn mount_of(options: &BTreeMap<String, String>) -> Option<LocalMount> {
    let option = |name: &str| options.get(name).cloned().unwrap_or_default();
    let mount = LocalMount { kind: option("type"), device: option("device"), options: option("o"), is_image: false };
    (!mount.kind.is_empty() || !mount.device.is_empty()).then_some(mount)
}

impl LocalMount {
    /// Flags of mount(2), and the options left for the file system.
    pub(super) fn flags(&self) -> (u32, Vec<String>) {
        let (mut flags, mut left) = (0, Vec::new());
        for option in self.options.split(',').filter(|option| !option.is_empty()) {
            match flag(option) {
                Some((flag, true)) => flags |= flag,
                Some((flag, false)) => flags &= !flag,
                None => left.push(option.to_owned()),
            }
        }
        (flags, left)
    }

    /// The options with the server's address in place of its name: the kernel does not look names up.
    ///
    /// # Errors
    /// When the name cannot be looked up.
    pub(super) fn resolved(&self) -> Result<Self> {
        let mut resolved = self.clone();
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok(resolved);
        }
        if let Some(address) = self.options.split(',').find_map(|option| option.strip_prefix("addr="))
            && address.parse::<IpAddr>().is_err()
        {
            let found = look_up(address)?;
            resolved.options = self.options.replacen(&format!("addr={address}"), &format!("addr={found}"), 1);
        } else if self.kind == "cifs"
            && let Some((host, share)) = self.device.trim_start_matches('/').split_once('/')
            && host.parse::<IpAddr>().is_err()
        {
            resolved.device = format!("//{}/{share}", look_up(host)?);
        }
        Ok(resolved)
    }

    /// Words of the options without a password in them.
    pub(super) fn without_password(&self, text: &str) -> String {
        let password = self.options.split(',').find_map(|option| option.strip_prefix("password="));
        match password.filter(|password| !password.is_empty()) {
            Some(password) => text.replace(&format!("password={password}"), "password=********"),
            None => text.to_owned(),
        }
    }
}

fn look_up(host: &str) -> Result<IpAddr> {
    let failed = || format!("error resolving passed in network volume address: lookup {host}");
    let mut found = (host, 0).to_socket_addrs().map_err(|error| Error::internal(failed()).with_source(error))?;
    let first = found.next().ok_or_else(|| Error::internal(format!("{}: no such host", failed())))?;
    Ok(first.ip())
}

/// Bits of mount(2) and whether the word sets them.
fn flag(option: &str) -> Option<(u32, bool)> {
    let bits = |bits: libc::c_ulong| u32::try_from(bits).unwrap_or(0);
    Some(match option {
        "ro" => (bits(libc::MS_RDONLY), true),
        "rw" => (bits(libc::MS_RDONLY), false),
        "nosuid" => (bits(libc::MS_NOSUID), true),
        "suid" => (bits(libc::MS_NOSUID), false),
        "nodev" => (bits(libc::MS_NODEV), true),
        "dev" => (bits(libc::MS_NODEV), false),
        "noexec" => (bits(libc::MS_NOEXEC), true),
        "exec" => (bits(libc::MS_NOEXEC), false),
        "sync" => (bits(libc::MS_SYNCHRONOUS), true),
        "async" => (bits(libc::MS_SYNCHRONOUS), false),
        "dirsync" => (bits(libc::MS_DIRSYNC), true),
        "remount" => (bits(libc::MS_REMOUNT), true),
        "mand" => (bits(libc::MS_MANDLOCK), true),
        "nomand" => (bits(libc::MS_MANDLOCK), false),
        "noatime" => (bits(libc::MS_NOATIME), true),
        "atime" => (bits(libc::MS_NOATIME), false),
        "nodiratime" => (bits(libc::MS_NODIRATIME), true),
        "diratime" => (bits(libc::MS_NODIRATIME), false),
        "bind" => (bits(libc::MS_BIND), true),
        "rbind" => (bits(libc::MS_BIND | libc::MS_REC), true),
        "unbindable" => (bits(libc::MS_UNBINDABLE), true),
        "runbindable" => (bits(libc::MS_UNBINDABLE | libc::MS_REC), true),
        "private" => (bits(libc::MS_PRIVATE), true),
        "rprivate" => (bits(libc::MS_PRIVATE | libc::MS_REC), true),
        "shared" => (bits(libc::MS_SHARED), true),
        "rshared" => (bits(libc::MS_SHARED | libc::MS_REC), true),
        "slave" => (bits(libc::MS_SLAVE), true),
        "rslave" => (bits(libc::MS_SLAVE | libc::MS_REC), true),
        "relatime" => (bits(libc::MS_RELATIME), true),
        "norelatime" => (bits(libc::MS_RELATIME), false),
        "strictatime" => (bits(libc::MS_STRICTATIME), true),
        "nostrictatime" => (bits(libc::MS_STRICTATIME), false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (pairs, reason) in [
            (&[("nope", "x")][..], "invalid option: \"nope\""),
            (&[("device", "x")], "missing required option: \"type\""),
            (&[("type", "x")], "missing required option: \"device\""),
            (&[("o", "x")], "missing required option: \"device\""),
            (&[("size", "x")], "invalid size: 'x'"),
            (&[("size", "1g")], "quota size requested but no quota support"),
            (
                &[("type", "cifs"), ("device", "//host:445/share")],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
        ] {
            assert_eq!(check(&options(pairs), Path::new("/proc")).unwrap_err().text(), reason);
        }
        check(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]), Path::new("/proc")).unwrap();
        check(&options(&[("size", "0")]), Path::new("/proc")).unwrap();
    }

    #[test]
    fn words_become_flags() {
        let mount = LocalMount {
            kind: "none".into(),
            device: "/a".into(),
            options: "rbind,ro,rw,uid=5".into(),
            is_image: false,
        };
        let (flags, left) = mount.flags();
        assert_eq!(u64::from(flags), libc::MS_BIND | libc::MS_REC);
        assert_eq!(left, ["uid=5"]);
        assert!(mount_of(&options(&[("size", "0")])).is_none());
    }

    #[test]
    fn addresses_and_passwords() {
        let mount = LocalMount {
            kind: "nfs".into(),
            device: ":/x".into(),
            options: "addr=127.0.0.1,password=secret".into(),
            is_image: false,
        };
        assert_eq!(mount.resolved().unwrap(), mount);
        assert_eq!(mount.without_password("data: password=secret: no"), "data: password=********: no");
    }
}
