//! What the host is and can do.

use std::fs;

use crate::cgroups::Abilities;
use crate::config::{EngineConfig, SeccompDefault};
use crate::containers::confinement::apparmor;

/// Facts for `info`.
pub(super) struct Facts {
    pub(super) kernel_version: String,
    pub(super) operating_system: String,
    pub(super) os_version: String,
    pub(super) architecture: String,
    pub(super) name: String,
    pub(super) cpus: i64,
    pub(super) memory_bytes: i64,
    pub(super) ipv4_forwarding: bool,
    pub(super) abilities: &'static Abilities,
    pub(super) open_files: i64,
    pub(super) threads: i64,
    pub(super) security_options: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Reads them all.
pub(super) fn facts(config: &EngineConfig) -> Facts {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let (operating_system, os_version) = os_release();
    let abilities = Abilities::of_host();
    let ipv4_forwarding = read("/proc/sys/net/ipv4/ip_forward").trim() == "1";
    let mut security_options = Vec::new();
    if apparmor::is_enabled() {
        security_options.push("name=apparmor".to_owned());
    }
    let mut warnings = warnings(abilities, ipv4_forwarding);
    if config.seccomp != SeccompDefault::Builtin {
        warnings.insert(0, "WARNING: daemon is not using the default seccomp profile".to_owned());
    }
    security_options.push(format!("name=seccomp,profile={}", config.seccomp.name()));
    if config.selinux && ferry_sys::selinux::is_enabled() {
        security_options.push("name=selinux".to_owned());
    }
    security_options.push("name=cgroupns".to_owned());
    if config.no_new_privileges {
        security_options.push("name=no-new-privileges".to_owned());
    }
    Facts {
        kernel_version: text(uname.release()),
        operating_system,
        os_version,
        architecture: text(uname.machine()),
        name: text(uname.nodename()),
        cpus: std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(i64::MAX)),
        memory_bytes: memory_bytes(),
        ipv4_forwarding,
        abilities,
        open_files: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
        security_options,
        warnings,
    }
}

/// What users will miss, in Docker's words and order. What they could do nothing about is not told.
fn warnings(abilities: &Abilities, ipv4_forwarding: bool) -> Vec<String> {
    let v2 = abilities.unified;
    let io = |v1: &'static str, v2_name: &'static str| if v2 { v2_name } else { v1 };
    let table = [
        (abilities.memory, "No memory limit support"),
        (abilities.swap, "No swap limit support"),
        (abilities.oom_kill_disable || v2, "No oom kill disable support"),
        (abilities.cpu_cfs, "No cpu cfs quota support"),
        (abilities.cpu_cfs, "No cpu cfs period support"),
        (abilities.cpu_shares, "No cpu shares support"),
        (abilities.cpuset, "No cpuset support"),
        (abilities.blkio_weight || !v2, "No io.weight support"),
        (abilities.blkio_weight_device || !v2, "No io.weight (per device) support"),
        (abilities.blkio_read_bps, io("No blkio throttle.read_bps_device support", "No io.max (rbps) support")),
        (abilities.blkio_write_bps, io("No blkio throttle.write_bps_device support", "No io.max (wbps) support")),
        (abilities.blkio_read_iops, io("No blkio throttle.read_iops_device support", "No io.max (riops) support")),
        (abilities.blkio_write_iops, io("No blkio throttle.write_iops_device support", "No io.max (wiops) support")),
        (ipv4_forwarding, "IPv4 forwarding is disabled"),
    ];
    let missing = table.iter().filter(|(there, _)| !there);
    missing.map(|(_, what)| format!("WARNING: {what}")).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn entries(folder: &str) -> i64 {
    fs::read_dir(folder).map_or(0, |entries| i64::try_from(entries.count()).unwrap_or(i64::MAX))
}

fn memory_bytes() -> i64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()).and_then(|number| number.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

fn os_release() -> (String, String) {
    let mut text = read("/etc/os-release");
    if text.is_empty() {
        text = read("/usr/lib/os-release");
    }
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|line| line.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let name = value("PRETTY_NAME");
    (if name.is_empty() { "Linux".to_owned() } else { name }, value("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_name_what_is_missing_and_could_be_had() {
        let none = warnings(&Abilities::default(), false);
        assert_eq!(none.len(), 12, "{none:?}");
        assert!(none.contains(&"WARNING: No blkio throttle.read_bps_device support".to_owned()));
        let unified = warnings(&Abilities { unified: true, ..Abilities::default() }, true);
        assert!(unified.contains(&"WARNING: No io.max (rbps) support".to_owned()));
        assert!(!unified.iter().any(|text| text.contains("oom kill") || text.contains("IPv4")));
    }
}
