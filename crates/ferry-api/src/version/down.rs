//! Converters from the newest shape of an answer to older ones.
//!
//! Each converter undoes one change; [`CHANGES`] lists it with the version that made the change. Keys that an older version had are put back where
//! clients find them; their place in the object is that of Docker as far as text output of clients shows it.

use serde_json::{Map, Value, json};

use super::ApiVersion;

/// What an answer is, as far as versions shape it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// `container::Inspect`.
    ContainerInspect,
    /// One `container::Summary`.
    ContainerSummary,
    /// `image::Inspect`.
    ImageInspect,
    /// One `image::Summary`.
    ImageSummary,
    /// `network::Inspect`.
    NetworkInspect,
    /// One `network::Summary`.
    NetworkSummary,
    /// `system::Info`.
    Info,
    /// `system::DiskUsage`.
    DiskUsage,
    /// `event::Message`.
    Event,
}

struct Change {
    reply: Reply,
    /// First version with the newer shape.
    since: ApiVersion,
    undo: fn(&mut Map<String, Value>),
}

const fn change(reply: Reply, minor: u32, undo: fn(&mut Map<String, Value>)) -> Change {
    Change { reply, since: ApiVersion::new(1, minor), undo }
}

/// Newest first.
const CHANGES: &[Change] = &[
    change(Reply::Info, 53, |info| remove(info, "NRI")),
    change(Reply::ImageInspect, 53, |image| remove(image, "Identity")),
    change(Reply::DiskUsage, 53, add_legacy_disk_usage),
    change(Reply::Event, 52, add_legacy_event_fields),
    change(Reply::ContainerInspect, 52, add_bridge_fields),
    change(Reply::ContainerInspect, 52, graph_driver_from_storage),
    change(Reply::ImageInspect, 52, add_empty_image_fields),
    change(Reply::NetworkInspect, 52, |network| remove(network, "Status")),
    change(Reply::DiskUsage, 52, only_legacy_disk_usage),
    change(Reply::Info, 52, |info| set(info, "KernelMemoryTCP", json!(false))),
    change(Reply::ContainerSummary, 52, |summary| remove(summary, "Health")),
    change(Reply::ImageSummary, 51, |summary| set(summary, "Containers", json!(-1))),
    change(Reply::Info, 50, bridge_nf_fields),
    change(Reply::ImageInspect, 50, add_container_fields_to_image),
    change(Reply::Info, 49, expected_commits),
    change(Reply::ContainerInspect, 48, |container| remove(container, "ImageManifestDescriptor")),
    change(Reply::ContainerSummary, 48, |summary| remove(summary, "ImageManifestDescriptor")),
    change(Reply::ImageInspect, 48, |image| remove(image, "Descriptor")),
    change(Reply::ImageSummary, 48, |image| remove(image, "Descriptor")),
    change(Reply::ImageSummary, 47, |image| remove(image, "Manifests")),
    change(Reply::Info, 47, nondistributable_artifacts),
    change(Reply::Info, 46, |info| remove(info, "Containerd")),
    change(Reply::ContainerSummary, 46, |summary| {
        if let Some(Value::Object(host_config)) = summary.get_mut("HostConfig") {
            remove(host_config, "Annotations");
        }
    }),
    change(Reply::ContainerInspect, 45, short_id_among_aliases),
    change(Reply::ImageInspect, 45, |image| {
        set(image, "Container", json!(""));
        set(image, "ContainerConfig", Value::Null);
    }),
    change(Reply::NetworkInspect, 44, |network| remove(network, "EnableIPv4")),
    change(Reply::NetworkSummary, 44, |network| remove(network, "EnableIPv4")),
    change(Reply::ImageInspect, 44, virtual_size),
    change(Reply::ImageInspect, 44, |image| {
        image.entry("Created").or_insert_with(|| json!("0001-01-01T00:00:00Z"));
    }),
    change(Reply::ImageSummary, 44, virtual_size),
    change(Reply::DiskUsage, 44, |usage| {
        if let Some(Value::Array(images)) = usage.get_mut("Images") {
            images.iter_mut().filter_map(Value::as_object_mut).for_each(virtual_size);
        }
    }),
    change(Reply::Info, 44, |info| {
        if let Some(Value::Object(runtimes)) = info.get_mut("Runtimes") {
            runtimes.values_mut().filter_map(Value::as_object_mut).for_each(|runtime| remove(runtime, "status"));
        }
    }),
    change(Reply::ImageSummary, 43, none_names),
];

