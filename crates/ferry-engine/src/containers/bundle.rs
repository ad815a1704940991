//! From a record to the OCI runtime configuration. Pure: what depends on the host comes in [`Host`].

use std::collections::BTreeMap;

use ferry_api::container::HostConfig;
use ferry_spec::runtime::{
    Capabilities, Linux, LinuxBlockIo, LinuxDevice, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceKind,
    LinuxResources, Mount, OCI_VERSION, Process, Rlimit, Root, Spec, User, defaults,
};

use super::confinement::{self, Kernel, SecurityOptions, Wanted, apparmor};
use super::record::{MountKind, MountRecord, Record};
use super::resources;
use crate::config::SeccompDefault;
use crate::error::{Error, Result};

/// What the host adds.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// The container's `etc` folder with `hosts`, `hostname`, `resolv.conf`; the last two may belong to the container whose network it shares.
    pub(super) hosts_path: String,
    /// Host path of `hostname`.
    pub(super) hostname_path: String,
    /// Host path of `resolv.conf`.
    pub(super) resolv_conf_path: String,
    /// Host path of the init program.
    pub(super) init_program: String,
    /// cgroup path.
    pub(super) cgroup: String,
    /// Path of the IPC namespace that is shared with another container.
    pub(super) joined_ipc: Option<String>,
    /// Likewise of the pid namespace.
    pub(super) joined_pid: Option<String>,
    /// The network namespace comes from outside.
    pub(super) network_given: bool,
    /// Devices asked for, resolved.
    pub(super) devices: Vec<(LinuxDevice, String)>,
    /// Limits on block devices, their numbers looked up.
    pub(super) block_io: LinuxBlockIo,
    /// What system calls are filtered by when the container does not say.
    pub(super) seccomp: SeccompDefault,
    /// Numbers of the kernel's release, for profiles that ask.
    pub(super) kernel: Kernel,
    /// AppArmor is on.
    pub(super) apparmor: bool,
    /// Containers that do not say may gain no rights.
    pub(super) no_new_privileges: bool,
    /// What the container's own words about its confinement are worth: an exec takes over the filter as it is.
    pub(super) reads_profile: bool,
    /// `default-ulimits` of the engine.
    pub(super) default_ulimits: Vec<(String, i64, i64)>,
    /// All capabilities the daemon holds, by name.
    pub(super) held_capabilities: Vec<String>,
    /// Variables of containers that are linked to.
    pub(super) link_variables: Vec<String>,
    /// CPUs that are possible on this host, for masking their throttle files.
    pub(super) possible_cpus: usize,
}

/// The value of `key=value` (or `key:value`) in `SecurityOpt`.
pub(super) fn security_option(host: &HostConfig, key: &str) -> Option<String> {
    host.security_opt.iter().flatten().find_map(|option| {
        let (found, value) = option.split_once('=').or_else(|| option.split_once(':'))?;
        (found == key).then(|| value.to_owned())
    })
}

/// Words the configuration.
pub(super) fn spec(record: &Record, host: &Host) -> Result<Spec> {
    let host_config = &record.host_config;
    let capabilities = capabilities(host_config, &host.held_capabilities)?;
    let security = SecurityOptions::parse(host_config)?;
    Ok(Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process(record, host, &security, &capabilities)?),
        root: Some(Root { path: "rootfs".to_owned(), readonly: host_config.readonly_rootfs }),
        hostname: (host_config.uts_mode != "host").then(|| record.config.hostname.clone()),
        domainname: (host_config.uts_mode != "host" && !record.config.domainname.is_empty())
            .then(|| record.config.domainname.clone()),
        mounts: mounts(record, host, &security),
        hooks: None,
        annotations: host_config.annotations.clone(),
        linux: Some(linux(record, host, &security, &capabilities)?),
    })
}

