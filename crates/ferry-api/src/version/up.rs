//! Requests of older versions, brought to the meaning of the newest.

use serde_json::Value;

use super::ApiVersion;
use crate::container::{
    CreateRequest, EndpointSettings, HostConfig, Mount, NetworkingConfig, PortBinding, UpdateRequest,
};

/// Gives a request to create a container the meaning that its version had. Returns warnings for the client.
///
/// `cgroup_v2` tells whether the host has the unified hierarchy alone: it decides an old default.
///
/// # Errors
/// With Docker's text when the request asks for something that its version does not have, or no more.
pub fn adapt_create(version: ApiVersion, request: &mut CreateRequest, cgroup_v2: bool) -> Result<Vec<String>, String> {
    let before = |minor: u32| version < ApiVersion::new(1, minor);
    let mut host_config = request.host_config.take().unwrap_or_default();
    let mut networking = request.networking_config.take().unwrap_or_default();
    let mut warnings = Vec::new();

    name_default_network(&mut host_config, &mut networking);
    if before(40) && host_config.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host_config.ipc_mode);
    }
    if before(41) && host_config.cgroupns_mode.is_empty() && !cgroup_v2 {
        "host".clone_into(&mut host_config.cgroupns_mode);
    }
    if before(42) {
        host_config.console_size = [0, 0];
    }
    if before(43) {
        host_config.annotations.clear();
    }
    if before(44) {
        if let Some(healthcheck) = &mut request.config.healthcheck {
            healthcheck.start_interval = 0;
        }
        check_single_network(&networking)?;
    }
    for mount in &mut host_config.mounts {
        adapt_mount(version, mount)?;
    }
    if before(48) {
        for endpoint in networking.endpoints_config.iter_mut().flatten().filter_map(|(_, endpoint)| endpoint.as_mut()) {
            endpoint.gw_priority = 0;
        }
    } else if host_config.volume_driver_is_ignored() {
        warnings.push(VOLUME_DRIVER_IGNORED.to_owned());
    }
    let mac_address = std::mem::take(&mut request.config.mac_address);
    warnings.extend(adapt_mac_address(version, &host_config, &mut networking, mac_address)?);
    warnings.extend(fill_empty_bindings(version, &mut host_config));
    host_config.pids_limit = host_config.pids_limit.filter(|limit| *limit > 0);

    request.host_config = Some(host_config);
    request.networking_config = Some(networking);
    Ok(warnings)
}

/// Gives a request to update a container the meaning that its version had.
pub fn adapt_update(version: ApiVersion, request: &mut UpdateRequest) {
    let before = |minor: u32| version < ApiVersion::new(1, minor);
    let resources = &mut request.resources;
    if before(40) {
        resources.pids_limit = None;
    }
    if before(55) {
        resources.blkio_weight_device = None;
        for devices in [
            &mut resources.blkio_device_read_bps,
            &mut resources.blkio_device_write_bps,
            &mut resources.blkio_device_read_iops,
            &mut resources.blkio_device_write_iops,
        ] {
            *devices = None;
        }
    }
    // Any number below one has always meant no limit.
    resources.pids_limit = resources.pids_limit.map(|limit| limit.max(0));
}

const VOLUME_DRIVER_IGNORED: &str = "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via \
     'mount'. Use '--mount type=volume,volume-driver=...' instead";
const MAC_ADDRESS_DEPRECATED: &str =
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";

impl HostConfig {
    fn volume_driver_is_ignored(&self) -> bool {
        let names_driver = |mount: &Mount| {
            let options = mount.volume_options.as_ref();
            options.and_then(|options| options.driver_config.as_ref()).is_some_and(|driver| !driver.name.is_empty())
        };
        !self.volume_driver.is_empty() && self.mounts.iter().any(|mount| mount.kind == "volume" && !names_driver(mount))
    }
}

/// `default` and nothing both mean the default bridge.
fn name_default_network(host_config: &mut HostConfig, networking: &mut NetworkingConfig) {
    if !host_config.network_mode.is_empty() && host_config.network_mode != "default" {
        return;
    }
    "bridge".clone_into(&mut host_config.network_mode);
    if let Some(endpoints) = &mut networking.endpoints_config
        && let Some(endpoint) = endpoints.remove("default")
    {
        endpoints.insert("bridge".to_owned(), endpoint);
    }
}

fn check_single_network(networking: &NetworkingConfig) -> Result<(), String> {
    match &networking.endpoints_config {
        Some(endpoints) if endpoints.len() > 1 => {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            Err(format!("Container cannot be created with multiple network endpoints: {}", names.join(", ")))
        }
        _ => Ok(()),
    }
}

