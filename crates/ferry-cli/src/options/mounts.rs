//! `--mount` and `--volume`.

use ferry_api::container::{BindOptions, Driver, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use crate::flags::{parse_bool, parse_bytes};

use super::csv;

/// Reads one `--mount` value.
pub(super) fn parse(value: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(value.trim())? {
        match field.split_once('=') {
            Some((key, text)) => assign(&mut mount, &key.to_ascii_lowercase(), text, &field)?,
            None => switch(&mut mount, &field)?,
        }
    }
    check(&mount)?;
    Ok(mount)
}

/// A key without a value.
fn switch(mount: &mut Mount, field: &str) -> Result<(), String> {
    match field.to_ascii_lowercase().as_str() {
        "readonly" | "ro" => mount.read_only = true,
        "volume-nocopy" => volume(mount).no_copy = true,
        "bind-nonrecursive" => bind(mount).non_recursive = true,
        _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
    }
    Ok(())
}

fn assign(mount: &mut Mount, key: &str, text: &str, field: &str) -> Result<(), String> {
    let truth = || parse_bool(text).map_err(|_| format!("invalid value for {key}: {text}"));
    match key {
        "type" => mount.kind = text.to_ascii_lowercase(),
        "source" | "src" => mount.source = absolute(text),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.read_only = truth()?,
        "consistency" => mount.consistency = text.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = text.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = truth()?,
        "bind-recursive" => recursive(bind(mount), key, text)?,
        "bind-create-src" => bind(mount).create_mountpoint = truth()?,
        "volume-subpath" => volume(mount).subpath = text.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = truth()?,
        "volume-label" => {
            let (name, label) = text.split_once('=').unwrap_or((text, ""));
            volume(mount).labels.insert(name.to_owned(), label.to_owned());
        }
        "volume-driver" => driver(mount).name = text.to_owned(),
        "volume-opt" => {
            let (name, option) = text.split_once('=').unwrap_or((text, ""));
            driver(mount).options.insert(name.to_owned(), option.to_owned());
        }
        "image-subpath" => mount.image_options.get_or_insert_with(ImageOptions::default).subpath = text.to_owned(),
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = parse_bytes(text).map_err(|_| format!("invalid value for {key}: {text}"))?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode = u32::from_str_radix(text, 8).map_err(|_| format!("invalid value for {key}: {text}"))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn recursive(options: &mut BindOptions, key: &str, text: &str) -> Result<(), String> {
    match text {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut Driver {
    volume(mount).driver_config.get_or_insert_with(Driver::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn check(mount: &Mount) -> Result<(), String> {
    let kind = mount.kind.as_str();
    let mixed = |family: &str| Err(format!("cannot mix '{family}-*' options with mount type '{kind}'"));
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    if mount.volume_options.is_some() && kind != "volume" {
        return mixed("volume");
    }
    if mount.image_options.is_some() && kind != "image" {
        return mixed("image");
    }
    if mount.bind_options.is_some() && kind != "bind" {
        return mixed("bind");
    }
    if mount.tmpfs_options.is_some() && kind != "tmpfs" {
        return mixed("tmpfs");
    }
    let Some(options) = &mount.bind_options else { return Ok(()) };
    let needs = |value: &str, other: &str| {
        Err(format!("option 'bind-recursive={value}' requires '{other}' to be specified in conjunction"))
    };
    if options.read_only_non_recursive && !mount.read_only {
        return needs("writable", "readonly");
    }
    if options.read_only_force_recursive && !mount.read_only {
        return needs("readonly", "readonly");
    }
    if options.read_only_force_recursive && options.propagation != "rprivate" {
        return needs("readonly", "bind-propagation=rprivate");
    }
    Ok(())
}

/// Paths that start with a dot are relative to the working folder.
fn absolute(path: &str) -> String {
    if !path.starts_with('.') {
        return path.to_owned();
    }
    let Ok(current) = std::env::current_dir() else { return path.to_owned() };
    clean(&format!("{}/{path}", current.display()))
}

/// Resolves `.` and `..` in an absolute path by text alone.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// What a `--volume` value is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// A path alone: an anonymous volume.
    Anonymous(String),
    /// A host path or volume name with a target.
    Bind(String),
}

/// Reads one `--volume` value.
pub(super) fn parse_volume(spec: &str) -> Result<Volume, String> {
    let invalid = |reason: &str| format!("invalid spec: {spec}: {reason}");
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    if spec.len() <= 2 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    let parts = split(spec);
    if parts.iter().any(String::is_empty) {
        return Err(invalid("empty section between colons"));
    }
    if parts.len() > 3 {
        return Err(invalid("too many colons"));
    }
    if parts.len() == 1 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    if !spec.starts_with('.') {
        return Ok(Volume::Bind(spec.to_owned()));
    }
    let (host, rest) = spec.split_once(':').unwrap_or((spec, ""));
    Ok(Volume::Bind(format!("{}:{rest}", absolute(host))))
}

/// Splits at colons; one letter before a colon is a drive of another system.
fn split(spec: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    for letter in spec.chars() {
        let drive = part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
        if letter == ':' && !drive {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_mount() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-recursive=writable").unwrap();
        assert_eq!((mount.kind.as_str(), mount.source.as_str(), mount.target.as_str()), ("bind", "/a", "/b"));
        assert!(mount.read_only);
        assert_eq!(mount.bind_options.unwrap().propagation, "rslave");
        let mount = parse("target=/d,volume-driver=local,volume-opt=type=nfs,volume-label=a=b,volume-nocopy").unwrap();
        let options = mount.volume_options.unwrap();
        assert!(options.no_copy);
        assert_eq!(options.driver_config.unwrap().options["type"], "nfs");
        assert_eq!(options.labels["a"], "b");
        let mount = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(mount.tmpfs_options.unwrap(), TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770, options: vec![] });
    }

    #[test]
    fn bad_mounts_are_named() {
        for (text, reason) in [
            ("x", "invalid field 'x' must be a key=value pair"),
            ("type=bind", "target is required"),
            ("target=/a,nope=1", "unexpected key 'nope' in 'nope=1'"),
            ("target=/a,bind-propagation=x", "cannot mix 'bind-*' options with mount type 'volume'"),
            ("target=/a,ro=x", "invalid value for ro: x"),
        ] {
            assert_eq!(parse(text).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn volumes() {
        assert_eq!(parse_volume("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse_volume("name:/data:ro"), Ok(Volume::Bind("name:/data:ro".into())));
        assert_eq!(parse_volume(""), Err("invalid empty volume spec".into()));
        assert_eq!(parse_volume("/a::/b"), Err("invalid spec: /a::/b: empty section between colons".into()));
        assert_eq!(parse_volume("/a:/b:ro:x"), Err("invalid spec: /a:/b:ro:x: too many colons".into()));
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse_volume("./x:/y"), Ok(Volume::Bind(format!("{}/x:/y", here.display()))));
    }
}
