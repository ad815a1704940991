//! Mounts: from `VolumesFrom`, `Binds`, `Mounts`, `Tmpfs` and the image's volumes to one list, in Docker's order of precedence and with its
//! texts.
//!
//! Pure but for [`sources_exist`], which looks at the host before a container is made; the parts below it read one form each.

mod long_form;
mod short_form;
mod tmpfs;

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::container::{Config, HostConfig};
use ferry_spec::path::clean_rooted;

use super::record::{MountKind, MountRecord};
use crate::error::{Error, Result};

pub(super) use self::short_form::volumes_from;

/// A mount as asked for; a volume has no folder yet, and no name when it is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The mount with `source` empty for volumes, and without content for images.
    pub(super) mount: MountRecord,
    /// Bytes of the image below the destination are copied into a volume that is empty.
    pub(super) copy_up: bool,
    /// Nobody asked for it but the image, or a path without a name.
    pub(super) of_image: bool,
    /// Its propagation was asked for.
    pub(super) propagation_asked: bool,
    /// The volume that is made for it where there is none.
    pub(super) volume: VolumeWish,
}

/// What a volume is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct VolumeWish {
    /// Driver; empty is `local`.
    pub(super) driver: String,
    /// Options of the driver.
    pub(super) options: BTreeMap<String, String>,
    /// Labels.
    pub(super) labels: BTreeMap<String, String>,
}

impl Asked {
    fn new(mount: MountRecord) -> Self {
        Self { mount, copy_up: false, of_image: false, propagation_asked: false, volume: VolumeWish::default() }
    }

    /// A mount of another container, taken over with `--volumes-from`.
    pub(super) fn inherited(mount: &MountRecord, writable: bool) -> Self {
        let writable = mount.writable && writable;
        Self::new(MountRecord { mode: String::new(), writable, ..mount.clone() })
    }
}

/// Everything asked for; `inherited` and the image's volumes give way to what names the same destination.
pub(super) fn collect(config: &Config, host: &HostConfig, inherited: Vec<Asked>) -> Result<Vec<Asked>> {
    let mut list: Vec<Asked> = Vec::new();
    for text in host.binds.iter().flatten() {
        push(&mut list, short_form::parse(text, &host.volume_driver)?)?;
    }
    for mount in &host.mounts {
        push(&mut list, long_form::parse(mount)?)?;
    }
    for (destination, options) in &host.tmpfs {
        push(&mut list, tmpfs::parse(destination, options)?)?;
    }
    // Of several containers the last one named wins.
    for asked in inherited.into_iter().rev() {
        if !list.iter().any(|other| other.mount.destination == asked.mount.destination) {
            list.push(asked);
        }
    }
    for destination in config.volumes.iter().flatten().map(|(destination, _)| destination) {
        // Taken as Docker does, absolute or not.
        let destination = destination_path(&format!("/{destination}"))?;
        if !list.iter().any(|asked| asked.mount.destination == destination) {
            let mut asked = anonymous_volume(destination, &host.volume_driver);
            asked.of_image = true;
            list.push(asked);
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
    let cleaned = clean_rooted(text);
    if cleaned == "/" && !text.is_empty() {
        return Err(Error::invalid("invalid specification: destination can't be '/'".to_owned()));
    }
    if !text.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{text}' mount path must be absolute")));
    }
    if text.contains('\0') {
        return Err(Error::invalid("invalid mount path: holds a NUL byte".to_owned()));
    }
    Ok(cleaned)
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
        own: false,
    }
}

fn volume_kind(name: &str) -> MountKind {
    let anonymous = name.is_empty();
    let (source, subpath, driver) = (String::new(), String::new(), String::new());
    MountKind::Volume { name: name.to_owned(), source, anonymous, subpath, driver }
}

fn anonymous_volume(destination: String, driver: &str) -> Asked {
    let mut asked = Asked::new(record(volume_kind(""), destination, "", true));
    asked.copy_up = true;
    driver.clone_into(&mut asked.volume.driver);
    asked
}