fn process(record: &Record, host: &Host, security: &SecurityOptions, capabilities: &[String]) -> Result<Process> {
    let config = &record.config;
    let mut args = record.argv();
    if has_own_init(&record.host_config) {
        args.splice(0..0, ["/sbin/docker-init".to_owned(), "--".to_owned()]);
    }
    Ok(Process {
        terminal: config.tty,
        console_size: None,
        user: User {
            // Docker looks the empty user up as well: root and the groups that list it.
            username: Some(config.user.clone()),
            additional_group_names: record.host_config.group_add.clone().unwrap_or_default(),
            ..User::default()
        },
        args,
        env: environment(record, &host.link_variables),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: Some(capability_sets(capabilities)),
        rlimits: rlimits(record, host)?,
        no_new_privileges: security.no_new_privileges.unwrap_or(host.no_new_privileges),
        apparmor_profile: apparmor::applied(&security.apparmor, record.host_config.privileged, host.apparmor),
        selinux_label: (!record.host_config.privileged && !record.process_label.is_empty())
            .then(|| record.process_label.clone()),
        oom_score_adj: Some(i32::try_from(record.host_config.oom_score_adj).unwrap_or(0)),
        ..Process::default()
    })
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's order: PATH, HOSTNAME, TERM with a terminal, then the container's own.
fn environment(record: &Record, of_links: &[String]) -> Vec<String> {
    let own = record.config.env.clone().unwrap_or_default();
    let has = |key: &str| own.iter().any(|variable| variable.split('=').next() == Some(key));
    let mut env = Vec::with_capacity(own.len() + 2);
    if !has("HOSTNAME") {
        env.push(format!("HOSTNAME={}", record.config.hostname));
    }
    if record.config.tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(of_links.iter().filter(|variable| !has(variable.split('=').next().unwrap_or_default())).cloned());
    // A variable without a value was asked to be taken away.
    env.extend(own.into_iter().filter(|variable| variable.contains('=')));
    let path = match env.iter().position(|variable| variable.starts_with("PATH=")) {
        Some(path) => env.remove(path),
        None => DEFAULT_PATH.to_owned(),
    };
    env.insert(0, path);
    env
}

pub(super) fn capability_sets(names: &[String]) -> Capabilities {
    let names = names.to_vec();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

/// The default set, with `CapAdd` and `CapDrop`, cut to what the daemon holds.
pub(super) fn capabilities(host_config: &HostConfig, held: &[String]) -> Result<Vec<String>> {
    let add = normalised("CapAdd", host_config.cap_add.as_deref().unwrap_or_default(), held)?;
    let drop = normalised("CapDrop", host_config.cap_drop.as_deref().unwrap_or_default(), held)?;
    let has = |list: &[String], name: &str| list.iter().any(|other| other == name);
    let chosen: Vec<String> = if host_config.privileged {
        held.to_vec()
    } else if has(&add, "ALL") {
        held.iter().filter(|name| !has(&drop, name)).cloned().collect()
    } else if has(&drop, "ALL") {
        add
    } else {
        let mut chosen: Vec<String> = defaults::capabilities().into_iter().filter(|name| !has(&drop, name)).collect();
        chosen.extend(add.into_iter().filter(|name| !has(&drop, name)));
        chosen
    };
    let mut unique: Vec<String> = Vec::new();
    for name in chosen {
        if has(held, &name) && !has(&unique, &name) {
            unique.push(name);
        }
    }
    Ok(unique)
}

fn normalised(field: &str, names: &[String], held: &[String]) -> Result<Vec<String>> {
    let known = |name: &str| {
        name == "ALL" || held.iter().any(|other| other == name) || defaults::ALL_CAPABILITIES.contains(&name)
    };
    names
        .iter()
        .map(|asked| {
            let upper = asked.to_ascii_uppercase();
            let name = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if known(&name) {
                Ok(name)
            } else {
                Err(Error::invalid(format!("invalid {field}: unknown capability: \"{name}\"")))
            }
        })
        .collect()
}

fn rlimits(record: &Record, host: &Host) -> Result<Vec<Rlimit>> {
    let mut limits: BTreeMap<String, Rlimit> = BTreeMap::new();
    for (name, soft, hard) in &host.default_ulimits {
        limits.insert(name.clone(), rlimit(name, *soft, *hard, true)?);
    }
    for ulimit in record.host_config.ulimits.iter().flatten() {
        limits.insert(ulimit.name.clone(), rlimit(&ulimit.name, ulimit.soft, ulimit.hard, false)?);
    }
    Ok(limits.into_values().collect())
}

fn rlimit(name: &str, soft: i64, hard: i64, lower_to_allowed: bool) -> Result<Rlimit> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !NAMES.contains(&name) {
        return Err(Error::invalid(format!("wrong rlimit value: RLIMIT_{}", name.to_ascii_uppercase())));
    }
    let value = |number: i64| if number < 0 { u64::MAX } else { number.unsigned_abs() };
    if value(soft) > value(hard) {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        soft: value(soft),
        hard: value(hard),
        lower_to_allowed,
    })
}

