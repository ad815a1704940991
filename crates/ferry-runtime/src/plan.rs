//! The configuration, checked whole before anything is touched.
//!
//! Pure but for asking which capabilities this process holds and whether the host has AppArmor or SELinux. What ferry does not do is an error that
//! names it; nothing that was asked for is dropped in silence.

use std::ffi::CString;
use std::path::PathBuf;

use ferry_spec::runtime::{
    Hooks, Linux, LinuxDevice, LinuxNamespaceKind, LinuxResources, LinuxSeccomp, OCI_VERSION, Process, Spec, State,
    defaults,
};
use ferry_sys::mount::Propagation;
use ferry_sys::namespace::Namespaces;

use crate::error::Error;

mod mount_options;
mod process;

pub(crate) use mount_options::{MountPlan, MountSource};
pub(crate) use process::{CapabilityPlan, ProcessPlan};

/// What a container's process does between `clone` and `execve`, and the cgroup it does it in.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Namespaces to make.
    pub(crate) new_namespaces: Namespaces,
    /// Namespaces to join, by path.
    pub(crate) joined_namespaces: Vec<(Namespaces, PathBuf)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Vec<MountPlan>,
    /// SELinux label of the file systems that are made.
    pub(crate) mount_label: Option<String>,
    pub(crate) readonly_root: bool,
    /// Propagation of the root mount inside.
    pub(crate) root_propagation: Option<(Propagation, bool)>,
    pub(crate) devices: Vec<LinuxDevice>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    /// Path below `/proc/sys` and value.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) cgroup_path: String,
    pub(crate) resources: LinuxResources,
    pub(crate) seccomp: Option<LinuxSeccomp>,
    pub(crate) process: ProcessPlan,
    /// Name of the new session keyring; `None` keeps the caller's.
    pub(crate) keyring: Option<CString>,
    /// Where the root cannot be pivoted into (it lies on a ramdisk), it is moved and changed into.
    pub(crate) may_change_root: bool,
    pub(crate) hooks: Hooks,
    /// What hooks are told, but for the pid.
    pub(crate) hook_state: State,
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Whether the container's `/dev` is the runtime's to fill: one that is bind mounted is somebody else's.
    pub(crate) fn makes_dev(&self) -> bool {
        let is_dev = |mount: &MountPlan| mount.destination.trim_end_matches('/') == "/dev";
        !self.mounts.iter().any(|mount| is_dev(mount) && matches!(mount.source, MountSource::Bind { .. }))
    }

    /// Checks the configuration and works out what is to be done.
    pub(crate) fn new(
        id: &str,
        spec: &Spec,
        network_given: bool,
        bundle: Option<&std::path::Path>,
    ) -> Result<Plan, Error> {
        let linux = spec.linux.as_ref().ok_or_else(|| Error::invalid("config has no `linux` object"))?;
        let process = spec.process.as_ref().ok_or_else(|| Error::invalid("config has no `process` object"))?;
        refuse_unsupported(spec, linux)?;
        spec.hooks.as_ref().map_or(Ok(()), crate::hooks::check)?;
        let (new_namespaces, joined_namespaces) = namespaces(linux, network_given)?;
        if !new_namespaces.contains(Namespaces::MOUNT) {
            return Err(Error::unsupported("a container without a mount namespace of its own is not supported"));
        }
        let owns = |wanted: Namespaces| {
            new_namespaces.contains(wanted) || joined_namespaces.iter().any(|(kind, _)| *kind == wanted)
        };
        if spec.hostname.is_some() && !owns(Namespaces::UTS) {
            return Err(Error::invalid("unable to set hostname without a private UTS namespace"));
        }
        if spec.domainname.is_some() && !owns(Namespaces::UTS) {
            return Err(Error::invalid("unable to set domainname without a private UTS namespace"));
        }
        let sysctls = sysctls(linux, &|kind| owns(kind) || (network_given && kind == Namespaces::NETWORK))?;
        let mut warnings = Vec::new();
        let process = ProcessPlan::new(process, linux.personality.as_ref(), &mut warnings)?;
        let mut mounts =
            spec.mounts.iter().map(|mount| MountPlan::new(mount, bundle)).collect::<Result<Vec<MountPlan>, Error>>()?;
        let mount_label = selinux_label(linux.mount_label.as_deref())?;
        if let Some(label) = &mount_label {
            mounts.iter_mut().for_each(|mount| mount.take_label(label));
        }
        Ok(Plan {
            new_namespaces,
            joined_namespaces,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            mounts,
            mount_label,
            readonly_root: spec.root.as_ref().is_some_and(|root| root.readonly),
            root_propagation: linux.rootfs_propagation.as_deref().map(root_propagation).transpose()?,
            devices: devices(&linux.devices)?,
            masked_paths: absolute(&linux.masked_paths, "masked")?,
            readonly_paths: absolute(&linux.readonly_paths, "read-only")?,
            sysctls,
            cgroup_path: linux.cgroups_path.clone().unwrap_or_else(|| format!("/{id}")),
            resources: linux.resources.clone().unwrap_or_default(),
            seccomp: linux.seccomp.clone(),
            process,
            keyring: Some(c_string("container id", &format!("_ses.{id}"))?),
            may_change_root: false,
            hooks: spec.hooks.clone().unwrap_or_default(),
            hook_state: hook_state(id, spec, bundle),
            warnings,
        })
    }

    /// Whether hooks may look for the root file system by its name, in the container's mount namespace.
    pub(crate) fn shows_root_to_hooks(&self) -> bool {
        !(self.hooks.prestart.is_empty()
            && self.hooks.create_runtime.is_empty()
            && self.hooks.create_container.is_empty())
    }
}

