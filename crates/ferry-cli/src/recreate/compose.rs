//! The compose file that makes a container again.
//!
//! Volumes and networks with a name are said to be there already: they are not part of the container.

use ferry_api::container::{DeviceRequest, HealthConfig, Mount};
use serde_json::{Map, Value, json};

use super::Written;
use super::command::decimal;
use super::origin::{Origin, mount_words};
use super::yaml;

/// The keys of a service, in the order of the file.
#[derive(Default)]
struct Service {
    keys: Map<String, Value>,
    volumes: Map<String, Value>,
    left_out: Vec<String>,
}

impl Service {
    /// Leaves out what says nothing.
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Number(number) => number.as_i64() == Some(0),
            Value::Bool(true) => false,
        };
        if !empty {
            self.keys.insert(key.to_owned(), escaped(value));
        }
    }

    /// Says it even where it is empty.
    fn force(&mut self, key: &str, value: impl Into<Value>) {
        self.keys.insert(key.to_owned(), escaped(value.into()));
    }
}

/// A dollar begins a variable in a compose file.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, escaped(value))).collect(),
        other => other,
    }
}

/// Writes the file.
pub(crate) fn compose_file(origin: &Origin) -> Written {
    let mut service = Service::default();
    identity(&mut service, origin);
    process(&mut service, origin);
    files(&mut service, origin);
    let networks = network(&mut service, origin);
    rights(&mut service, origin);
    limits(&mut service, origin);
    life(&mut service, origin);
    let mut document = Map::new();
    document.insert("services".to_owned(), json!({ origin.name.as_str(): service.keys }));
    for (key, value) in [("volumes", service.volumes), ("networks", networks)] {
        if !value.is_empty() {
            document.insert(key.to_owned(), Value::Object(value));
        }
    }
    Written { text: yaml::write(&Value::Object(document)), left_out: service.left_out }
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    pairs.into_iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>().into()
}

fn list<'a>(values: impl IntoIterator<Item = &'a String>) -> Value {
    values.into_iter().map(|value| Value::from(value.as_str())).collect()
}

fn identity(service: &mut Service, origin: &Origin) {
    service.set("image", origin.config.image.as_str());
    service.set("container_name", origin.name.as_str());
    service.set("hostname", origin.hostname());
    service.set("domainname", origin.config.domainname.as_str());
    service.set("labels", pairs(origin.labels()));
    service.set("annotations", pairs(&origin.host.annotations));
}

fn process(service: &mut Service, origin: &Origin) {
    let config = &origin.config;
    if let Some(entrypoint) = origin.entrypoint() {
        service.force("entrypoint", list(entrypoint));
    }
    if let Some(command) = origin.command() {
        service.force("command", list(command));
    }
    service.set("environment", list(origin.environment()));
    service.set("user", origin.user());
    service.set("group_add", list(origin.host.group_add.iter().flatten()));
    service.set("working_dir", origin.working_dir());
    service.set("stdin_open", config.open_stdin);
    service.set("tty", config.tty);
    if let Some(init) = origin.host.init {
        service.force("init", init);
    }
}

fn files(service: &mut Service, origin: &Origin) {
    let host = &origin.host;
    let mut volumes: Vec<Value> = Vec::new();
    for bind in host.binds.iter().flatten() {
        let source = bind.split(':').next().unwrap_or_default();
        if !source.starts_with('/') && bind.contains(':') {
            service.volumes.insert(source.to_owned(), json!({"external": true}));
        }
        volumes.push(bind.as_str().into());
    }
    volumes.extend(origin.anonymous_volumes().into_iter().map(|path| Value::from(path.as_str())));
    for mount in &host.mounts {
        if mount.kind == "volume" && !mount.source.is_empty() {
            service.volumes.insert(mount.source.clone(), json!({"external": true}));
        }
        match long_volume(mount) {
            Some(value) => volumes.push(value),
            None => service.left_out.push(format!("a mount ({})", mount_words(mount))),
        }
    }
    service.set("volumes", volumes);
    let tmpfs = host.tmpfs.iter().map(|(path, options)| match options.as_str() {
        "" => Value::from(path.as_str()),
        options => Value::from(format!("{path}:{options}")),
    });
    service.set("tmpfs", tmpfs.collect::<Vec<_>>());
    let from = host.volumes_from.iter().flatten().map(|other| Value::from(format!("container:{other}")));
    service.set("volumes_from", from.collect::<Vec<_>>());
    service.set("read_only", host.readonly_rootfs);
    service.set("storage_opt", pairs(&host.storage_opt));
    service.set("shm_size", origin.shm_size());
    let devices = host.devices.iter().flatten().map(|device| {
        let permissions = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
        Value::from(format!("{}:{}:{permissions}", device.path_on_host, device.path_in_container))
    });
    let cdi = host.device_requests.iter().flatten().filter(|request| request.driver == "cdi");
    let cdi = cdi.flat_map(|request| request.device_ids.iter().flatten()).map(|id| Value::from(id.as_str()));
    service.set("devices", devices.chain(cdi).collect::<Vec<_>>());
    service.set("device_cgroup_rules", list(host.device_cgroup_rules.iter().flatten()));
    let gpus = host.device_requests.iter().flatten().filter(|request| request.driver != "cdi").map(gpu);
    service.set("gpus", gpus.collect::<Vec<_>>());
    if !host.volume_driver.is_empty() {
        service.left_out.push("the driver of all volumes (`--volume-driver`)".to_owned());
    }
}

