//! Mounts: from `Binds`, `Mounts`, `Tmpfs` and the image's volumes to one list, in Docker's order of precedence and with its texts.
//!
//! Pure but for [`sources_exist`], which looks at the host before a container is made.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::container::{Config, HostConfig, Mount};

use super::record::{MountKind, MountRecord};
use crate::error::{Error, Result};
use crate::volumes;

/// A mount as asked for; a volume has no folder yet, and no name when it is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The mount with `source` empty for volumes.
    pub(super) mount: MountRecord,
    /// Bytes of the image below the destination are copied into a volume that is empty.
    pub(super) copy_up: bool,
    /// Labels of a volume that is made for it.
    pub(super) labels: BTreeMap<String, String>,
}

/// Everything asked for, later kinds giving way to earlier ones at the same destination.
pub(super) fn collect(config: &Config, host: &HostConfig) -> Result<Vec<Asked>> {
    let mut list: Vec<Asked> = Vec::new();
    for text in host.binds.iter().flatten() {
        push(&mut list, parse_bind(text)?)?;
    }
    for mount in &host.mounts {
        push(&mut list, from_mount(mount)?)?;
    }
    for (destination, options) in &host.tmpfs {
        push(&mut list, tmpfs(destination, split_options(options))?)?;
    }
    for destination in config.volumes.iter().flatten().map(|(destination, _)| destination) {
        let destination = destination_path(destination)?;
        if !list.iter().any(|asked| asked.mount.destination == destination) {
            list.push(anonymous_volume(destination));
        }
    }
    // Parents before children, so that a mount is not covered by a later one above it.
    list.sort_by_key(|asked| asked.mount.destination.split('/').count());
    Ok(list)
}

fn push(list: &mut Vec<Asked>, asked: Asked) -> Result<()> {
    if list.iter().any(|other| other.mount.destination == asked.mount.destination) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", asked.mount.destination)));
    }
    list.push(asked);
    Ok(())
}

/// An absolute path without `.`, `..` and doubled slashes.
fn destination_path(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{text}' mount path must be absolute")));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Error::invalid("invalid specification: destination can't be '/'".to_owned()));
    }
    if text.contains('\0') {
        return Err(Error::invalid("invalid mount path: holds a NUL byte".to_owned()));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn record(kind: MountKind, destination: String, mode: &str, writable: bool) -> MountRecord {
    MountRecord {
        kind,
        destination,
        mode: mode.to_owned(),
        writable,
        propagation: String::new(),
        non_recursive: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
    }
}

fn anonymous_volume(destination: String) -> Asked {
    let kind = MountKind::Volume { name: String::new(), source: String::new(), anonymous: true };
    Asked { mount: record(kind, destination, "", true), copy_up: true, labels: BTreeMap::new() }
}

/// `[source:]destination[:options]`.
fn parse_bind(text: &str) -> Result<Asked> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] if destination.starts_with('/') => (Some(source), destination, ""),
        [destination, options] if destination.starts_with('/') && BindOptions::parse(options).is_some() => {
            (None, destination, options)
        }
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return Err(invalid()),
    };
    if source.is_some_and(str::is_empty) {
        return Err(invalid());
    }
    let destination = destination_path(destination).map_err(|error| {
        let kind = if source.is_some_and(|source| source.starts_with('/')) { "bind" } else { "volume" };
        let config = format!("invalid mount config for type \"{kind}\"");
        Error::invalid(format!("invalid volume specification: '{text}': {config}")).with_source(error)
    })?;
    let options = BindOptions::parse(options).ok_or_else(|| Error::invalid(format!("invalid mode: {options}")))?;
    match source {
        Some(source) if source.starts_with('/') => {
            let kind = MountKind::Bind { source: destination_path_or_root(source), create_source: true };
            let mut mount = record(kind, destination, options.text, options.writable);
            mount.propagation = options.propagation.unwrap_or("rprivate").to_owned();
            Ok(Asked { mount, copy_up: false, labels: BTreeMap::new() })
        }
        Some(name) => {
            volumes::validate_name(name)?;
            let kind = MountKind::Volume { name: name.to_owned(), source: String::new(), anonymous: false };
            let mode = if options.text.is_empty() { "z" } else { options.text };
            Ok(Asked {
                mount: record(kind, destination, mode, options.writable),
                copy_up: options.copy_up,
                labels: BTreeMap::new(),
            })
        }
        None => {
            let mut asked = anonymous_volume(destination);
            asked.mount.writable = options.writable;
            asked.mount.mode = options.text.to_owned();
            Ok(asked)
        }
    }
}

