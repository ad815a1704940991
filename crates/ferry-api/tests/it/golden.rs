//! `golden/<type>.full.json` is what Go's encoder makes of Docker's type (module `github.com/moby/moby/api` v1.55.0) with every field set,
//! `golden/<type>.zero.json` of the type with none set. Reading and writing again must give the same bytes: names, order and
//! what is left out are then Docker's.

use ferry_api::{container, error, event, exec, image, json, network, stream, system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn rewritten<T: DeserializeOwned + Serialize>(text: &str) -> String {
    let value: T = json::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{error} in {text}"));
    serde_json::to_string(&value).unwrap()
}

/// With every field set, the bytes are the same.
macro_rules! full {
    ($($name:ident: $file:literal as $type:ty;)*) => {$(
        #[test]
        fn $name() {
            let golden = include_str!(concat!("golden/", $file, ".full.json")).trim_end();
            assert_eq!(rewritten::<$type>(golden), golden);
            let zero = include_str!(concat!("golden/", $file, ".zero.json")).trim_end();
            let _: $type = json::from_slice(zero.as_bytes()).unwrap();
        }
    )*};
}

/// With no field set, they are the same too.
macro_rules! zero {
    ($($name:ident: $file:literal as $type:ty;)*) => {$(
        #[test]
        fn $name() {
            let golden = include_str!(concat!("golden/", $file, ".zero.json")).trim_end();
            assert_eq!(rewritten::<$type>(golden), golden);
        }
    )*};
}

full! {
    container_config: "container-config" as container::Config;
    container_host_config: "container-host-config" as container::HostConfig;
    container_create_response: "container-create-response" as container::CreateResponse;
    container_inspect: "container-inspect" as container::Inspect;
    container_summary: "container-summary" as container::Summary;
    container_wait: "container-wait" as container::WaitResponse;
    container_top: "container-top" as container::TopResponse;
    container_update: "container-update" as container::UpdateRequest;
    container_update_response: "container-update-response" as container::UpdateResponse;
    container_stats: "container-stats" as container::Stats;
    container_change: "container-change" as container::FilesystemChange;
    container_path_stat: "container-path-stat" as container::PathStat;
    container_prune: "container-prune" as container::PruneReport;
    exec_create: "exec-create" as exec::CreateRequest;
    exec_start: "exec-start" as exec::StartRequest;
    exec_inspect: "exec-inspect" as exec::Inspect;
    events: "event" as event::Message;
    image_summary: "image-summary" as image::Summary;
    image_inspect: "image-inspect" as image::Inspect;
    image_delete: "image-delete" as image::DeleteItem;
    image_history: "image-history" as image::HistoryItem;
    image_prune: "image-prune" as image::PruneReport;
    json_message: "json-message" as stream::JsonMessage;
    network_summary: "network-summary" as network::Summary;
    network_inspect: "network-inspect" as network::Inspect;
    network_create: "network-create" as network::CreateRequest;
    network_create_response: "network-create-response" as network::CreateResponse;
    network_connect: "network-connect" as network::ConnectRequest;
    network_disconnect: "network-disconnect" as network::DisconnectRequest;
    network_prune: "network-prune" as network::PruneReport;
    networking_config: "networking-config" as network::NetworkingConfig;
    auth_config: "auth-config" as image::AuthConfig;
    auth_response: "auth-response" as image::AuthResponse;
    info: "info" as system::Info;
    version: "version" as system::Version;
    disk_usage: "disk-usage" as system::DiskUsage;
    volumes: "volume" as volume::Volume;
    volume_create: "volume-create" as volume::CreateRequest;
    volume_list: "volume-list" as volume::ListResponse;
    volume_prune: "volume-prune" as volume::PruneReport;
    build_cache: "build-cache" as system::BuildCache;
    errors: "error" as error::ErrorResponse;
}

zero! {
    zero_container_config: "container-config" as container::Config;
    zero_container_host_config: "container-host-config" as container::HostConfig;
    zero_container_update: "container-update" as container::UpdateRequest;
    zero_container_wait: "container-wait" as container::WaitResponse;
    zero_container_top: "container-top" as container::TopResponse;
    zero_exec_create: "exec-create" as exec::CreateRequest;
    zero_exec_start: "exec-start" as exec::StartRequest;
    zero_image_delete: "image-delete" as image::DeleteItem;
    zero_image_history: "image-history" as image::HistoryItem;
    zero_json_message: "json-message" as stream::JsonMessage;
    zero_network_create: "network-create" as network::CreateRequest;
    zero_network_connect: "network-connect" as network::ConnectRequest;
    zero_networking_config: "networking-config" as network::NetworkingConfig;
    zero_disk_usage: "disk-usage" as system::DiskUsage;
    zero_volume: "volume" as volume::Volume;
    zero_volume_create: "volume-create" as volume::CreateRequest;
    zero_auth_config: "auth-config" as image::AuthConfig;
}

#[test]
fn a_create_request_is_a_config_with_two_more_keys() {
    let config = include_str!("golden/container-config.full.json").trim_end();
    let host_config = include_str!("golden/container-host-config.full.json").trim_end();
    let networking = include_str!("golden/networking-config.full.json").trim_end();
    let request = format!(
        "{},\"HostConfig\":{host_config},\"NetworkingConfig\":{networking}}}",
        config.strip_suffix('}').unwrap()
    );
    assert_eq!(rewritten::<container::CreateRequest>(&request), request);
}