fn gpu(request: &DeviceRequest) -> Value {
    let mut keys = Map::new();
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    if !request.driver.is_empty() {
        set("driver", request.driver.as_str().into());
    }
    match request.count {
        0 => set("device_ids", list(request.device_ids.iter().flatten())),
        -1 => set("count", "all".into()),
        count => set("count", count.into()),
    };
    let capabilities: Vec<&String> = request.capabilities.iter().flatten().flatten().collect();
    set("capabilities", list(capabilities));
    Value::Object(keys)
}

/// A mount in compose's long form; `None` where that has no words for it.
fn long_volume(mount: &Mount) -> Option<Value> {
    let mut keys = Map::new();
    keys.insert("type".to_owned(), mount.kind.as_str().into());
    let mut set = |key: &str, value: Value| {
        let says_nothing = matches!(&value, Value::Bool(false) | Value::Null)
            || value.as_str() == Some("")
            || value.as_object().is_some_and(Map::is_empty);
        if !says_nothing {
            keys.insert(key.to_owned(), value);
        }
    };
    set("source", mount.source.as_str().into());
    set("target", mount.target.as_str().into());
    set("read_only", mount.read_only.into());
    let filled = |pairs: Vec<(&str, Value, bool)>| {
        let kept = pairs.into_iter().filter(|(_, _, said)| *said);
        Value::Object(kept.map(|(key, value, _)| (key.to_owned(), value)).collect())
    };
    if let Some(bind) = &mount.bind_options {
        let recursive = match (bind.non_recursive, bind.read_only_non_recursive, bind.read_only_force_recursive) {
            (true, _, _) => "disabled",
            (_, true, _) => "writable",
            (_, _, true) => "readonly",
            _ => "",
        };
        let options = vec![
            ("propagation", bind.propagation.as_str().into(), !bind.propagation.is_empty()),
            ("create_host_path", bind.create_mountpoint.into(), true),
            ("recursive", recursive.into(), !recursive.is_empty()),
        ];
        set("bind", filled(options));
    } else if mount.kind == "bind" {
        set("bind", json!({"create_host_path": false}));
    }
    if let Some(volume) = &mount.volume_options {
        if volume.driver_config.is_some() {
            return None;
        }
        let options = vec![
            ("nocopy", true.into(), volume.no_copy),
            ("subpath", volume.subpath.as_str().into(), !volume.subpath.is_empty()),
            ("labels", pairs(&volume.labels), !volume.labels.is_empty()),
        ];
        set("volume", filled(options));
    }
    if let Some(tmpfs) = &mount.tmpfs_options {
        let options = vec![
            ("size", tmpfs.size_bytes.into(), tmpfs.size_bytes != 0),
            ("mode", tmpfs.mode.into(), tmpfs.mode != 0),
        ];
        set("tmpfs", filled(options));
    }
    if let Some(image) = &mount.image_options {
        set("image", filled(vec![("subpath", image.subpath.as_str().into(), !image.subpath.is_empty())]));
    }
    Some(Value::Object(keys))
}

