//! What Docker gives every container unless told otherwise, as pure functions.
//!
//! The engine puts these into a [`Spec`](super::Spec); the runtime adds nothing to them but the device nodes and device rules without which no
//! container works ([`devices`] and [`required_device_rules`]).

use super::{LinuxDevice, LinuxDeviceCgroup, LinuxSeccomp, Mount};

/// Every capability that Linux 6.18 knows, in the order of their numbers.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The default search path of programs, given to a container whose image names none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns Docker's 14 default capabilities.
pub fn capabilities() -> Vec<String> {
    [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]
    .map(String::from)
    .to_vec()
}

/// Returns the default system call filter for a process with these capabilities (`CAP_…` names).
pub fn seccomp_profile<S: AsRef<str>>(capabilities: &[S]) -> LinuxSeccomp {
    super::seccomp_profile::profile(|name| capabilities.iter().any(|held| held.as_ref() == name))
}

/// Returns the paths that read as empty, those of single processors apart.
pub fn masked_paths() -> Vec<String> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    .map(String::from)
    .to_vec()
}

/// Returns the `thermal_throttle` folders of that many processors; to be masked where the host has them.
pub fn thermal_throttle_paths(possible_cpus: usize) -> Vec<String> {
    (0..possible_cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")).collect()
}

/// Returns the paths that cannot be written.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(String::from).to_vec()
}

/// Returns the mounts of a container that is not privileged; `/dev/shm` without a size.
pub fn mounts() -> Vec<Mount> {
    let mut mounts = privileged_mounts();
    for mount in &mut mounts {
        if mount.destination == "/sys" || mount.destination == "/sys/fs/cgroup" {
            mount.options.push("ro".into());
        }
    }
    mounts
}

/// Returns the mounts of a privileged container: `/sys` and the cgroups can be written.
pub fn privileged_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
    ]
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|&option| option.into()).collect(),
        ..Mount::default()
    }
}

/// Returns the device nodes that the runtime makes in every container's own `/dev`.
pub fn devices() -> Vec<LinuxDevice> {
    [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ]
    .map(|(path, major, minor)| LinuxDevice {
        path: path.into(),
        kind: "c".into(),
        major,
        minor,
        file_mode: Some(0o666),
        uid: Some(0),
        gid: Some(0),
    })
    .to_vec()
}

/// Returns the device rules of a container that is not privileged: nothing, then the harmless devices.
pub fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(false, None, None, None, "rwm")];
    for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
        rules.push(rule(true, Some("c"), Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(false, Some("c"), Some(10), Some(229), "rwm"));
    rules
}

/// Returns the device rules which the runtime appends to any list: making nodes (opening them is another matter), the
/// default devices, terminals.
pub fn required_device_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(true, Some("c"), None, None, "m"), rule(true, Some("b"), None, None, "m")];
    for (major, minor) in [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 2)] {
        rules.push(rule(true, Some("c"), Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, Some("c"), Some(136), None, "rwm"));
    rules
}

fn rule(allow: bool, kind: Option<&str>, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup { allow, kind: kind.map(String::from), major, minor, access: Some(access.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprivileged_mounts_are_read_only_where_it_matters() {
        for mount in mounts() {
            let read_only = mount.options.iter().any(|option| option == "ro");
            assert_eq!(read_only, mount.destination.starts_with("/sys"), "{}", mount.destination);
        }
    }

    #[test]
    fn default_capabilities_are_known() {
        assert_eq!(capabilities().len(), 14);
        assert!(capabilities().iter().all(|name| ALL_CAPABILITIES.contains(&name.as_str())));
    }

    #[test]
    fn profile_follows_capabilities() {
        let names = |capabilities: &[&str]| -> Vec<String> {
            seccomp_profile(capabilities)
                .syscalls
                .iter()
                .filter(|rule| rule.args.is_empty())
                .flat_map(|rule| rule.names.clone())
                .collect()
        };
        let plain = names(&[]);
        assert!(
            !plain.contains(&"mount".into()) && !plain.contains(&"bpf".into()) && !plain.contains(&"chroot".into())
        );
        assert!(!plain.contains(&"clone".into()), "clone is conditional");
        assert!(names(&["CAP_SYS_CHROOT"]).contains(&"chroot".into()));
        assert!(
            names(&["CAP_SYS_ADMIN"]).contains(&"mount".into()) && names(&["CAP_SYS_ADMIN"]).contains(&"clone".into())
        );
        assert!(plain.iter().all(|name| name != "socket"
            && name != "keyctl"
            && name != "add_key"
            && name != "io_uring_setup"
            && name != "userfaultfd"));
    }
}
