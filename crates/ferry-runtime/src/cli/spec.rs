//! `spec` and `features`: what a configuration looks like, and what this runtime can do with one.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ferry_runtime::Error;
use ferry_spec::runtime::{
    Capabilities, Linux, LinuxNamespace, LinuxNamespaceKind, LinuxResources, Process, Rlimit, Root, Spec, defaults,
};

use super::arguments::{Arguments, Option as Flag, Rest};
use super::{failed, invalid, print, unsupported};

pub(crate) fn spec(line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::value("bundle").short('b'), Flag::switch("rootless")];
    let (arguments, words) = Arguments::parse(&known, line, Rest::Mixed)?;
    if arguments.has("rootless") {
        return Err(unsupported("--rootless is not supported"));
    }
    if !words.is_empty() {
        return Err(invalid(format!("unexpected arguments: {}", words.join(" "))));
    }
    let path = Path::new(arguments.get("bundle").unwrap_or(".")).join("config.json");
    let text = serde_json::to_string_pretty(&sample()).map_err(|error| failed("word the configuration", &error))?;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all((text + "\n").as_bytes()))
        .map_err(|error| failed(&format!("write {}", path.display()), &error))?;
    Ok(ExitCode::SUCCESS)
}

/// A shell in `rootfs`, confined as Docker's containers are.
fn sample() -> Spec {
    use LinuxNamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let names = defaults::capabilities();
    Spec {
        oci_version: ferry_spec::runtime::OCI_VERSION.into(),
        process: Some(Process {
            terminal: true,
            args: vec!["sh".into()],
            env: vec![format!("PATH={}", defaults::PATH), "TERM=xterm".into()],
            cwd: "/".into(),
            rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024, lower_to_allowed: false }],
            no_new_privileges: true,
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names.clone(),
                ..Capabilities::default()
            }),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: Some("ferry".into()),
        mounts: defaults::mounts(),
        linux: Some(Linux {
            resources: Some(LinuxResources { devices: defaults::device_rules(), ..LinuxResources::default() }),
            namespaces: [Pid, Network, Ipc, Uts, Mount, Cgroup].map(LinuxNamespace::new).to_vec(),
            seccomp: Some(defaults::seccomp_profile(&names)),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

pub(crate) fn features(line: &[String]) -> Result<ExitCode, Error> {
    let (_, words) = Arguments::parse(&[], line, Rest::Mixed)?;
    if !words.is_empty() {
        return Err(invalid(format!("unexpected arguments: {}", words.join(" "))));
    }
    let features = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": ferry_spec::runtime::OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": ["async", "bind", "defaults", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime", "noexec", "nostrictatime",
            "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime", "rexec", "rnoatime", "rnodev",
            "rnodiratime", "rnoexec", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw",
            "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared", "slave", "strictatime",
            "suid", "symfollow", "unbindable"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"],
            "capabilities": defaults::ALL_CAPABILITIES.to_vec(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
            "netDevices": {"enabled": false}
        },
        "annotations": {"ferry.runtime.version": env!("CARGO_PKG_VERSION")}
    });
    let text = serde_json::to_string_pretty(&features).map_err(|error| failed("word the features", &error))?;
    print(&(text + "\n")).map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_a_whole_configuration() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), sample());
    }
}