fn adapt_mount(version: ApiVersion, mount: &mut Mount) -> Result<(), String> {
    let before = |minor: u32| version < ApiVersion::new(1, minor);
    if before(42) {
        // Old versions did not look whether options fit the type.
        mount.volume_options.take_if(|_| mount.kind != "volume");
        mount.tmpfs_options.take_if(|_| mount.kind != "tmpfs");
        if let Some(options) = &mut mount.bind_options {
            options.create_mountpoint = false;
        }
    } else {
        for (given, kind, name) in [
            (mount.volume_options.is_some(), "volume", "VolumeOptions"),
            (mount.bind_options.is_some(), "bind", "BindOptions"),
            (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
        ] {
            if given && mount.kind != kind {
                return Err(format!("{name} must not be specified on mount type {}", Value::from(mount.kind.as_str())));
            }
        }
    }
    if let Some(options) = mount.bind_options.as_mut().filter(|_| before(40)) {
        options.non_recursive = false;
    }
    if before(44) && mount.kind == "bind" {
        if mount.bind_options.as_ref().is_some_and(|options| options.read_only_force_recursive) {
            return Err("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer".to_owned());
        }
        if mount.read_only {
            // A read-only mount did not reach the mounts below it then.
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
    if before(45) && mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) {
        return Err("VolumeOptions.Subpath needs API v1.45 or newer".to_owned());
    }
    if before(48) && mount.kind == "image" {
        return Err("Mount type \"Image\" needs API v1.48 or newer".to_owned());
    }
    Ok(())
}

/// Moves the MAC address of the container to its main network.
fn adapt_mac_address(
    version: ApiVersion,
    host_config: &HostConfig,
    networking: &mut NetworkingConfig,
    mac_address: String,
) -> Result<Option<String>, String> {
    let is_old = version < ApiVersion::new(1, 44);
    // From 1.52 on the field is none of Docker's, and before that what is no address is none.
    if version >= ApiVersion::new(1, 52) || !is_mac_address(&mac_address) {
        for endpoint in networking.endpoints_config.iter_mut().flatten().filter_map(|(_, endpoint)| endpoint.as_mut()) {
            if is_old {
                // That version did not have it here.
                endpoint.mac_address.clear();
            }
        }
        return Ok(None);
    }
    let mode = host_config.network_mode.as_str();
    let has_own_network = mode != "host" && mode != "none" && !mode.starts_with("container:");
    if !has_own_network {
        return if is_old {
            Err("conflicting options: mac-address and the network mode".to_owned())
        } else {
            Ok(Some(MAC_ADDRESS_DEPRECATED.to_owned()))
        };
    }
    let endpoint = main_endpoint(mode, networking, is_old)?;
    if is_old {
        endpoint.mac_address = mac_address;
        return Ok(None);
    }
    if !endpoint.mac_address.is_empty() && endpoint.mac_address != mac_address {
        return Err(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
                    left empty"
                .to_owned(),
        );
    }
    endpoint.mac_address = mac_address;
    Ok(Some(MAC_ADDRESS_DEPRECATED.to_owned()))
}

/// Whether Go's `net.ParseMAC` reads it: 6, 8 or 20 bytes with colons or dashes, or groups of two bytes with dots.
fn is_mac_address(text: &str) -> bool {
    let hex = |part: &&str, digits: usize| part.len() == digits && part.chars().all(|digit| digit.is_ascii_hexdigit());
    let groups = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.iter().all(|part| hex(part, digits)) && matches!(parts.len() * digits / 2, 6 | 8 | 20)
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn main_endpoint<'config>(
    mode: &str,
    networking: &'config mut NetworkingConfig,
    any_will_do: bool,
) -> Result<&'config mut EndpointSettings, String> {
    let endpoints = networking.endpoints_config.get_or_insert_default();
    if endpoints.is_empty() {
        endpoints.insert(mode.to_owned(), None);
    }
    let name = if any_will_do { endpoints.keys().next().cloned() } else { None }.unwrap_or_else(|| mode.to_owned());
    match endpoints.get_mut(&name) {
        Some(endpoint) => Ok(endpoint.get_or_insert_default()),
        None => Err("unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the \
                     identity of a network in NetworkSettings.Networks"
            .to_owned()),
    }
}

/// An empty list of bindings means one on any port.
fn fill_empty_bindings(version: ApiVersion, host_config: &mut HostConfig) -> Option<String> {
    let mut filled = Vec::new();
    for (port, bindings) in host_config.port_bindings.iter_mut().flatten() {
        if bindings.as_ref().is_none_or(Vec::is_empty) {
            *bindings = Some(vec![PortBinding::default()]);
            filled.push(port.as_str());
        }
    }
    (!filled.is_empty() && version >= ApiVersion::new(1, 52)).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future \
             version.",
            filled.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::from_value;

    fn adapted(minor: u32, request: Value) -> Result<(CreateRequest, Vec<String>), String> {
        let mut request: CreateRequest = from_value(request).unwrap();
        let warnings = adapt_create(ApiVersion::new(1, minor), &mut request, false)?;
        Ok((request, warnings))
    }

    #[test]
    fn the_default_network_has_a_name() {
        let (request, _) =
            adapted(56, json!({"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["a"]}}}})).unwrap();
        assert_eq!(request.host_config.unwrap().network_mode, "bridge");
        assert!(request.networking_config.unwrap().endpoints_config.unwrap().contains_key("bridge"));
    }

    #[test]
    fn old_defaults_are_kept_for_old_clients() {
        let modes = |minor| {
            let host_config = adapted(minor, json!({})).unwrap().0.host_config.unwrap();
            (host_config.ipc_mode, host_config.cgroupns_mode)
        };
        assert_eq!(modes(39), ("shareable".to_owned(), "host".to_owned()));
        assert_eq!(modes(40), (String::new(), "host".to_owned()));
        assert_eq!(modes(41), (String::new(), String::new()));
    }

    #[test]
    fn mount_options_must_fit_since_1_42() {
        let request = json!({"HostConfig": {"Mounts": [{"Type": "bind", "VolumeOptions": {}}]}});
        assert_eq!(
            adapted(42, request.clone()).unwrap_err(),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
        assert!(adapted(41, request).unwrap().0.host_config.unwrap().mounts[0].volume_options.is_none());
    }

    #[test]
    fn read_only_binds_were_not_recursive() {
        let request = json!({"HostConfig": {"Mounts": [{"Type": "bind", "ReadOnly": true}]}});
        let options =
            |minor| adapted(minor, request.clone()).unwrap().0.host_config.unwrap().mounts[0].bind_options.clone();
        assert!(options(43).unwrap().read_only_non_recursive);
        assert!(options(44).is_none());
    }

    #[test]
    fn the_mac_address_moves_to_the_endpoint() {
        let request = json!({"MacAddress": "02:42:ac:11:00:09"});
        let (old, warnings) = adapted(43, request.clone()).unwrap();
        let endpoint = old.networking_config.unwrap().endpoints_config.unwrap()["bridge"].clone().unwrap();
        assert_eq!((endpoint.mac_address.as_str(), warnings.len()), ("02:42:ac:11:00:09", 0));
        assert_eq!(adapted(44, request.clone()).unwrap().1, [MAC_ADDRESS_DEPRECATED]);
        let (newest, warnings) = adapted(52, request).unwrap();
        assert!(warnings.is_empty() && newest.networking_config.is_none_or(|config| config.endpoints_config.is_none()));
        let (ignored, warnings) = adapted(44, json!({"MacAddress": "nonsense"})).unwrap();
        assert!(
            warnings.is_empty() && ignored.networking_config.is_none_or(|config| config.endpoints_config.is_none())
        );
        for (text, is_one) in [("02:42:ac:11:00:09", true), ("02-42-AC-11-00-09", true), ("0242.ac11.0009", true)]
            .into_iter()
            .chain([("", false), ("02:42", false), ("02:42:ac:11:00:0x", false), ("02:42-ac:11:00:09", false)])
        {
            assert_eq!(is_mac_address(text), is_one, "{text}");
        }
    }

    #[test]
    fn empty_bindings_are_filled_and_told_since_1_52() {
        let request =
            json!({"HostConfig": {"PortBindings": {"80/tcp": [], "81/tcp": [{"HostPort": "1"}]}, "PidsLimit": -1}});
        let (adapted_request, warnings) = adapted(52, request.clone()).unwrap();
        let host_config = adapted_request.host_config.unwrap();
        assert_eq!(host_config.port_bindings.unwrap()["80/tcp"], Some(vec![PortBinding::default()]));
        assert_eq!(host_config.pids_limit, None);
        assert!(warnings[0].contains("80/tcp."));
        assert!(adapted(51, request).unwrap().1.is_empty());
    }

    #[test]
    fn updates_have_what_their_version_had() {
        let adapted = |minor| {
            let body = json!({"PidsLimit": -5, "Memory": 7, "BlkioDeviceReadBps": [{"Path": "/d", "Rate": 1}]});
            let mut request: UpdateRequest = from_value(body).unwrap();
            adapt_update(ApiVersion::new(1, minor), &mut request);
            let resources = request.resources;
            (resources.pids_limit, resources.memory, resources.blkio_device_read_bps.is_some())
        };
        assert_eq!(adapted(39), (None, 7, false));
        assert_eq!(adapted(54), (Some(0), 7, false));
        assert_eq!(adapted(55), (Some(0), 7, true));
    }

    #[test]
    fn what_a_version_does_not_have_is_refused() {
        let subpath = json!({"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"Subpath": "x"}}]}});
        assert_eq!(adapted(44, subpath).unwrap_err(), "VolumeOptions.Subpath needs API v1.45 or newer");
        let networks = json!({"NetworkingConfig": {"EndpointsConfig": {"a": null, "b": null}}});
        assert_eq!(
            adapted(43, networks.clone()).unwrap_err(),
            "Container cannot be created with multiple network endpoints: a, b"
        );
        assert!(adapted(44, networks).is_ok());
    }
}
