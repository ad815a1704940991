//! What a device wants changed in a container's configuration.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use ferry_spec::runtime::{Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, Mount, Spec};
use serde::Deserialize;
use serde_json::Value;

/// The edits of a specification or of one of its devices.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    hooks: Vec<DeviceHook>,
    mounts: Vec<DeviceMount>,
    additional_gids: Vec<u32>,
    /// Known, and not built.
    intel_rdt: Option<Value>,
    /// Known, and not built.
    net_devices: Vec<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: i64,
    minor: i64,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceHook {
    hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceMount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

impl ContainerEdits {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the words, without looking at the host.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(variable) = self.env.iter().find(|variable| variable.find('=').is_none_or(|at| at == 0)) {
            return Err(format!("invalid container edits: invalid environment variable {variable:?}"));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return Err("invalid (empty) device path".to_owned());
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("device {:?}: invalid type {:?}", node.path, node.kind));
            }
            if !node.permissions.bytes().all(|letter| b"rwm".contains(&letter)) {
                return Err(format!("device {:?}: invalid permissions {:?}", node.path, node.permissions));
            }
        }
        if let Some(hook) = self.hooks.iter().find(|hook| place(&mut Hooks::default(), &hook.hook_name).is_none()) {
            return Err(format!("invalid hook name {:?}", hook.hook_name));
        }
        match self.mounts.iter().find(|mount| mount.host_path.is_empty() || mount.container_path.is_empty()) {
            Some(_) => Err("invalid mount, empty host or container path".to_owned()),
            None => Ok(()),
        }
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.env.extend(other.env.iter().cloned());
        self.device_nodes.extend(other.device_nodes.iter().cloned());
        self.hooks.extend(other.hooks.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
        self.additional_gids.extend(&other.additional_gids);
        self.net_devices.extend(other.net_devices.iter().cloned());
        if other.intel_rdt.is_some() {
            self.intel_rdt.clone_from(&other.intel_rdt);
        }
    }

    /// Changes a configuration.
    pub(super) fn apply(&self, spec: &mut Spec) -> Result<(), String> {
        for (asked, what) in [(self.intel_rdt.is_some(), "intelRdt"), (!self.net_devices.is_empty(), "netDevices")] {
            if asked {
                return Err(format!("not implemented: {what} of a CDI device"));
            }
        }
        let process = spec.process.get_or_insert_default();
        for variable in &self.env {
            let name = variable.split('=').next();
            process.env.retain(|other| other.split('=').next() != name);
            process.env.push(variable.clone());
        }
        process.user.additional_gids.extend(self.additional_gids.iter().filter(|gid| **gid != 0));
        let linux = spec.linux.get_or_insert_default();
        for node in &self.device_nodes {
            let device = node.resolved()?;
            linux.devices.retain(|other| other.path != device.path);
            if matches!(device.kind.as_str(), "b" | "c") {
                let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
                linux.resources.get_or_insert_default().devices.push(LinuxDeviceCgroup {
                    allow: true,
                    kind: Some(device.kind.clone()),
                    major: Some(device.major),
                    minor: Some(device.minor),
                    access: Some(access.to_owned()),
                });
            }
            linux.devices.push(device);
        }
        for mount in &self.mounts {
            spec.mounts.retain(|other| other.destination != mount.container_path);
            spec.mounts.push(mount.resolved());
        }
        let hooks = spec.hooks.get_or_insert_default();
        for hook in &self.hooks {
            let made =
                Hook { path: hook.path.clone(), args: hook.args.clone(), env: hook.env.clone(), timeout: hook.timeout };
            place(hooks, &hook.hook_name).ok_or_else(|| format!("unknown hook name {:?}", hook.hook_name))?.push(made);
        }
        if *hooks == Hooks::default() {
            spec.hooks = None;
        }
        Ok(())
    }
}

fn place<'a>(hooks: &'a mut Hooks, name: &str) -> Option<&'a mut Vec<Hook>> {
    Some(match name {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        _ => return None,
    })
}