fn mounts(record: &Record, host: &Host, security: &SecurityOptions) -> Vec<Mount> {
    let host_config = &record.host_config;
    let own: Vec<&str> = record.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    let standard = if host_config.privileged { defaults::privileged_mounts() } else { defaults::mounts() };
    let own_dev = own.contains(&"/dev");
    let replaced = |mount: &Mount| {
        own.contains(&mount.destination.as_str()) || (own_dev && mount.destination.starts_with("/dev/"))
    };
    let mut mounts: Vec<Mount> = standard.into_iter().filter(|mount| !replaced(mount)).collect();
    for mount in &mut mounts {
        match mount.destination.as_str() {
            "/dev/shm" if host_config.ipc_mode == "host" => {
                *mount = bind("/dev/shm", "/dev/shm", &["rbind", "rprivate"])
            }
            // The other container's comes as a descriptor.
            "/dev/shm" if host_config.ipc_mode.starts_with("container:") => {
                *mount = bind("/dev/shm", "/dev/shm", &["rbind", "rprivate"]);
            }
            "/dev/shm" => mount.options.push(format!("size={}", host_config.shm_size)),
            "/sys/fs/cgroup" if let Some(writable) = security.writable_cgroups => {
                mount.options.retain(|option| option != "ro");
                mount.options.extend((!writable).then(|| "ro".to_owned()));
            }
            _ => {}
        }
    }
    if host_config.ipc_mode == "none" {
        mounts.retain(|mount| mount.destination != "/dev/shm");
    }
    if has_own_init(host_config) {
        // Hosts may have nothing executed in /run.
        mounts.push(bind("/sbin/docker-init", &host.init_program, &["bind", "ro", "exec", "rprivate"]));
    }
    let mut ours = Vec::new();
    for (source, destination) in [
        (&host.resolv_conf_path, "/etc/resolv.conf"),
        (&host.hostname_path, "/etc/hostname"),
        (&host.hosts_path, "/etc/hosts"),
    ] {
        if !own.contains(&destination) && !source.is_empty() {
            ours.push(bind(destination, source, &["rbind", "rprivate"]));
        }
    }
    ours.extend(record.mounts.iter().map(own_mount));
    ours.sort_by_key(depth);
    mounts.extend(ours);
    mounts
}

/// What lies higher up is mounted first, or it would hide what lies in it.
fn depth(mount: &Mount) -> usize {
    mount.destination.matches('/').count()
}

/// The mounts with files of the host in them, for a container that does not run: those of `etc` that were written, volumes and binds.
///
/// With each volume and bind comes its place among the container's mounts.
pub(super) fn file_mounts(record: &Record, etc: &std::path::Path) -> Vec<(Option<usize>, Mount)> {
    let own = |destination: &str| record.mounts.iter().any(|mount| mount.destination == destination);
    let mut mounts = Vec::new();
    for name in ["resolv.conf", "hostname", "hosts"] {
        let (source, destination) = (etc.join(name), format!("/etc/{name}"));
        if !own(&destination) && source.exists() {
            mounts.push((None, bind(&destination, &source.display().to_string(), &["rbind", "rprivate"])));
        }
    }
    let all = record.mounts.iter().enumerate();
    let bound = all.filter(|(_, mount)| !matches!(mount.kind, MountKind::Tmpfs { .. }));
    mounts.extend(bound.map(|(index, mount)| (Some(index), own_mount(mount))));
    mounts.sort_by_key(|(_, mount)| depth(mount));
    mounts
}

