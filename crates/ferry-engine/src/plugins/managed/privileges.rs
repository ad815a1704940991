//! What a plugin may do beyond any container, which whoever installs it has to grant.

use ferry_api::plugin::Privilege;
use ferry_spec::plugin::PluginConfig;

use crate::error::{Error, Result};

/// The rights that a configuration asks for, in Docker's words and order.
pub(super) fn of(config: &PluginConfig) -> Vec<Privilege> {
    let mut privileges = Vec::new();
    let mut add = |name: &str, description: &str, value: Vec<String>| {
        privileges.push(Privilege { name: name.to_owned(), description: description.to_owned(), value: Some(value) });
    };
    let yes = || vec!["true".to_owned()];
    if !matches!(config.network.kind.as_str(), "null" | "bridge" | "") {
        add("network", "permissions to access a network", vec![config.network.kind.clone()]);
    }
    if config.ipc_host {
        add("host ipc namespace", "allow access to host ipc namespace", yes());
    }
    if config.pid_host {
        add("host pid namespace", "allow access to host pid namespace", yes());
    }
    for source in config.mounts.iter().flatten().filter_map(|mount| mount.source.clone()) {
        add("mount", "host path to mount", vec![source]);
    }
    for path in config.linux.devices.iter().flatten().filter_map(|device| device.path.clone()) {
        add("device", "host device to access", vec![path]);
    }
    if config.linux.allow_all_devices {
        add("allow-all-devices", "allow 'rwm' access to all devices", yes());
    }
    if let Some(capabilities) = config.linux.capabilities.clone().filter(|names| !names.is_empty()) {
        add("capabilities", "list of additional capabilities required", capabilities);
    }
    privileges
}

/// What was granted must be what is asked for, in whatever order.
///
/// # Errors
/// InvalidArgument in Docker's words.
pub(super) fn check(wanted: &[Privilege], granted: &[Privilege]) -> Result<()> {
    let normal = |privileges: &[Privilege]| {
        let mut list: Vec<(String, Vec<String>)> = privileges
            .iter()
            .map(|one| {
                let mut value = one.value.clone().unwrap_or_default();
                value.sort();
                (one.name.clone(), value)
            })
            .collect();
        list.sort();
        list
    };
    if normal(wanted) == normal(granted) { Ok(()) } else { Err(Error::internal("incorrect privileges")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_told_and_compared_without_their_order() {
        let text = r#"{"Network":{"Type":"host"},"Mounts":[{"Source":"/a"},{"Source":null}],"PidHost":true,
            "Linux":{"AllowAllDevices":true,"Capabilities":["CAP_SYS_ADMIN","CAP_A"],"Devices":[{"Path":"/dev/fuse"}]}}"#;
        let wanted = of(&serde_json::from_str(text).unwrap());
        let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["network", "host pid namespace", "mount", "device", "allow-all-devices", "capabilities"]);
        let mut granted = wanted.clone();
        granted.reverse();
        granted[0].value.as_mut().unwrap().reverse();
        check(&wanted, &granted).unwrap();
        assert!(check(&wanted, &granted[1..]).is_err());
        assert!(of(&PluginConfig::default()).is_empty());
    }
}