/// Mounts below the daemon's data root come and go: whoever has them has to let them go too.
///
/// # Errors
/// InvalidArgument with Docker's text when they are asked to be kept.
pub(super) fn near_the_data_root(source: &str, propagation: &mut String, asked: bool, data_root: &Path) -> Result<()> {
    if !is_near(source, data_root) {
        return Ok(());
    }
    if !asked {
        "rslave".clone_into(propagation);
    } else if !matches!(propagation.as_str(), "rslave" | "rshared") {
        return Err(Error::invalid(format!(
            "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the \
             daemon root, daemon root: {data_root:?}, bind mount source: {source:?}, propagation: {propagation:?}"
        )));
    }
    Ok(())
}

/// One of the two holds the other.
pub(super) fn is_near(source: &str, data_root: &Path) -> bool {
    let source = Path::new(source);
    source.starts_with(data_root) || data_root.starts_with(source)
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

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

    #[test]
    fn one_destination_once() {
        let host = HostConfig { binds: Some(vec!["/a:/x".into(), "/b:/x/".into()]), ..HostConfig::default() };
        let error = collect(&Config::default(), &host, Vec::new()).unwrap_err();
        assert_eq!(error.text(), "Duplicate mount point: /x");
    }

    #[test]
    fn parents_come_before_children() {
        let host = HostConfig { binds: Some(vec!["/a:/x/y".into(), "/b:/x".into()]), ..HostConfig::default() };
        let list = collect(&Config::default(), &host, Vec::new()).unwrap();
        let order: Vec<String> = list.into_iter().map(|asked| asked.mount.destination).collect();
        assert_eq!(order, ["/x", "/x/y"]);
    }

    #[test]
    fn a_volume_of_the_image_gives_way() {
        let config =
            Config { volumes: Some(BTreeMap::from([("/x".to_owned(), Default::default())])), ..Config::default() };
        let host = HostConfig { binds: Some(vec!["/a:/x".into()]), ..HostConfig::default() };
        assert_eq!(collect(&config, &host, Vec::new()).unwrap().len(), 1);
        assert_eq!(collect(&config, &HostConfig::default(), Vec::new()).unwrap().len(), 1);
    }

    #[test]
    fn mounts_around_the_data_root_are_let_go() {
        let near = |source: &str, propagation: &str, asked| {
            let mut propagation = propagation.to_owned();
            let root = Path::new("/var/lib/ferry");
            near_the_data_root(source, &mut propagation, asked, root).map(|()| propagation)
        };
        assert_eq!(near("/", "rprivate", false).unwrap(), "rslave");
        assert_eq!(near("/var/lib/ferry/volumes", "rprivate", false).unwrap(), "rslave");
        assert_eq!(near("/var/lib/other", "rprivate", false).unwrap(), "rprivate");
        assert_eq!(near("/var", "rshared", true).unwrap(), "rshared");
        assert!(near("/var", "rprivate", true).unwrap_err().text().contains("daemon root: \"/var/lib/ferry\""));
    }

    #[test]
    fn inherited_mounts_give_way_and_the_last_container_wins() {
        let of = |name: &str, destination: &str| {
            Asked::inherited(&record(volume_kind(name), destination.to_owned(), "z", true), true)
        };
        let host = HostConfig { binds: Some(vec!["/a:/x".into()]), ..HostConfig::default() };
        let inherited = vec![of("one", "/x"), of("one", "/y"), of("two", "/y")];
        let list = collect(&Config::default(), &host, inherited).unwrap();
        assert!(matches!(list[0].mount.kind, MountKind::Bind { .. }));
        assert!(matches!(&list[1].mount.kind, MountKind::Volume { name, .. } if name == "two"));
        assert_eq!((list.len(), list[1].mount.mode.as_str()), (2, ""));
    }
}