/// What handlers give for older versions alone, with the first version that is without it.
const DROPPED: &[Change] = &[change(Reply::ContainerInspect, 52, |container| {
    if let Some(Value::Object(config)) = container.get_mut("Config") {
        remove(config, "MacAddress");
    }
})];

/// Whether even the newest shape of an answer lacks something that handlers give.
#[must_use]
pub fn drops(reply: Reply) -> bool {
    DROPPED.iter().any(|dropped| dropped.reply == reply)
}

/// Shapes an answer for a version; lists are shaped item by item.
pub fn shape(reply: Reply, version: ApiVersion, value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| shape(reply, version, item));
        return;
    }
    let Value::Object(map) = value else { return };
    for change in CHANGES.iter().filter(|change| change.reply == reply && version < change.since) {
        (change.undo)(map);
    }
    for dropped in DROPPED.iter().filter(|dropped| dropped.reply == reply && version >= dropped.since) {
        (dropped.undo)(map);
    }
}

fn remove(map: &mut Map<String, Value>, key: &str) {
    // `shift_remove` keeps the order of the others, which clients print.
    map.shift_remove(key);
}

fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

/// Before 1.53 the old lists were there beside the new numbers.
fn add_legacy_disk_usage(usage: &mut Map<String, Value>) {
    let mut legacy = Map::new();
    let items = |value: &Value| value.get("Items").cloned().unwrap_or_else(|| json!([]));
    for (new, old) in [
        ("ImageUsage", "Images"),
        ("ContainerUsage", "Containers"),
        ("VolumeUsage", "Volumes"),
        ("BuildCacheUsage", "BuildCache"),
    ] {
        let Some(kind) = usage.get(new) else { continue };
        if new == "ImageUsage" {
            set(&mut legacy, "LayersSize", kind.get("TotalSize").cloned().unwrap_or_else(|| json!(0)));
        }
        set(&mut legacy, old, items(kind));
    }
    legacy.append(usage);
    *usage = legacy;
}

fn only_legacy_disk_usage(usage: &mut Map<String, Value>) {
    for key in ["ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"] {
        remove(usage, key);
    }
}

/// Before 1.52 events of containers and images repeated themselves in three more fields, at the front.
fn add_legacy_event_fields(event: &mut Map<String, Value>) {
    let kind = event.get("Type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind != "container" && kind != "image" {
        return;
    }
    let mut legacy = Map::new();
    set(&mut legacy, "status", event.get("Action").cloned().unwrap_or_default());
    set(&mut legacy, "id", event.get("Actor").and_then(|actor| actor.get("ID")).cloned().unwrap_or_default());
    if kind == "container" {
        let image =
            event.get("Actor").and_then(|actor| actor.get("Attributes")).and_then(|attributes| attributes.get("image"));
        set(&mut legacy, "from", image.cloned().unwrap_or_else(|| json!("")));
    }
    legacy.append(event);
    *event = legacy;
}

/// Before 1.52 the default bridge's endpoint stood in `NetworkSettings` itself, among fields that were always empty.
fn add_bridge_fields(container: &mut Map<String, Value>) {
    let Some(Value::Object(settings)) = container.get_mut("NetworkSettings") else { return };
    let bridge = settings.get("Networks").and_then(|networks| networks.get("bridge")).cloned();
    let of_bridge =
        |key: &str, empty: Value| bridge.as_ref().and_then(|endpoint| endpoint.get(key)).cloned().unwrap_or(empty);
    let mut old = Map::new();
    set(&mut old, "Bridge", json!(""));
    for key in ["SandboxID", "SandboxKey", "Ports"] {
        if let Some(value) = settings.shift_remove(key) {
            set(&mut old, key, value);
        }
    }
    set(&mut old, "HairpinMode", json!(false));
    set(&mut old, "LinkLocalIPv6Address", json!(""));
    set(&mut old, "LinkLocalIPv6PrefixLen", json!(0));
    set(&mut old, "SecondaryIPAddresses", Value::Null);
    set(&mut old, "SecondaryIPv6Addresses", Value::Null);
    for (key, empty) in [
        ("EndpointID", json!("")),
        ("Gateway", json!("")),
        ("GlobalIPv6Address", json!("")),
        ("GlobalIPv6PrefixLen", json!(0)),
        ("IPAddress", json!("")),
        ("IPPrefixLen", json!(0)),
        ("IPv6Gateway", json!("")),
        ("MacAddress", json!("")),
    ] {
        set(&mut old, key, of_bridge(key, empty));
    }
    old.append(settings);
    *settings = old;
}