/// Where the pid namespace is somebody else's there is an init already.
fn has_own_init(host_config: &HostConfig) -> bool {
    host_config.init == Some(true) && host_config.pid_mode.is_empty()
}

fn bind(destination: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn own_mount(mount: &MountRecord) -> Mount {
    let read_only = match (mount.writable, mount.read_only_non_recursive || mount.non_recursive) {
        (true, _) => None,
        (false, true) => Some("ro"),
        (false, false) => Some("rro"),
    };
    match &mount.kind {
        MountKind::Bind { source, .. } => {
            let propagation = if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation };
            let mut options = vec![if mount.non_recursive { "bind" } else { "rbind" }, propagation];
            options.extend(read_only);
            bind(&mount.destination, source, &options)
        }
        MountKind::Volume { source, .. } => {
            let mut options = vec!["rbind", "rprivate"];
            options.extend(read_only);
            bind(&mount.destination, source, &options)
        }
        // Its files come as a descriptor; the name is for messages, and has to look like a path.
        MountKind::Image { reference, .. } => {
            let mut options = vec!["rbind", "rprivate"];
            // Only a tree of a build has no name, and what is written to it is thrown away.
            options.extend((!(mount.writable && reference.is_empty())).then_some("ro"));
            bind(&mount.destination, &format!("/{reference}"), &options)
        }
        MountKind::Tmpfs { options } => Mount {
            destination: mount.destination.clone(),
            kind: Some("tmpfs".to_owned()),
            source: Some("tmpfs".to_owned()),
            options: options.clone(),
            ..Mount::default()
        },
    }
}

/// Paths as the process finds them, which begins at the root: Docker takes those that say so only by the way.
fn from_root(paths: Option<&[String]>) -> Vec<String> {
    let absolute = |path: &String| if path.starts_with('/') { path.clone() } else { format!("/{path}") };
    paths.into_iter().flatten().map(absolute).collect()
}

fn linux(record: &Record, host: &Host, security: &SecurityOptions, capabilities: &[String]) -> Result<Linux> {
    let host_config = &record.host_config;
    let seccomp = confinement::profile(Wanted {
        option: if host.reads_profile { &security.seccomp } else { "unconfined" },
        engine: &host.seccomp,
        privileged: host_config.privileged,
        capabilities,
        kernel: host.kernel,
    })?;
    let mut masked_paths = from_root(host_config.masked_paths.as_deref());
    if !masked_paths.is_empty() {
        masked_paths.extend(defaults::thermal_throttle_paths(host.possible_cpus));
    }
    let mut devices = defaults::devices();
    devices.extend(host.devices.iter().map(|(device, _)| device.clone()));
    Ok(Linux {
        sysctl: sysctls(host_config),
        resources: Some(cgroup_resources(record, host)?),
        cgroups_path: Some(host.cgroup.clone()),
        namespaces: namespaces(host_config, host),
        devices,
        seccomp,
        rootfs_propagation: root_propagation(&record.mounts),
        masked_paths,
        readonly_paths: from_root(host_config.readonly_paths.as_deref()),
        mount_label: (!record.mount_label.is_empty()).then(|| record.mount_label.clone()),
        ..Linux::default()
    })
}

/// Mounts that spread need a root that lets them.
fn root_propagation(mounts: &[MountRecord]) -> Option<String> {
    let any = |words: [&str; 2]| mounts.iter().any(|mount| words.contains(&mount.propagation.as_str()));
    let word = if any(["shared", "rshared"]) {
        "shared"
    } else if any(["slave", "rslave"]) {
        "rslave"
    } else {
        return None;
    };
    Some(word.to_owned())
}

