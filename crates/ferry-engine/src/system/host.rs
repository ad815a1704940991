//! What the host is and can do.

use std::fs;
use std::path::Path;

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
    pub(super) cgroup_version: &'static str,
    pub(super) controllers: Controllers,
    pub(super) open_files: i64,
    pub(super) threads: i64,
    pub(super) security_options: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// cgroup controllers that can be used.
#[derive(Default)]
pub(super) struct Controllers {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpu: bool,
    pub(super) cpuset: bool,
    pub(super) pids: bool,
}

/// Reads them all.
pub(super) fn facts(config: &EngineConfig) -> Facts {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let (operating_system, os_version) = os_release();
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let controllers = if v2 { v2_controllers() } else { v1_controllers() };
    let ipv4_forwarding = read("/proc/sys/net/ipv4/ip_forward").trim() == "1";
    let mut security_options = Vec::new();
    if apparmor::is_enabled() {
        security_options.push("name=apparmor".to_owned());
    }
    let mut warnings = Vec::new();
    if config.seccomp != SeccompDefault::Builtin {
        warnings.push("WARNING: daemon is not using the default seccomp profile".to_owned());
    }
    security_options.push(format!("name=seccomp,profile={}", config.seccomp.name()));
    security_options.push("name=cgroupns".to_owned());
    if config.no_new_privileges {
        security_options.push("name=no-new-privileges".to_owned());
    }
    for (there, what) in [
        (controllers.memory, "No memory limit support"),
        (controllers.swap, "No swap limit support"),
        (controllers.cpu, "No cpu cfs quota support"),
        (controllers.cpuset, "No cpuset support"),
        (ipv4_forwarding, "IPv4 forwarding is disabled"),
    ] {
        if !there {
            warnings.push(format!("WARNING: {what}"));
        }
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
        cgroup_version: if v2 { "2" } else { "1" },
        controllers,
        open_files: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
        security_options,
        warnings,
    }
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

fn v1_controllers() -> Controllers {
    let text = read("/proc/cgroups");
    let mounts = read("/proc/self/mountinfo");
    let mounted = |name: &str| {
        mounts.lines().any(|line| {
            line.split_once(" - cgroup ").is_some_and(|(_, after)| {
                after.split(' ').next_back().is_some_and(|options| options.split(',').any(|option| option == name))
            })
        })
    };
    let enabled = |name: &str| {
        let row = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name));
        row.is_some_and(|row| row.ends_with('1')) && mounted(name)
    };
    let memory_root = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - cgroup ")?;
        let options = after.split(' ').next_back()?;
        options
            .split(',')
            .any(|option| option == "memory")
            .then(|| before.split(' ').nth(4).map(str::to_owned))
            .flatten()
    });
    let swap = memory_root.is_some_and(|root| Path::new(&root).join("memory.memsw.limit_in_bytes").exists());
    Controllers {
        memory: enabled("memory"),
        swap,
        cpu: enabled("cpu"),
        cpuset: enabled("cpuset"),
        pids: enabled("pids"),
    }
}

fn v2_controllers() -> Controllers {
    let text = read("/sys/fs/cgroup/cgroup.controllers");
    let has = |name: &str| text.split_ascii_whitespace().any(|controller| controller == name);
    // The root has no `memory.swap.max`; whether children get one is told by any of them, or by the kernel's swap accounting.
    let swap = has("memory") && Path::new("/proc/swaps").exists();
    Controllers { memory: has("memory"), swap, cpu: has("cpu"), cpuset: has("cpuset"), pids: has("pids") }
}
