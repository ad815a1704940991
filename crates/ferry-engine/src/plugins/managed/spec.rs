//! From a plugin's record to the OCI runtime configuration. Pure, but for looking devices up.

use std::path::Path;

use ferry_api::container::{DeviceMapping, HostConfig};
use ferry_spec::runtime::{
    Capabilities, Linux, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceKind, LinuxResources, Mount, OCI_VERSION,
    Process, Root, Spec, User, defaults,
};

use super::Record;
use crate::error::{Error, Result};

/// Where a plugin finds its sockets' folder.
const SOCKETS: &str = "/run/docker/plugins";
/// And that of the pipes with lines.
const LOGGING: &str = "/run/docker/logging";

/// Folders of the host that a plugin gets.
pub(super) struct Folders<'a> {
    pub(super) sockets: &'a Path,
    pub(super) logging: &'a Path,
    pub(super) propagated: &'a Path,
}

/// Words the configuration.
pub(super) fn of(record: &Record, folders: &Folders<'_>, cgroup: &str, held: &[String]) -> Result<Spec> {
    let config = &record.config;
    let mut args = config.entrypoint.clone().unwrap_or_default();
    args.extend(record.settings.args.iter().cloned());
    let mut env = vec![format!("PATH={}", defaults::PATH)];
    env.extend(record.settings.env.iter().cloned());
    let mut capabilities = defaults::capabilities();
    capabilities.extend(config.linux.capabilities.clone().unwrap_or_default());
    // As everywhere: what the daemon itself does not hold cannot be given.
    capabilities.retain(|name| held.contains(name));
    capabilities.dedup();
    let sets = Capabilities {
        bounding: capabilities.clone(),
        effective: capabilities.clone(),
        permitted: capabilities.clone(),
        inheritable: Vec::new(),
        ambient: Vec::new(),
    };
    Ok(Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(Process {
            user: User::default(),
            args,
            env,
            cwd: if config.work_dir.is_empty() { "/".to_owned() } else { config.work_dir.clone() },
            capabilities: Some(sets),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: false }),
        mounts: mounts(record, folders)?,
        linux: Some(linux(record, cgroup, &capabilities)?),
        ..Spec::default()
    })
}

fn mounts(record: &Record, folders: &Folders<'_>) -> Result<Vec<Mount>> {
    let config = &record.config;
    let mut mounts = defaults::mounts();
    let own: Vec<&str> = record.settings.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    mounts.retain(|mount| !(mount.destination.starts_with("/dev/") && own.contains(&mount.destination.as_str())));
    if !config.propagated_mount.is_empty() {
        mounts.push(bind(&config.propagated_mount, folders.propagated, &["rbind", "rw", "rshared"]));
    }
    for mount in config.mounts.iter().flatten() {
        let source = mount.source.clone().ok_or_else(|| Error::internal("mount source is not specified"))?;
        mounts.push(Mount {
            destination: mount.destination.clone(),
            kind: Some(mount.kind.clone()),
            source: Some(source),
            options: mount.options.clone().unwrap_or_default(),
            ..Mount::default()
        });
    }
    mounts.push(bind(SOCKETS, folders.sockets, &["rbind", "rshared"]));
    mounts.push(bind(LOGGING, folders.logging, &["rbind", "rprivate"]));
    if !config.network.kind.is_empty() {
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            mounts.push(bind(file, Path::new(file), &["rbind", "ro"]));
        }
    }
    Ok(mounts)
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.display().to_string()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn linux(record: &Record, cgroup: &str, capabilities: &[String]) -> Result<Linux> {
    use LinuxNamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let config = &record.config;
    let mut kinds = vec![Mount, Uts, Cgroup];
    kinds.extend((config.network.kind != "host").then_some(Network));
    kinds.extend((!config.pid_host).then_some(Pid));
    kinds.extend((!config.ipc_host).then_some(Ipc));
    let mut rules = defaults::device_rules();
    rules.extend(defaults::required_device_rules());
    if config.linux.allow_all_devices {
        rules = vec![LinuxDeviceCgroup { allow: true, access: Some("rwm".to_owned()), ..LinuxDeviceCgroup::default() }];
    }
    let wanted = HostConfig {
        devices: Some(
            record
                .settings
                .devices
                .iter()
                .filter_map(|device| device.path.clone())
                .map(|path| DeviceMapping {
                    path_on_host: path.clone(),
                    path_in_container: path,
                    cgroup_permissions: "rwm".to_owned(),
                })
                .collect(),
        ),
        ..HostConfig::default()
    };
    let mut devices = defaults::devices();
    for (device, access) in crate::containers::host_devices(&wanted)? {
        rules.push(LinuxDeviceCgroup {
            allow: true,
            kind: Some(device.kind.clone()),
            major: Some(device.major),
            minor: Some(device.minor),
            access: Some(access),
        });
        devices.push(device);
    }
    let propagates = !config.propagated_mount.is_empty();
    Ok(Linux {
        resources: Some(LinuxResources { devices: rules, ..LinuxResources::default() }),
        cgroups_path: Some(cgroup.to_owned()),
        namespaces: kinds.into_iter().map(LinuxNamespace::new).collect(),
        devices,
        seccomp: Some(defaults::seccomp_profile(capabilities)),
        rootfs_propagation: propagates.then(|| "rshared".to_owned()),
        masked_paths: defaults::masked_paths(),
        readonly_paths: defaults::readonly_paths(),
        ..Linux::default()
    })
}