fn graph_driver_from_storage(container: &mut Map<String, Value>) {
    let snapshotter = container.get("Storage").and_then(|storage| storage.pointer("/RootFS/Snapshot/Name")).cloned();
    if let (Some(name), false) = (snapshotter, container.contains_key("GraphDriver")) {
        // In place of `Storage`, which stands where `GraphDriver` stood.
        *container = std::mem::take(container)
            .into_iter()
            .map(|(key, value)| match key.as_str() {
                "Storage" => ("GraphDriver".to_owned(), json!({"Data": null, "Name": name.clone()})),
                _ => (key, value),
            })
            .collect();
    }
}

/// Before 1.52 empty fields of an image were not left out.
fn add_empty_image_fields(image: &mut Map<String, Value>) {
    for key in ["Parent", "Comment", "DockerVersion", "Author"] {
        image.entry(key).or_insert_with(|| json!(""));
    }
    if let Some(Value::Object(config)) = image.get_mut("Config") {
        for (key, empty) in [
            ("Cmd", Value::Null),
            ("Entrypoint", Value::Null),
            ("Env", Value::Null),
            ("Labels", Value::Null),
            ("OnBuild", Value::Null),
            ("User", json!("")),
            ("Volumes", Value::Null),
            ("WorkingDir", json!("")),
        ] {
            config.entry(key).or_insert(empty);
        }
    }
    image.entry("GraphDriver").or_insert_with(|| json!({"Data": null, "Name": "overlayfs"}));
}

/// Before 1.50 an image's configuration had the fields of a container's, always empty.
fn add_container_fields_to_image(image: &mut Map<String, Value>) {
    let Some(Value::Object(config)) = image.get_mut("Config") else { return };
    let mut old = Map::new();
    for (key, empty) in [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Image", json!("")),
    ] {
        set(&mut old, key, empty);
    }
    old.append(config);
    *config = old;
}

fn bridge_nf_fields(info: &mut Map<String, Value>) {
    remove(info, "DiscoveredDevices");
    set(info, "BridgeNfIptables", json!(false));
    set(info, "BridgeNfIp6tables", json!(false));
}

fn expected_commits(info: &mut Map<String, Value>) {
    remove(info, "FirewallBackend");
    for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        if let Some(Value::Object(commit)) = info.get_mut(key) {
            let id = commit.get("ID").cloned().unwrap_or_else(|| json!(""));
            set(commit, "Expected", id);
        }
    }
}

fn nondistributable_artifacts(info: &mut Map<String, Value>) {
    if let Some(Value::Object(registries)) = info.get_mut("RegistryConfig") {
        set(registries, "AllowNondistributableArtifactsCIDRs", Value::Null);
        set(registries, "AllowNondistributableArtifactsHostnames", Value::Null);
    }
}