fn network(service: &mut Service, origin: &Origin) -> Map<String, Value> {
    let host = &origin.host;
    let ports: Vec<Value> = origin.published().into_iter().map(Value::from).collect();
    service.set("ports", ports);
    service.set("expose", list(origin.exposed()));
    if host.publish_all_ports {
        service.left_out.push("publishing every exposed port (`--publish-all`)".to_owned());
    }
    service.set("extra_hosts", list(host.extra_hosts.iter().flatten()));
    service.set("dns", list(host.dns.iter().flatten()));
    service.set("dns_search", list(host.dns_search.iter().flatten()));
    service.set("dns_opt", list(host.dns_options.iter().flatten()));
    service.set("external_links", list(host.links.iter().flatten()));
    let mut networks = Map::new();
    let mode = host.network_mode.as_str();
    let own = !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:");
    if !own {
        service.set("network_mode", if matches!(mode, "" | "default") { "bridge" } else { mode });
        return networks;
    }
    let mut places = Map::new();
    for (name, endpoint) in &origin.networks {
        let mut keys = Map::new();
        let aliases = list(endpoint.aliases.iter().flatten());
        if aliases.as_array().is_some_and(|aliases| !aliases.is_empty()) {
            keys.insert("aliases".to_owned(), aliases);
        }
        if let Some(ipam) = &endpoint.ipam_config {
            for (key, address) in [("ipv4_address", &ipam.ipv4_address), ("ipv6_address", &ipam.ipv6_address)] {
                if !address.is_empty() {
                    keys.insert(key.to_owned(), address.as_str().into());
                }
            }
        }
        places.insert(name.clone(), Value::Object(keys));
        networks.insert(name.clone(), json!({"external": true}));
    }
    service.set("networks", places);
    networks
}

fn rights(service: &mut Service, origin: &Origin) {
    let host = &origin.host;
    service.set("privileged", host.privileged);
    service.set("cap_add", list(host.cap_add.iter().flatten()));
    service.set("cap_drop", list(host.cap_drop.iter().flatten()));
    let mut options: Vec<Value> = Vec::new();
    for option in origin.security_options() {
        if option.strip_prefix("seccomp=").is_some_and(|profile| profile.trim_start().starts_with('{')) {
            service.left_out.push("the seccomp profile (its file is not known)".to_owned());
        } else {
            options.push(option.as_str().into());
        }
    }
    if origin.system_paths_are_open() {
        options.push("systempaths=unconfined".into());
    }
    service.set("security_opt", options);
    service.set("userns_mode", host.userns_mode.as_str());
    service.set("pid", host.pid_mode.as_str());
    service.set("ipc", Some(host.ipc_mode.as_str()).filter(|mode| *mode != "private"));
    service.set("uts", host.uts_mode.as_str());
    service.set("cgroup", origin.cgroupns());
    service.set("isolation", host.isolation.as_str());
    service.set("runtime", origin.runtime());
}

fn limits(service: &mut Service, origin: &Origin) {
    let host = &origin.host;
    service.set("mem_limit", host.memory);
    service.set("memswap_limit", origin.memory_swap());
    service.set("mem_reservation", host.memory_reservation);
    if let Some(swappiness) = host.memory_swappiness.filter(|value| *value >= 0) {
        service.force("mem_swappiness", swappiness);
    }
    service.set("oom_kill_disable", host.oom_kill_disable == Some(true));
    service.set("oom_score_adj", host.oom_score_adj);
    service.set("pids_limit", host.pids_limit);
    if host.nano_cpus != 0 {
        service.set("cpus", decimal(host.nano_cpus));
    }
    service.set("cpu_shares", host.cpu_shares);
    service.set("cpu_period", host.cpu_period);
    service.set("cpu_quota", host.cpu_quota);
    service.set("cpu_rt_period", host.cpu_realtime_period);
    service.set("cpu_rt_runtime", host.cpu_realtime_runtime);
    if [host.net_in, host.net_out, host.net_delay, host.net_loss].iter().any(|limit| *limit > 0) {
        service.left_out.push("limits of network traffic (`--net-in` and others)".to_owned());
    }
    if host.egress.is_some() {
        service.left_out.push("what may be reached (`--egress`)".to_owned());
    }
    service.set("cpuset", host.cpuset_cpus.as_str());
    if !host.cpuset_mems.is_empty() {
        service.left_out.push("memory nodes (`--cpuset-mems`)".to_owned());
    }
    service.set("blkio_config", block_io(origin));
    service.set("cgroup_parent", host.cgroup_parent.as_str());
    let ulimits = host.ulimits.iter().flatten();
    let ulimits = ulimits.map(|limit| (limit.name.clone(), json!({"soft": limit.soft, "hard": limit.hard})));
    service.set("ulimits", ulimits.collect::<Map<_, _>>());
    service.set("sysctls", pairs(&host.sysctls));
}