/// Docker opens low ports and ping to everybody in a network namespace of the container's own.
fn sysctls(host_config: &HostConfig) -> BTreeMap<String, String> {
    let mut sysctls = host_config.sysctls.clone();
    let own_network = host_config.network_mode != "host" && !host_config.network_mode.starts_with("container:");
    if own_network {
        for (key, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            sysctls.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    sysctls
}

fn namespaces(host_config: &HostConfig, host: &Host) -> Vec<LinuxNamespace> {
    use LinuxNamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut namespaces = vec![LinuxNamespace::new(Mount)];
    let joined = |kind, path: &String| LinuxNamespace { path: Some(path.clone()), ..LinuxNamespace::new(kind) };
    if host_config.network_mode != "host" || host.network_given {
        namespaces.push(LinuxNamespace::new(Network));
    }
    if host_config.uts_mode != "host" {
        namespaces.push(LinuxNamespace::new(Uts));
    }
    match (host_config.pid_mode.as_str(), &host.joined_pid) {
        ("host", _) => {}
        (_, Some(path)) => namespaces.push(joined(Pid, path)),
        (_, None) => namespaces.push(LinuxNamespace::new(Pid)),
    }
    match (host_config.ipc_mode.as_str(), &host.joined_ipc) {
        ("host", _) => {}
        (_, Some(path)) => namespaces.push(joined(Ipc, path)),
        (_, None) => namespaces.push(LinuxNamespace::new(Ipc)),
    }
    if host_config.cgroupns_mode != "host" {
        namespaces.push(LinuxNamespace::new(Cgroup));
    }
    namespaces
}

fn cgroup_resources(record: &Record, host: &Host) -> Result<LinuxResources> {
    let host_config = &record.host_config;
    let mut devices = if host_config.privileged {
        vec![LinuxDeviceCgroup { allow: true, access: Some("rwm".to_owned()), ..LinuxDeviceCgroup::default() }]
    } else {
        let mut rules = defaults::device_rules();
        rules.extend(defaults::required_device_rules());
        rules
    };
    for (device, permissions) in &host.devices {
        devices.push(LinuxDeviceCgroup {
            allow: true,
            kind: Some(device.kind.clone()),
            major: Some(device.major),
            minor: Some(device.minor),
            access: Some(permissions.clone()),
        });
    }
    for rule in host_config.device_cgroup_rules.iter().flatten() {
        devices.push(device_rule(rule)?);
    }
    Ok(LinuxResources { devices, ..resources::of_new(&host_config.resources(), host.block_io.clone()) })
}

/// `c 1:3 rwm`, `a *:* rwm`.
fn device_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = parts[..] else { return Err(invalid()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| invalid()),
    };
    if access.is_empty() || !access.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(invalid());
    }
    Ok(LinuxDeviceCgroup {
        allow: true,
        kind: Some(kind.to_owned()),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Vec<String> {
        defaults::ALL_CAPABILITIES
            .iter()
            .filter(|name| **name != "CAP_SYS_RESOURCE")
            .map(|name| (*name).to_owned())
            .collect()
    }

    #[test]
    fn capabilities_are_cut_to_what_the_daemon_holds() {
        let privileged = HostConfig { privileged: true, ..HostConfig::default() };
        assert_eq!(capabilities(&privileged, &held()).unwrap(), held());
        let add =
            HostConfig { cap_add: Some(vec!["sys_resource".into(), "net_admin".into()]), ..HostConfig::default() };
        let names = capabilities(&add, &held()).unwrap();
        assert_eq!(names.len(), 15);
        assert!(names.contains(&"CAP_NET_ADMIN".to_owned()));
        let none = HostConfig { cap_drop: Some(vec!["ALL".into()]), ..HostConfig::default() };
        assert!(capabilities(&none, &held()).unwrap().is_empty());
        let unknown = HostConfig { cap_add: Some(vec!["NOPE".into()]), ..HostConfig::default() };
        assert_eq!(
            capabilities(&unknown, &held()).unwrap_err().text(),
            "invalid CapAdd: unknown capability: \"CAP_NOPE\""
        );
    }

    #[test]
    fn device_rules_are_read() {
        let rule = device_rule("c 10:* rw").unwrap();
        assert_eq!((rule.kind.as_deref(), rule.major, rule.minor), (Some("c"), Some(10), None));
        for bad in ["", "x 1:2 r", "c 1 r", "c 1:2 z", "c 1:2"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}