/// Cleans a host path; `/` itself is allowed there.
fn destination_path_or_root(source: &str) -> String {
    destination_path(source).unwrap_or_else(|_| "/".to_owned())
}

struct BindOptions<'a> {
    text: &'a str,
    writable: bool,
    copy_up: bool,
    propagation: Option<&'a str>,
}

impl<'a> BindOptions<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut options = Self { text, writable: true, copy_up: true, propagation: None };
        if text.is_empty() {
            return Some(options);
        }
        let mut seen_mode = false;
        for option in text.split(',') {
            match option {
                "rw" | "ro" if seen_mode => return None,
                "rw" | "ro" => {
                    seen_mode = true;
                    options.writable = option == "rw";
                }
                "nocopy" => options.copy_up = false,
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if options.propagation.is_none() => {
                    options.propagation = Some(option);
                }
                // Labels have no meaning where SELinux is off; consistency is for other systems.
                "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
                _ => return None,
            }
        }
        Some(options)
    }
}

fn from_mount(mount: &Mount) -> Result<Asked> {
    let invalid =
        |reason: String| Error::invalid(format!("invalid mount config for type \"{}\": {reason}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    let destination = destination_path(&mount.target).map_err(|error| invalid(error.text()))?;
    match mount.kind.as_str() {
        "bind" => bind_mount(mount, destination, &invalid),
        "volume" => volume_mount(mount, destination, &invalid),
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified".to_owned()));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let mut texts = Vec::new();
            if options.size_bytes > 0 {
                texts.push(format!("size={}", options.size_bytes));
            }
            if options.mode > 0 {
                texts.push(format!("mode={:o}", options.mode));
            }
            for option in &options.options {
                texts.push(option.join("="));
            }
            if mount.read_only {
                texts.push("ro".to_owned());
            }
            tmpfs(&destination, texts)
        }
        "image" | "npipe" | "cluster" => Err(Error::not_implemented(format!("mounts of type {}", mount.kind))),
        _ => Err(invalid("mount type unknown".to_owned())),
    }
}

fn bind_mount(mount: &Mount, destination: String, invalid: &dyn Fn(String) -> Error) -> Result<Asked> {
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty".to_owned()));
    }
    if !mount.source.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
    }
    if mount.volume_options.is_some() {
        return Err(invalid("field VolumeOptions must not be specified".to_owned()));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let kind =
        MountKind::Bind { source: destination_path_or_root(&mount.source), create_source: options.create_mountpoint };
    let mut record = record(kind, destination, "", !mount.read_only);
    record.propagation = match options.propagation.as_str() {
        "" => "rprivate".to_owned(),
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => options.propagation.clone(),
        other => return Err(invalid(format!("invalid propagation mode: {other}"))),
    };
    record.non_recursive = options.non_recursive;
    record.read_only_non_recursive = options.read_only_non_recursive;
    record.read_only_force_recursive = options.read_only_force_recursive;
    Ok(Asked { mount: record, copy_up: false, labels: BTreeMap::new() })
}

fn volume_mount(mount: &Mount, destination: String, invalid: &dyn Fn(String) -> Error) -> Result<Asked> {
    if mount.bind_options.is_some() {
        return Err(invalid("field BindOptions must not be specified".to_owned()));
    }
    let options = mount.volume_options.clone().unwrap_or_default();
    if let Some(driver) = options.driver_config.as_ref() {
        if !matches!(driver.name.as_str(), "" | "local") {
            return Err(Error::not_implemented(format!("volume driver {}", driver.name)));
        }
        if !driver.options.is_empty() {
            return Err(Error::not_implemented("options of the local volume driver"));
        }
    }
    let anonymous = mount.source.is_empty();
    if !anonymous {
        volumes::validate_name(&mount.source)?;
    }
    if !options.subpath.is_empty() {
        return Err(Error::not_implemented("a subpath of a volume"));
    }
    let kind = MountKind::Volume { name: mount.source.clone(), source: String::new(), anonymous };
    let mount_record = record(kind, destination, "z", !mount.read_only);
    Ok(Asked { mount: mount_record, copy_up: !options.no_copy, labels: options.labels })
}