fn block_io(origin: &Origin) -> Value {
    let host = &origin.host;
    let mut keys = Map::new();
    if host.blkio_weight != 0 {
        keys.insert("weight".to_owned(), host.blkio_weight.into());
    }
    let weights = host.blkio_weight_device.iter().flatten();
    let weights: Vec<Value> =
        weights.map(|device| json!({"path": device.path.as_str(), "weight": device.weight})).collect();
    let mut lists = vec![("weight_device", weights)];
    for (name, devices) in [
        ("device_read_bps", &host.blkio_device_read_bps),
        ("device_write_bps", &host.blkio_device_write_bps),
        ("device_read_iops", &host.blkio_device_read_iops),
        ("device_write_iops", &host.blkio_device_write_iops),
    ] {
        let devices = devices.iter().flatten();
        lists.push((name, devices.map(|device| json!({"path": device.path.as_str(), "rate": device.rate})).collect()));
    }
    keys.extend(
        lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key.to_owned(), list.into())),
    );
    Value::Object(keys)
}

fn life(service: &mut Service, origin: &Origin) {
    let host = &origin.host;
    match (host.restart_policy.name.as_str(), host.restart_policy.maximum_retry_count) {
        ("" | "no", _) => {}
        (name, 0) => service.set("restart", name),
        (name, count) => service.set("restart", format!("{name}:{count}")),
    }
    if host.auto_remove {
        service.left_out.push("removal at the end (`--rm`)".to_owned());
    }
    service.set("stop_signal", origin.stop_signal());
    if let Some(seconds) = origin.stop_timeout() {
        service.force("stop_grace_period", format!("{seconds}s"));
    }
    let log = &host.log_config;
    let options = pairs(log.config.iter().flatten());
    let has_options = options.as_object().is_some_and(|options| !options.is_empty());
    if has_options || !matches!(log.driver.as_str(), "" | "json-file") {
        let mut logging = json!({"driver": log.driver.as_str()});
        if has_options {
            logging["options"] = options;
        }
        service.set("logging", logging);
    }
    if let Some(health) = origin.healthcheck() {
        service.set("healthcheck", healthcheck(health));
    }
}

fn healthcheck(health: &HealthConfig) -> Value {
    if health.test.first().is_some_and(|word| word == "NONE") {
        return json!({"disable": true});
    }
    let mut keys = Map::new();
    if !health.test.is_empty() {
        keys.insert("test".to_owned(), list(&health.test));
    }
    for (name, duration) in [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start_period", health.start_period),
        ("start_interval", health.start_interval),
    ] {
        if duration != 0 {
            keys.insert(name.to_owned(), format!("{duration}ns").into());
        }
    }
    if health.retries != 0 {
        keys.insert("retries".to_owned(), health.retries.into());
    }
    Value::Object(keys)
}

#[cfg(test)]
mod tests {
    use ferry_api::container::Inspect;

    use super::*;

    #[test]
    fn a_service_says_what_differs() {
        let container = Inspect {
            id: "0123456789abcdef".into(),
            name: "/web".into(),
            config: serde_json::from_value(json!({
                "Hostname": "0123456789ab", "Image": "nginx", "Env": ["A=$x", "PATH=/bin"], "Cmd": ["serve", "1"], "StopTimeout": 3,
            }))
            .unwrap(),
            host_config: Some(
                serde_json::from_value(json!({
                    "NetworkMode": "bridge", "Binds": ["data:/d", "/a:/b"], "Memory": 1000, "MemorySwap": 2000, "AutoRemove": true,
                    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
                    "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5}}],
                }))
                .unwrap(),
            ),
            ..Inspect::default()
        };
        let image = serde_json::from_value(json!({"Env": ["PATH=/bin"], "Cmd": ["serve"]})).unwrap();
        let written = compose_file(&Origin::new(container, Some(image)));
        assert_eq!(
            written.text,
            "\
services:
  web:
    image: nginx
    container_name: web
    command:
      - serve
      - \"1\"
    environment:
      - \"A=$$x\"
    volumes:
      - \"data:/d\"
      - \"/a:/b\"
      - type: tmpfs
        target: /t
        tmpfs:
          size: 5
    ports:
      - \"8080:80\"
    network_mode: bridge
    mem_limit: 1000
    ulimits:
      nofile:
        soft: 1
        hard: 2
    stop_grace_period: \"3s\"
volumes:
  data:
    external: true
"
        );
        assert_eq!(written.left_out, ["removal at the end (`--rm`)"]);
    }
}