impl DeviceNode {
    /// What the specification leaves open is that of the node on the host.
    fn resolved(&self) -> Result<LinuxDevice, String> {
        let mut device = LinuxDevice {
            path: self.path.clone(),
            kind: self.kind.clone(),
            major: self.major,
            minor: self.minor,
            file_mode: self.file_mode,
            uid: self.uid,
            gid: self.gid,
        };
        let complete = self.kind == "p" || (!self.kind.is_empty() && (self.major, self.minor) != (0, 0));
        if complete {
            return Ok(device);
        }
        let host_path = if self.host_path.is_empty() { &self.path } else { &self.host_path };
        let failed = |why: &str| format!("failed to stat CDI host device {host_path:?}: {why}");
        let metadata = std::fs::symlink_metadata(host_path).map_err(|error| failed(&crate::error::os_text(&error)))?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            kind if kind.is_fifo() => "p",
            _ => return Err(failed("not a device node")),
        };
        if !self.kind.is_empty() && self.kind != kind && (self.kind.as_str(), kind) != ("u", "c") {
            return Err(format!(
                "CDI device ({:?}, {host_path:?}), host type mismatch ({}, {kind})",
                self.path, self.kind
            ));
        }
        kind.clone_into(&mut device.kind);
        if kind != "p" {
            device.major = i64::from(rustix::fs::major(metadata.rdev()));
            device.minor = i64::from(rustix::fs::minor(metadata.rdev()));
        }
        device.file_mode.get_or_insert(metadata.mode() & 0o777);
        Ok(device)
    }
}

impl DeviceMount {
    fn resolved(&self) -> Mount {
        let kind = if self.kind.is_empty() { "bind" } else { &self.kind };
        Mount {
            destination: self.container_path.clone(),
            kind: Some(kind.to_owned()),
            source: Some(self.host_path.clone()),
            options: self.options.clone(),
            ..Mount::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edits(value: Value) -> ContainerEdits {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn everything_is_put_in_its_place() {
        let edits = edits(json!({
            "env": ["A=new", "B=1"],
            "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/null", "permissions": "rw"}],
            "mounts": [{"hostPath": "/lib/x", "containerPath": "/x", "options": ["ro", "bind"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}],
            "additionalGids": [0, 44],
        }));
        edits.check().unwrap();
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        spec.process.as_mut().unwrap().env = vec!["A=old".into()];
        edits.apply(&mut spec).unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["A=new", "B=1"]);
        assert_eq!(process.user.additional_gids, [44]);
        let linux = spec.linux.unwrap();
        let device = &linux.devices[0];
        assert_eq!((device.path.as_str(), device.kind.as_str(), device.major, device.minor), ("/dev/thing", "c", 1, 3));
        assert_eq!(linux.resources.unwrap().devices[0].access.as_deref(), Some("rw"));
        assert_eq!(spec.mounts[0].source.as_deref(), Some("/lib/x"));
        assert_eq!(spec.hooks.unwrap().create_container[0].path, "/bin/true");
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (value, part) in [
            (json!({"env": ["=x"]}), "invalid environment variable"),
            (json!({"deviceNodes": [{}]}), "invalid (empty) device path"),
            (json!({"deviceNodes": [{"path": "/a", "type": "x"}]}), "invalid type"),
            (json!({"deviceNodes": [{"path": "/a", "permissions": "x"}]}), "invalid permissions"),
            (json!({"hooks": [{"hookName": "nope"}]}), "invalid hook name"),
            (json!({"mounts": [{"hostPath": "/a"}]}), "invalid mount"),
        ] {
            assert!(edits(value.clone()).check().unwrap_err().contains(part), "{value}");
        }
        let mut spec = Spec::default();
        let missing = edits(json!({"deviceNodes": [{"path": "/no/such"}]})).apply(&mut spec).unwrap_err();
        assert_eq!(missing, "failed to stat CDI host device \"/no/such\": no such file or directory");
        let unbuilt = edits(json!({"netDevices": [{"name": "a"}]})).apply(&mut spec).unwrap_err();
        assert_eq!(unbuilt, "not implemented: netDevices of a CDI device");
    }
}