/// Before 1.45 the short id and the host name were among the aliases in networks made by users.
fn short_id_among_aliases(container: &mut Map<String, Value>) {
    let short_id: String = container.get("Id").and_then(Value::as_str).unwrap_or_default().chars().take(12).collect();
    let hostname =
        container.get("Config").and_then(|config| config.get("Hostname")).cloned().unwrap_or_else(|| json!(""));
    let Some(Value::Object(networks)) =
        container.get_mut("NetworkSettings").and_then(|settings| settings.get_mut("Networks"))
    else {
        return;
    };
    for (name, endpoint) in networks.iter_mut() {
        if matches!(name.as_str(), "bridge" | "host" | "none" | "default") || name.starts_with("container:") {
            continue;
        }
        let mut aliases = endpoint.get("Aliases").and_then(Value::as_array).cloned().unwrap_or_default();
        for alias in [json!(short_id), hostname.clone()] {
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        endpoint["Aliases"] = Value::Array(aliases);
    }
}

fn virtual_size(image: &mut Map<String, Value>) {
    let size = image.get("Size").cloned().unwrap_or_else(|| json!(0));
    set(image, "VirtualSize", size);
}

/// Before 1.43 an image without names was called so.
fn none_names(image: &mut Map<String, Value>) {
    let is_empty = |key: &str| image.get(key).and_then(Value::as_array).is_none_or(Vec::is_empty);
    if is_empty("RepoTags") && is_empty("RepoDigests") {
        set(image, "RepoTags", json!(["<none>:<none>"]));
        set(image, "RepoDigests", json!(["<none>@<none>"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(reply: Reply, minor: u32, mut value: Value) -> Value {
        shape(reply, ApiVersion::new(1, minor), &mut value);
        value
    }

    #[test]
    fn the_table_runs_from_newest_to_oldest() {
        assert!(CHANGES.windows(2).all(|pair| pair[0].since >= pair[1].since));
    }

    #[test]
    fn the_newest_version_changes_nothing() {
        let event = json!({"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{"image":"i"}}});
        assert_eq!(shaped(Reply::Event, 56, event.clone()), event);
    }

    #[test]
    fn events_before_1_52_repeat_themselves() {
        let event = json!({"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{"image":"i"}}});
        let old = shaped(Reply::Event, 51, event);
        assert!(old.to_string().starts_with(r#"{"status":"start","id":"x","from":"i","Type":"container""#), "{old}");
        let network = json!({"Type":"network","Action":"create","Actor":{"ID":"x","Attributes":{}}});
        assert_eq!(shaped(Reply::Event, 41, network.clone()), network);
    }

    #[test]
    fn inspect_before_1_52_has_the_bridge_on_top() {
        let container = json!({
            "Id": "0123456789abcdef", "Config": {"Hostname": "h"}, "Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}},
            "NetworkSettings": {"SandboxID": "s", "SandboxKey": "k", "Ports": {},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16}, "mine": {"Aliases": ["a"]}}},
        });
        let old = shaped(Reply::ContainerInspect, 41, container.clone());
        assert_eq!(old["NetworkSettings"]["IPAddress"], "172.17.0.2");
        assert_eq!(old["NetworkSettings"]["Bridge"], "");
        assert_eq!(old["NetworkSettings"]["SecondaryIPAddresses"], Value::Null);
        assert_eq!(old["GraphDriver"]["Name"], "overlayfs");
        assert!(old.get("Storage").is_none());
        assert_eq!(old["NetworkSettings"]["Networks"]["mine"]["Aliases"], json!(["a", "0123456789ab", "h"]));
        let newer = shaped(Reply::ContainerInspect, 51, container);
        assert_eq!(newer["NetworkSettings"]["Networks"]["mine"]["Aliases"], json!(["a"]));
    }

    #[test]
    fn images_get_their_old_fields_step_by_step() {
        let image = json!({"Id": "sha256:x", "Size": 7, "Config": {"Cmd": ["sh"]}, "Descriptor": {}});
        assert_eq!(shaped(Reply::ImageInspect, 52, image.clone()), image);
        let v51 = shaped(Reply::ImageInspect, 51, image.clone());
        assert_eq!(v51["Config"]["Entrypoint"], Value::Null);
        assert!(v51["Config"].get("Hostname").is_none() && v51.get("Descriptor").is_some());
        let v43 = shaped(Reply::ImageInspect, 43, image);
        assert_eq!((&v43["VirtualSize"], &v43["Config"]["Hostname"]), (&json!(7), &json!("")));
        assert!(v43.get("Descriptor").is_none() && v43.get("Container").is_some());
    }

    #[test]
    fn lists_are_shaped_item_by_item() {
        let list = json!([{"Size": 1, "RepoTags": [], "RepoDigests": [], "Containers": 2}]);
        let old = shaped(Reply::ImageSummary, 41, list);
        assert_eq!(old[0]["VirtualSize"], 1);
        assert_eq!(old[0]["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(old[0]["Containers"], -1);
    }

    #[test]
    fn disk_usage_has_both_shapes_in_1_52_alone() {
        let usage = json!({"ImageUsage": {"TotalSize": 5, "Items": [{"Size": 5}]}, "VolumeUsage": {}});
        assert_eq!(shaped(Reply::DiskUsage, 53, usage.clone()), usage);
        let both = shaped(Reply::DiskUsage, 52, usage.clone());
        assert_eq!((&both["LayersSize"], &both["Volumes"]), (&json!(5), &json!([])));
        assert!(both.get("ImageUsage").is_some());
        let old = shaped(Reply::DiskUsage, 43, usage);
        assert_eq!(old["Images"][0]["VirtualSize"], 5);
        assert!(old.get("ImageUsage").is_none());
    }
}
