//! `--mount`: entries of `HostConfig.Mounts`.

use ferry_api::container::Mount;
use ferry_spec::path::clean_rooted;

use super::{Asked, PROPAGATIONS, VolumeWish, destination_path, record, tmpfs, volume_kind};
use crate::containers::record::MountKind;
use crate::error::{Error, Result};
use crate::volumes;

/// Reads one entry.
///
/// # Errors
/// InvalidArgument with Docker's text for what does not fit.
pub(super) fn parse(mount: &Mount) -> Result<Asked> {
    let invalid =
        |reason: String| Error::invalid(format!("invalid mount config for type \"{}\": {reason}", mount.kind));
    if let Some(field) = misfit(mount) {
        return Err(invalid(format!("field {field} must not be specified")));
    }
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    let destination = destination_path(&mount.target).map_err(|error| invalid(error.text()))?;
    let parsed = match mount.kind.as_str() {
        "bind" => bind(mount, destination),
        "volume" => return volume(mount, destination, &invalid),
        "image" => image(mount, destination),
        "tmpfs" if !mount.source.is_empty() => Err("field Source must not be specified".to_owned()),
        "tmpfs" => match tmpfs::words(mount.tmpfs_options.as_ref(), mount.read_only) {
            Ok(words) => return tmpfs::mount(destination, words),
            Err(reason) => Err(reason),
        },
        _ => Err("mount type unknown".to_owned()),
    };
    parsed.map_err(invalid)
}

/// Options of another type than the mount's.
fn misfit(mount: &Mount) -> Option<&'static str> {
    let given = [
        ("bind", "BindOptions", mount.bind_options.is_some()),
        ("volume", "VolumeOptions", mount.volume_options.is_some()),
        ("image", "ImageOptions", mount.image_options.is_some()),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options.is_some()),
        ("cluster", "ClusterOptions", mount.cluster_options.is_some()),
    ];
    let found = given.into_iter().find(|(kind, _, given)| *given && mount.kind != *kind);
    found.map(|(_, field, _)| field)
}

fn bind(mount: &Mount, destination: String) -> Result<Asked, String> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !matches!(options.propagation.as_str(), "") && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    if !mount.source.starts_with('/') {
        return Err(format!("invalid mount path: '{}' mount path must be absolute", mount.source));
    }
    let kind = MountKind::Bind { source: clean_rooted(&mount.source), create_source: options.create_mountpoint };
    let mut record = record(kind, destination, "", !mount.read_only);
    record.propagation = match options.propagation.as_str() {
        "" => "rprivate".to_owned(),
        propagation => propagation.to_owned(),
    };
    record.non_recursive = options.non_recursive;
    record.read_only_non_recursive = options.read_only_non_recursive;
    record.read_only_force_recursive = options.read_only_force_recursive;
    let mut asked = Asked::new(record);
    asked.propagation_asked = !options.propagation.is_empty();
    Ok(asked)
}

fn volume(mount: &Mount, destination: String, invalid: &dyn Fn(String) -> Error) -> Result<Asked> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if !options.subpath.is_empty() {
        if mount.source.is_empty() {
            return Err(invalid("must not set Subpath when using anonymous volumes".to_owned()));
        }
        subpath(&options.subpath).map_err(invalid)?;
    }
    let driver = options.driver_config.unwrap_or_default();
    if !mount.source.is_empty() {
        volumes::validate_name_for(&mount.source, &driver.name)?;
    }
    let mode = if matches!(driver.name.as_str(), "" | volumes::LOCAL) { "z" } else { "" };
    let mut asked = Asked::new(record(volume_kind(&mount.source), destination, mode, !mount.read_only));
    if let MountKind::Volume { subpath, .. } = &mut asked.mount.kind {
        *subpath = options.subpath;
    }
    asked.copy_up = !options.no_copy;
    asked.volume = VolumeWish { driver: driver.name, options: driver.options, labels: options.labels };
    Ok(asked)
}

fn image(mount: &Mount, destination: String) -> Result<Asked, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let path = mount.image_options.as_ref().map(|options| options.subpath.clone()).unwrap_or_default();
    if !path.is_empty() {
        subpath(&path)?;
    }
    let kind = MountKind::Image { reference: mount.source.clone(), content: None, subpath: path };
    let mut record = record(kind, destination, "", false);
    "rprivate".clone_into(&mut record.propagation);
    Ok(Asked::new(record))
}