fn split_options(options: &str) -> Vec<String> {
    options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect()
}

/// Docker mounts every tmpfs `nosuid,nodev,noexec` unless told otherwise.
fn tmpfs(destination: &str, asked: Vec<String>) -> Result<Asked> {
    let destination = destination_path(destination)?;
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"]
        .iter()
        .filter(|flag| !asked.iter().any(|option| option == &flag[2..]))
        .map(|flag| (*flag).to_owned())
        .collect();
    for option in asked {
        let key = option.split('=').next().unwrap_or_default();
        let known = matches!(
            key,
            "rw" | "ro"
                | "exec"
                | "noexec"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "sync"
                | "async"
                | "dirsync"
                | "atime"
                | "noatime"
                | "diratime"
                | "nodiratime"
                | "relatime"
                | "norelatime"
                | "strictatime"
                | "nostrictatime"
                | "size"
                | "mode"
                | "uid"
                | "gid"
                | "nr_inodes"
                | "nr_blocks"
                | "mpol"
                | "huge"
                | "private"
                | "rprivate"
                | "slave"
                | "rslave"
                | "shared"
                | "rshared"
                | "unbindable"
                | "runbindable"
        );
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option [\"{option}\"]")));
        }
        if !options.contains(&option) {
            options.push(option);
        }
    }
    let writable = !options.iter().any(|option| option == "ro");
    Ok(Asked {
        mount: record(MountKind::Tmpfs { options }, destination, "", writable),
        copy_up: false,
        labels: BTreeMap::new(),
    })
}

/// `--mount type=bind` wants its source to be there.
pub(super) fn sources_exist(mounts: &[Asked]) -> Result<()> {
    for asked in mounts {
        if let MountKind::Bind { source, create_source: false } = &asked.mount.kind
            && !Path::new(source).exists()
        {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> MountRecord {
        parse_bind(text).unwrap().mount
    }

    #[test]
    fn forms_of_v() {
        assert!(
            matches!(kind_of("/host:/c").kind, MountKind::Bind { ref source, create_source: true } if source == "/host")
        );
        assert!(
            matches!(kind_of("data:/c:ro").kind, MountKind::Volume { ref name, anonymous: false, .. } if name == "data")
        );
        assert!(!kind_of("data:/c:ro").writable);
        assert!(matches!(kind_of("/c").kind, MountKind::Volume { anonymous: true, .. }));
        assert_eq!(kind_of("/a/../b//c/:/d/./e").destination, "/d/e");
        assert_eq!(kind_of("/a:/b:rslave,ro").propagation, "rslave");
    }

    #[test]
    fn bad_forms_are_named() {
        for (text, message) in [
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path \
                 must be absolute",
            ),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:/b:nope", "invalid mode: nope"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ] {
            assert_eq!(parse_bind(text).unwrap_err().text(), message, "{text}");
        }
    }

    #[test]
    fn one_destination_once() {
        let host = HostConfig { binds: Some(vec!["/a:/x".into(), "/b:/x/".into()]), ..HostConfig::default() };
        assert_eq!(collect(&Config::default(), &host).unwrap_err().text(), "Duplicate mount point: /x");
    }

    #[test]
    fn parents_come_before_children() {
        let host = HostConfig { binds: Some(vec!["/a:/x/y".into(), "/b:/x".into()]), ..HostConfig::default() };
        let order: Vec<String> =
            collect(&Config::default(), &host).unwrap().into_iter().map(|asked| asked.mount.destination).collect();
        assert_eq!(order, ["/x", "/x/y"]);
    }

    #[test]
    fn a_volume_of_the_image_gives_way() {
        let config =
            Config { volumes: Some(BTreeMap::from([("/x".to_owned(), Default::default())])), ..Config::default() };
        let host = HostConfig { binds: Some(vec!["/a:/x".into()]), ..HostConfig::default() };
        assert_eq!(collect(&config, &host).unwrap().len(), 1);
        assert_eq!(collect(&config, &HostConfig::default()).unwrap().len(), 1);
    }
}