fn hook_state(id: &str, spec: &Spec, bundle: Option<&std::path::Path>) -> State {
    State {
        oci_version: OCI_VERSION.into(),
        id: id.into(),
        status: "creating".into(),
        pid: 0,
        bundle: bundle.map(|bundle| bundle.display().to_string()).unwrap_or_default(),
        annotations: spec.annotations.clone(),
    }
}

/// A text as a C string.
pub(crate) fn c_string(what: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::invalid(format!("{what} has a NUL byte in it: {text:?}")))
}

fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    let process = spec.process.as_ref();
    let asked = [
        (!linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty(), "linux.uidMappings and linux.gidMappings"),
        (linux.namespace(LinuxNamespaceKind::User).is_some(), "a user namespace"),
        (linux.intel_rdt.is_some(), "linux.intelRdt"),
        (!linux.net_devices.is_empty(), "linux.netDevices"),
        (!linux.time_offsets.is_empty(), "linux.timeOffsets"),
        (process.is_some_and(|process| process.exec_cpu_affinity.is_some()), "process.execCPUAffinity"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

/// A label that was asked for; in runc's words where the host has no use for any.
fn selinux_label(asked: Option<&str>) -> Result<Option<String>, Error> {
    let Some(label) = asked.filter(|label| !label.is_empty()) else { return Ok(None) };
    c_string("SELinux label", label)?;
    if ferry_sys::selinux::is_enabled() {
        return Ok(Some(label.into()));
    }
    Err(Error::unsupported("selinux label is specified in config, but selinux is disabled or not supported"))
}

type Joined = Vec<(Namespaces, PathBuf)>;

fn namespaces(linux: &Linux, network_given: bool) -> Result<(Namespaces, Joined), Error> {
    let (mut new, mut joined) = (Namespaces::empty(), Vec::new());
    let mut seen = Vec::new();
    for namespace in &linux.namespaces {
        if seen.contains(&namespace.kind) {
            return Err(Error::invalid(format!("malformed spec file: duplicated ns {:?}", namespace.kind)));
        }
        seen.push(namespace.kind);
        let kind = match namespace.kind {
            LinuxNamespaceKind::Pid => Namespaces::PID,
            LinuxNamespaceKind::Network => Namespaces::NETWORK,
            LinuxNamespaceKind::Mount => Namespaces::MOUNT,
            LinuxNamespaceKind::Ipc => Namespaces::IPC,
            LinuxNamespaceKind::Uts => Namespaces::UTS,
            LinuxNamespaceKind::User => Namespaces::USER,
            LinuxNamespaceKind::Cgroup => Namespaces::CGROUP,
            LinuxNamespaceKind::Time => Namespaces::TIME,
        };
        if kind == Namespaces::NETWORK && network_given {
            continue;
        }
        match namespace.path.as_deref().filter(|path| !path.is_empty()) {
            None => new = new.with(kind),
            Some(path) if !path.starts_with('/') => {
                return Err(Error::invalid(format!("namespace path {path:?} is not absolute")));
            }
            Some(path) => joined.push((kind, PathBuf::from(path))),
        }
    }
    Ok((new, joined))
}

fn root_propagation(text: &str) -> Result<(Propagation, bool), Error> {
    mount_options::propagation(text).ok_or_else(|| Error::invalid(format!("rootfsPropagation={text} is not supported")))
}

fn absolute(paths: &[String], what: &str) -> Result<Vec<String>, Error> {
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(Error::invalid(format!("{what} path {path:?} is not absolute"))),
        None => Ok(paths.to_vec()),
    }
}

/// The default nodes, and those of the configuration in place of or beside them.
fn devices(asked: &[LinuxDevice]) -> Result<Vec<LinuxDevice>, Error> {
    let mut devices = defaults::devices();
    for device in asked {
        if !device.path.starts_with('/') {
            return Err(Error::invalid(format!("device path {:?} is not absolute", device.path)));
        }
        if !matches!(device.kind.as_str(), "c" | "u" | "b" | "p") {
            return Err(Error::invalid(format!("invalid type {:?} of device {}", device.kind, device.path)));
        }
        if device.kind != "p" && (u32::try_from(device.major).is_err() || u32::try_from(device.minor).is_err()) {
            return Err(Error::invalid(format!(
                "invalid number {}:{} of device {}",
                device.major, device.minor, device.path
            )));
        }
        devices.retain(|known| known.path != device.path);
        devices.push(device.clone());
    }
    Ok(devices)
}

/// Parameters of the kernel that a container may set: those of namespaces which are not the host's. Texts are runc's.
fn sysctls(linux: &Linux, owns: &dyn Fn(Namespaces) -> bool) -> Result<Vec<(String, String)>, Error> {
    linux
        .sysctl
        .iter()
        .map(|(name, value)| {
            let path = sysctl_path(name)?;
            let dotted = path.replace('/', ".");
            let refused = |why: &str| Error::invalid(format!("sysctl {dotted:?} {why}"));
            let top = path.split('/').next().unwrap_or_default();
            if path.starts_with("fs/mqueue/") || is_ipc_sysctl(&path) {
                if !owns(Namespaces::IPC) {
                    return Err(refused("is not allowed in the hosts ipc namespace"));
                }
            } else if top == "net" {
                if !owns(Namespaces::NETWORK) {
                    return Err(refused("not allowed in host network namespace"));
                }
            } else if path == "kernel/hostname" && owns(Namespaces::UTS) {
                return Err(refused("is not allowed as it conflicts with the OCI \"hostname\" field"));
            } else if path != "kernel/domainname" || !owns(Namespaces::UTS) {
                return Err(refused("is not in a separate kernel namespace"));
            }
            Ok((path, value.clone()))
        })
        .collect()
}

fn is_ipc_sysctl(path: &str) -> bool {
    const IPC: [&str; 10] = [
        "auto_msgmni",
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
        "shm_next_id",
    ];
    path.strip_prefix("kernel/").is_some_and(|name| IPC.contains(&name))
}

/// Turns `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding` into a path: the first separator tells which form it is.
fn sysctl_path(name: &str) -> Result<String, Error> {
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
    let path: String = if dotted {
        name.chars()
            .map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    } else {
        name.into()
    };
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") || path.contains('\0') {
        return Err(Error::invalid(format!("sysctl {name:?} is not a valid name")));
    }
    Ok(path)
}