/// A relative path that does not lead out by its text; what its links do is looked at when it is opened.
fn subpath(path: &str) -> Result<(), String> {
    let mut depth = 0_i32;
    let stays = !path.starts_with('/')
        && path.split('/').all(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth >= 0
        });
    if stays && !path.contains('\0') {
        return Ok(());
    }
    Err("subpath must be a relative path within the volume".to_owned())
}

#[cfg(test)]
mod tests {
    use ferry_api::container::{BindOptions, Driver, ImageOptions, TmpfsOptions, VolumeOptions};

    use super::*;

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
    }

    #[test]
    fn every_option_is_kept() {
        let options = BindOptions {
            propagation: "rslave".into(),
            non_recursive: true,
            create_mountpoint: true,
            ..BindOptions::default()
        };
        let bind = Mount { read_only: true, bind_options: Some(options), ..mount("bind", "/a/../b", "/t") };
        let bind = parse(&bind).unwrap().mount;
        assert_eq!(bind.kind, MountKind::Bind { source: "/b".into(), create_source: true });
        assert!(bind.non_recursive && !bind.writable && bind.propagation == "rslave");
        let driver = Driver { name: "local".into(), options: [("type".into(), "tmpfs".into())].into() };
        let options = VolumeOptions {
            no_copy: true,
            subpath: "a/b".into(),
            driver_config: Some(driver),
            labels: [("k".into(), "v".into())].into(),
        };
        let volume = parse(&Mount { volume_options: Some(options), ..mount("volume", "data", "/t") }).unwrap();
        assert!(!volume.copy_up && volume.volume.options["type"] == "tmpfs" && volume.volume.labels["k"] == "v");
        assert!(matches!(volume.mount.kind, MountKind::Volume { ref subpath, .. } if subpath == "a/b"));
        let options = Some(ImageOptions { subpath: "etc".into() });
        let image = parse(&Mount { image_options: options, ..mount("image", "busybox", "/t") }).unwrap().mount;
        assert!(matches!(image.kind, MountKind::Image { ref subpath, .. } if subpath == "etc"));
        assert!(!image.writable);
    }

    #[test]
    fn bad_entries_are_named() {
        let volume_options = |subpath: &str| Some(VolumeOptions { subpath: subpath.into(), ..Default::default() });
        let propagation = Some(BindOptions { propagation: "nope".into(), ..BindOptions::default() });
        let outside = "subpath must be a relative path within the volume";
        for (mount, reason) in [
            (mount("nope", "", "/t"), "mount type unknown"),
            (mount("npipe", "", "/t"), "mount type unknown"),
            (mount("cluster", "", "/t"), "mount type unknown"),
            (mount("volume", "", ""), "field Target must not be empty"),
            (mount("volume", "", "t"), "invalid mount path: 't' mount path must be absolute"),
            (mount("volume", "", "/"), "invalid specification: destination can't be '/'"),
            (mount("bind", "", "/t"), "field Source must not be empty"),
            (mount("bind", "a", "/t"), "invalid mount path: 'a' mount path must be absolute"),
            (mount("image", "", "/t"), "field Source must not be empty"),
            (mount("tmpfs", "a", "/t"), "field Source must not be specified"),
            (Mount { bind_options: propagation, ..mount("bind", "/a", "/t") }, "invalid propagation mode: nope"),
            (
                Mount { volume_options: volume_options(""), ..mount("bind", "/a", "/t") },
                "field VolumeOptions must not be specified",
            ),
            (
                Mount { tmpfs_options: Some(TmpfsOptions::default()), ..mount("volume", "a1", "/t") },
                "field TmpfsOptions must not be specified",
            ),
            (
                Mount { volume_options: volume_options("a"), ..mount("volume", "", "/t") },
                "must not set Subpath when using anonymous volumes",
            ),
            (Mount { volume_options: volume_options("../a"), ..mount("volume", "a1", "/t") }, outside),
            (Mount { volume_options: volume_options("a/../../b"), ..mount("volume", "a1", "/t") }, outside),
            (Mount { volume_options: volume_options("/a"), ..mount("volume", "a1", "/t") }, outside),
        ] {
            let text = format!("invalid mount config for type \"{}\": {reason}", mount.kind);
            assert_eq!(parse(&mount).unwrap_err().text(), text);
        }
    }
}
