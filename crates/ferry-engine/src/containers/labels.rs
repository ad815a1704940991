//! SELinux labels of what a container finds in its mounts, given when it starts.

use std::path::Path;

use std::os::fd::AsFd;

use super::Containers;
use super::bundle::Host;
use super::record::{MountKind, MountRecord, Record};
use super::sources::{open_below, open_folder};
use crate::error::{Context, Error, Result};
use crate::selinux::{self, Selinux};

impl Containers {
    /// Gives binds and volumes that ask for it (`z`, `Z`) the container's label. Blocks; volumes are mounted already.
    pub(super) fn label_mounts(&self, record: &Record) -> Result<()> {
        let Some(label) = record.mount_label() else { return Ok(()) };
        for mount in &record.mounts {
            let Some(shared) = relabelled(mount) else { continue };
            match &mount.kind {
                MountKind::Bind { source, .. } => selinux::relabel_source(Path::new(source), label, shared)?,
                MountKind::Volume { source, subpath, .. } => {
                    let mut tree = open_folder(Path::new(source))?;
                    if !subpath.is_empty() {
                        tree = open_below(&tree, subpath).context(format!("cannot open {subpath} of {source}"))?;
                    }
                    selinux::relabel_tree(tree.as_fd(), source, label, shared)?;
                }
                MountKind::Image { .. } | MountKind::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }

    /// Likewise the files of `etc`, which may belong to a container whose network it shares.
    pub(super) fn label_etc(&self, record: &Record, host: &Host) -> Result<()> {
        let Some(label) = record.mount_label() else { return Ok(()) };
        let shared = record.host_config.network_mode.starts_with("container:");
        for file in [&host.resolv_conf_path, &host.hostname_path, &host.hosts_path] {
            selinux::relabel_own(Path::new(file), label, shared)?;
        }
        Ok(())
    }

    /// The `label` options that come with the processes or the memory of other containers, unless there are some.
    pub(super) fn shared_labels(&self, host: &ferry_api::container::HostConfig) -> Result<Vec<String>> {
        if super::bundle::security_option(host, "label").is_some() {
            return Ok(Vec::new());
        }
        let mut shared: Vec<Vec<String>> = Vec::new();
        for mode in [&host.ipc_mode, &host.pid_mode] {
            if let Some(other) = mode.strip_prefix("container:") {
                let other = self.find(other).map_err(|error| Error::invalid(error.text()))?;
                shared.push(other.with_record(|record| Selinux::options_of(&record.process_label)));
            }
        }
        if let [ipc, pid] = &shared[..] {
            if ipc.is_empty() || pid.is_empty() {
                return Ok(Vec::new());
            }
            if ipc != pid {
                return Err(Error::invalid("--ipc and --pid containers SELinux labels aren't the same"));
            }
        }
        let options = shared.into_iter().next().unwrap_or_default();
        Ok(options.into_iter().map(|option| format!("label={option}")).collect())
    }
}

/// Whether a mount's files get a label, and whether that is one for all containers.
fn relabelled(mount: &MountRecord) -> Option<bool> {
    let has = |word: &str| mount.mode.split(',').any(|option| option == word);
    // A volume without a name was made for this container, or for one that shares it.
    let is_anonymous = matches!(&mount.kind, MountKind::Volume { anonymous: true, driver, .. } if driver.is_empty());
    match (has("z"), has("Z")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => is_anonymous.then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_asks_for_it_is_relabelled() {
        let mount = |mode: &str, kind: MountKind| MountRecord {
            kind,
            destination: "/c".into(),
            mode: mode.into(),
            writable: true,
            propagation: String::new(),
            non_recursive: false,
            read_only_non_recursive: false,
            read_only_force_recursive: false,
            own: false,
        };
        let bind = |mode| relabelled(&mount(mode, MountKind::Bind { source: "/a".into(), create_source: true }));
        assert_eq!((bind(""), bind("ro,rslave"), bind("ro,z"), bind("Z")), (None, None, Some(true), Some(false)));
        let volume = |mode, anonymous, driver: &str| {
            relabelled(&mount(
                mode,
                MountKind::Volume {
                    name: "v".into(),
                    source: "/v".into(),
                    anonymous,
                    subpath: String::new(),
                    driver: driver.into(),
                },
            ))
        };
        assert_eq!((volume("z", false, ""), volume("", true, "")), (Some(true), Some(true)));
        assert_eq!((volume("Z", false, "other"), volume("", true, "other")), (Some(false), None));
    }
}