/// Capabilities and the like of a process run in a container that exists.
pub(crate) fn exec_process(process: &Process, linux: Option<&Linux>) -> Result<(ProcessPlan, Vec<String>), Error> {
    if process.exec_cpu_affinity.is_some() {
        return Err(Error::unsupported("process.execCPUAffinity is not supported"));
    }
    let mut warnings = Vec::new();
    let plan = ProcessPlan::new(process, linux.and_then(|linux| linux.personality.as_ref()), &mut warnings)?;
    Ok((plan, warnings))
}

#[cfg(test)]
mod tests {
    use ferry_spec::runtime::{LinuxNamespace, User};

    use super::*;

    fn spec() -> Spec {
        Spec {
            process: Some(Process {
                args: vec!["true".into()],
                cwd: "/".into(),
                user: User::default(),
                ..Process::default()
            }),
            linux: Some(Linux {
                namespaces: vec![
                    LinuxNamespace::new(LinuxNamespaceKind::Mount),
                    LinuxNamespace::new(LinuxNamespaceKind::Ipc),
                ],
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        Plan::new("x", &spec, false, None).unwrap_err().to_string()
    }

    #[test]
    fn minimal_configuration_is_enough() {
        let plan = Plan::new("x", &spec(), false, None).unwrap();
        assert_eq!(plan.cgroup_path, "/x");
        assert_eq!(plan.devices.len(), 6);
    }

    #[test]
    fn what_is_not_built_is_named() {
        assert!(
            refusal(|spec| spec.linux.as_mut().unwrap().namespaces.push(LinuxNamespace::new(LinuxNamespaceKind::User)))
                .contains("user namespace")
        );
    }

    #[test]
    fn labels_are_refused_in_runcs_words_where_they_mean_nothing() {
        if ferry_sys::selinux::is_enabled() {
            return;
        }
        let text = "selinux label is specified in config, but selinux is disabled or not supported";
        assert_eq!(refusal(|spec| spec.linux.as_mut().unwrap().mount_label = Some("x".into())), text);
        assert_eq!(refusal(|spec| spec.process.as_mut().unwrap().selinux_label = Some("x".into())), text);
        let mut unlabelled = spec();
        unlabelled.linux.as_mut().unwrap().mount_label = Some(String::new());
        assert!(Plan::new("x", &unlabelled, false, None).unwrap().mount_label.is_none());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refusal(|spec| spec.hostname = Some("h".into())).contains("UTS"));
        assert!(
            refusal(|spec| spec.linux.as_mut().unwrap().namespaces.push(LinuxNamespace::new(LinuxNamespaceKind::Ipc)))
                .contains("duplicated")
        );
        assert!(refusal(|spec| spec.process.as_mut().unwrap().args.clear()).contains("args"));
        assert!(refusal(|spec| spec.process.as_mut().unwrap().cwd = "tmp".into()).contains("absolute"));
        assert!(refusal(|spec| spec.process.as_mut().unwrap().env = vec!["A\0=b".into()]).contains("NUL"));
        assert!(refusal(|spec| spec.linux.as_mut().unwrap().masked_paths = vec!["x".into()]).contains("absolute"));
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let ask = |name: &str| {
            let mut spec = spec();
            spec.linux.as_mut().unwrap().sysctl.insert(name.into(), "1".into());
            Plan::new("x", &spec, false, None).map(|plan| plan.sysctls)
        };
        assert_eq!(ask("kernel.shmmax").unwrap(), [("kernel/shmmax".into(), "1".into())]);
        assert_eq!(ask("fs/mqueue/msg_max").unwrap()[0].0, "fs/mqueue/msg_max");
        for name in ["vm.swappiness", "net.ipv4.ip_forward", "kernel.panic", "kernel/../vm/swappiness", "fs.file-max"] {
            ask(name).unwrap_err();
        }
    }

    #[test]
    fn sysctl_names_have_two_forms() {
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
    }
}
