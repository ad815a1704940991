//! From the flags of `run` and `create` to the request: every flag that Docker's client has, faithfully.
//!
//! Pure but for the files that flags name (environment, labels, seccomp profiles) and the client's own environment.
//! What the daemon cannot do it refuses itself, so nothing is dropped here.

pub(crate) mod checks;
mod csv;
mod devices;
pub(crate) mod environment;
mod mounts;
mod networks;
mod ports;
mod security;
mod traffic;

use ferry_api::container::{
    Config, CreateRequest, DeviceRequest, HealthConfig, HostConfig, LogConfig, NextStart, Resources, RestartPolicy,
    Ulimit, UpdateRequest,
};
use ferry_api::network::NetworkingConfig;

use crate::flags::Parsed;

/// Builds the request of `create` and `run` from the flags and `IMAGE [COMMAND] [ARG...]`.
///
/// # Errors
/// Docker's text for the first value that does not fit.
pub(crate) fn to_request(parsed: &Parsed, proxies: &[(&str, &str)]) -> Result<CreateRequest, String> {
    let (image, command) = parsed.args.split_first().ok_or("an image is required")?;
    if let Some(address) = parsed.text("mac-address").filter(|address| !address.is_empty()) {
        networks::mac_address(address)?;
    }
    let swappiness = parsed.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let mut config = Config { image: image.clone(), ..Config::default() };
    let mut host = HostConfig::default();
    volumes(parsed, &mut config, &mut host)?;
    config.cmd = (!command.is_empty()).then(|| command.to_vec());
    config.entrypoint = parsed.text("entrypoint").map(|text| vec![text.to_owned()]);
    let ports = ports::parse(parsed.all("publish"), parsed.all("expose"))?;
    config.exposed_ports = ports.exposed;
    host.port_bindings = Some(ports.bindings);
    device_settings(parsed, &mut host)?;
    config.env = list(&environment_of(parsed, proxies)?);
    config.labels = Some(environment::labels(parsed.all("label-file"), parsed.all("label"))?);
    modes(parsed, &mut host)?;
    host.restart_policy = restart_policy(parsed.text("restart").unwrap_or("no"))?;
    let driver = parsed.text_or_empty("log-driver");
    host.log_config =
        LogConfig { driver: driver.to_owned(), config: Some(security::log_options(driver, parsed.all("log-opt"))?) };
    let security = security::parse(parsed.all("security-opt"))?;
    host.security_opt = list(&security.options);
    if security.system_paths_unconfined {
        host.masked_paths = Some(Vec::new());
        host.readonly_paths = Some(Vec::new());
    }
    host.storage_opt = security::storage_options(parsed.all("storage-opt"))?;
    config.healthcheck = healthcheck(parsed)?;
    process_settings(parsed, &mut config);
    host_settings(parsed, &mut host)?;
    limits(parsed, &mut host, swappiness)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    config.stdin_once = config.open_stdin && config.attach_stdin;
    let (mode, endpoints) = networks::endpoints(parsed)?;
    host.network_mode = mode;
    Ok(CreateRequest {
        config,
        host_config: Some(host),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints) }),
    })
}

/// Builds the request of `update`.
///
/// # Errors
/// Docker's text for the first value that does not fit.
pub(crate) fn to_update(parsed: &Parsed) -> Result<UpdateRequest, String> {
    let int = |name: &str| parsed.int(name).unwrap_or(0);
    let bytes = |name: &str| parsed.bytes(name).unwrap_or(0);
    let mut resources = Resources {
        blkio_weight: u16::try_from(int("blkio-weight")).unwrap_or(0),
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        cpu_shares: int("cpu-shares"),
        nano_cpus: parsed.text("cpus").map_or(Ok(0), crate::flags::parse_nano_cpus)?,
        cpuset_cpus: parsed.text_or_empty("cpuset-cpus").to_owned(),
        cpuset_mems: parsed.text_or_empty("cpuset-mems").to_owned(),
        memory: bytes("memory"),
        memory_reservation: bytes("memory-reservation"),
        memory_swap: bytes("memory-swap"),
        pids_limit: Some(int("pids-limit")).filter(|limit| *limit != 0),
        ..Resources::default()
    };
    traffic::read(parsed, &mut resources, true)?;
    let restart_policy = match parsed.text_or_empty("restart") {
        "" => RestartPolicy::default(),
        text => restart_policy(text)?,
    };
    let changes = next_start(parsed)?;
    Ok(UpdateRequest { resources, restart_policy, next_start: (changes != NextStart::default()).then_some(changes) })
}

fn next_start(parsed: &Parsed) -> Result<NextStart, String> {
    let removed_port = |port: &String| {
        let ports = ports::parse(std::slice::from_ref(port), &[]).map_err(|_| format!("invalid port: {port}"))?;
        let is_plain = !port.contains(':') && !port.contains('=');
        if is_plain {
            Ok(ports.bindings.into_keys())
        } else {
            Err(format!("invalid port: {port} is not a container's port"))
        }
    };
    let removed: Result<Vec<_>, String> = parsed.all("publish-rm").iter().map(removed_port).collect();
    Ok(NextStart {
        publish: ports::parse(parsed.all("publish-add"), &[])?.bindings,
        unpublish: removed?.into_iter().flatten().collect(),
        env: environment::environment(&[], parsed.all("env-add"))?,
        unset_env: parsed.all("env-rm").to_vec(),
        labels: environment::to_map(parsed.all("label-add")),
        unset_labels: parsed.all("label-rm").to_vec(),
        log_options: environment::to_map(parsed.all("log-opt")),
        healthcheck: healthcheck(parsed)?,
    })
}

/// A list as Go's flags leave it: `null` when nothing was given.
fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

fn volumes(parsed: &Parsed, config: &mut Config, host: &mut HostConfig) -> Result<(), String> {
    let mut binds = Vec::new();
    let mut anonymous = std::collections::BTreeMap::new();
    for spec in parsed.all("volume") {
        match mounts::parse_volume(spec)? {
            mounts::Volume::Anonymous(path) => {
                anonymous.insert(path, Default::default());
            }
            mounts::Volume::Bind(bind) => {
                if !binds.contains(&bind) {
                    binds.push(bind);
                }
            }
        }
    }
    config.volumes = Some(anonymous);
    host.binds = list(&binds);
    for spec in parsed.all("tmpfs") {
        let (path, options) = spec.split_once(':').unwrap_or((spec, ""));
        host.tmpfs.insert(path.to_owned(), options.to_owned());
    }
    host.mounts = parsed.all("mount").iter().map(|value| mounts::parse(value)).collect::<Result<_, _>>()?;
    host.volume_driver = parsed.text_or_empty("volume-driver").to_owned();
    host.volumes_from = list(parsed.all("volumes-from"));
    Ok(())
}

fn device_settings(parsed: &Parsed, host: &mut HostConfig) -> Result<(), String> {
    let (cdi, plain): (Vec<&String>, Vec<&String>) =
        parsed.all("device").iter().partition(|value| devices::is_cdi(value));
    host.devices = Some(plain.into_iter().map(|value| devices::parse_device(value)).collect::<Result<_, _>>()?);
    let mut requests = Vec::new();
    if let Some(value) = parsed.text("gpus") {
        requests.push(devices::parse_gpus(value)?);
    }
    if !cdi.is_empty() {
        let names = cdi.into_iter().cloned().collect();
        requests.push(DeviceRequest { driver: "cdi".to_owned(), device_ids: Some(names), ..DeviceRequest::default() });
    }
    host.device_requests = (!requests.is_empty()).then_some(requests);
    host.device_cgroup_rules = list(parsed.all("device-cgroup-rule"));
    Ok(())
}

/// Proxies of the configuration apply where no flag names the variable.
fn environment_of(parsed: &Parsed, proxies: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let flags = parsed.all("env");
    let mut variables = environment::environment(parsed.all("env-file"), flags)?;
    for (name, value) in proxies {
        if !flags.iter().any(|flag| flag.split('=').next() == Some(name)) {
            variables.push(format!("{name}={value}"));
        }
    }
    Ok(variables)
}

fn modes(parsed: &Parsed, host: &mut HostConfig) -> Result<(), String> {
    host.pid_mode = parsed.text_or_empty("pid").to_owned();
    let container = |text: &str| text.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if !(matches!(host.pid_mode.as_str(), "" | "host") || container(&host.pid_mode)) {
        return Err("--pid: invalid PID mode".to_owned());
    }
    host.uts_mode = parsed.text_or_empty("uts").to_owned();
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err("--uts: invalid UTS mode".to_owned());
    }
    host.userns_mode = parsed.text_or_empty("userns").to_owned();
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    host.cgroupns_mode = parsed.text_or_empty("cgroupns").to_owned();
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".to_owned());
    }
    host.ipc_mode = parsed.text_or_empty("ipc").to_owned();
    Ok(())
}

/// Reads `--restart`.
fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => return Err("invalid restart policy format: no policy provided before colon".to_owned()),
        Some((name, count)) => (name, count),
        None => (text, ""),
    };
    let maximum_retry_count = match count {
        "" => 0,
        digits => digits
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn healthcheck(parsed: &Parsed) -> Result<Option<HealthConfig>, String> {
    let duration = |name: &str| {
        let value = parsed.duration_ns(name).unwrap_or(0);
        if value < 0 { Err(format!("--{name} cannot be negative")) } else { Ok(value) }
    };
    let kinds = [("health-cmd", "CMD-SHELL"), ("health-http", "HTTP"), ("health-tcp", "TCP")];
    let mut given = kinds.iter().filter(|(flag, _)| !parsed.text_or_empty(flag).is_empty());
    let test = match given.next() {
        Some((flag, kind)) => vec![(*kind).to_owned(), parsed.text_or_empty(flag).to_owned()],
        None => Vec::new(),
    };
    if given.next().is_some() {
        return Err(
            "conflicting options: only one of --health-cmd, --health-http and --health-tcp can be given".to_owned()
        );
    }
    let retries = parsed.int("health-retries").unwrap_or(0);
    let health = HealthConfig {
        test,
        interval: duration("health-interval")?,
        timeout: duration("health-timeout")?,
        retries,
        start_period: duration("health-start-period")?,
        start_interval: duration("health-start-interval")?,
        action: parsed.text_or_empty("health-action").to_owned(),
    };
    let given = health != HealthConfig::default();
    if parsed.on("no-healthcheck") {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }));
    }
    if retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    Ok(given.then_some(health))
}

fn process_settings(parsed: &Parsed, config: &mut Config) {
    let attached = |stream: &str| parsed.all("attach").iter().any(|value| value.eq_ignore_ascii_case(stream));
    let nothing_named = parsed.all("attach").is_empty();
    config.hostname = parsed.text_or_empty("hostname").to_owned();
    config.domainname = parsed.text_or_empty("domainname").to_owned();
    config.user = parsed.text_or_empty("user").to_owned();
    config.tty = parsed.on("tty");
    config.open_stdin = parsed.on("interactive");
    config.attach_stdin = attached("stdin") || config.open_stdin;
    config.attach_stdout = attached("stdout") || nothing_named;
    config.attach_stderr = attached("stderr") || nothing_named;
    config.working_dir = parsed.text_or_empty("workdir").to_owned();
    config.stop_signal = parsed.text_or_empty("stop-signal").to_owned();
    config.stop_timeout = parsed.int("stop-timeout");
    config.mac_address = String::new();
}

fn host_settings(parsed: &Parsed, host: &mut HostConfig) -> Result<(), String> {
    host.container_id_file = parsed.text_or_empty("cidfile").to_owned();
    host.oom_score_adj = parsed.int("oom-score-adj").unwrap_or(0);
    host.auto_remove = parsed.on("rm");
    host.privileged = parsed.on("privileged");
    host.links = list(parsed.all("link"));
    host.publish_all_ports = parsed.on("publish-all");
    let addresses = parsed.all("dns").iter().map(|value| checks::ip_address(value));
    host.dns = Some(addresses.collect::<Result<_, _>>()?);
    host.dns_search = Some(parsed.all("dns-search").iter().map(|value| value.trim_matches(' ').to_owned()).collect());
    host.dns_options = Some([parsed.all("dns-option"), parsed.all("dns-opt")].concat());
    let hosts = parsed.all("add-host").iter().map(|value| checks::extra_host(value));
    host.extra_hosts = list(&hosts.collect::<Result<Vec<_>, _>>()?);
    let added = capabilities(parsed.all("cap-add"));
    let dropped = capabilities(parsed.all("cap-drop"));
    // What is asked for wins over what is dropped.
    host.cap_drop = list(&dropped.into_iter().filter(|name| !added.contains(name)).collect::<Vec<_>>());
    host.cap_add = list(&added);
    host.group_add = list(parsed.all("group-add"));
    host.readonly_rootfs = parsed.on("read-only");
    host.isolation = parsed.text_or_empty("isolation").to_owned();
    host.shm_size = parsed.bytes("shm-size").unwrap_or(0);
    host.sysctls = environment::to_map(parsed.all("sysctl"));
    host.runtime = parsed.text_or_empty("runtime").to_owned();
    host.annotations = environment::to_map(parsed.all("annotation"));
    host.init = parsed.changed("init").then(|| parsed.on("init"));
    Ok(())
}

/// Capabilities by their whole names, sorted, each once.
fn capabilities(values: &[String]) -> Vec<String> {
    let names: std::collections::BTreeSet<String> = values
        .iter()
        .map(|value| value.trim().to_ascii_uppercase())
        .filter(|name| !name.is_empty())
        .map(|name| if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") })
        .collect();
    names.into_iter().collect()
}

fn limits(parsed: &Parsed, host: &mut HostConfig, swappiness: i64) -> Result<(), String> {
    let int = |name: &str| parsed.int(name).unwrap_or(0);
    let bytes = |name: &str| parsed.bytes(name).unwrap_or(0);
    host.cpu_shares = int("cpu-shares");
    host.memory = bytes("memory");
    host.memory_reservation = bytes("memory-reservation");
    host.memory_swap = bytes("memory-swap");
    host.memory_swappiness = Some(swappiness);
    host.nano_cpus = parsed.text("cpus").map_or(Ok(0), crate::flags::parse_nano_cpus)?;
    host.cgroup_parent = parsed.text_or_empty("cgroup-parent").to_owned();
    host.blkio_weight = u16::try_from(int("blkio-weight")).unwrap_or(0);
    host.cpu_period = int("cpu-period");
    host.cpu_quota = int("cpu-quota");
    host.cpu_realtime_period = int("cpu-rt-period");
    host.cpu_realtime_runtime = int("cpu-rt-runtime");
    host.cpuset_cpus = parsed.text_or_empty("cpuset-cpus").to_owned();
    host.cpuset_mems = parsed.text_or_empty("cpuset-mems").to_owned();
    host.oom_kill_disable = Some(parsed.on("oom-kill-disable"));
    host.pids_limit = Some(int("pids-limit"));
    host.cpu_count = int("cpu-count");
    host.cpu_percent = int("cpu-percent");
    host.io_maximum_iops = u64::try_from(int("io-maxiops")).unwrap_or(0);
    host.io_maximum_bandwidth = u64::try_from(bytes("io-maxbandwidth")).unwrap_or(0);
    let each = |name: &str| parsed.all(name).to_vec();
    let weights: Result<Vec<_>, _> =
        each("blkio-weight-device").iter().map(|value| devices::parse_weight(value)).collect();
    host.blkio_weight_device = Some(weights?);
    let throttled = |name: &str, parse: fn(&str) -> Result<_, String>| {
        let found: Result<Vec<_>, String> = each(name).iter().map(|value| parse(value)).collect();
        found.map(Some)
    };
    host.blkio_device_read_bps = throttled("device-read-bps", devices::parse_bps)?;
    host.blkio_device_write_bps = throttled("device-write-bps", devices::parse_bps)?;
    host.blkio_device_read_iops = throttled("device-read-iops", devices::parse_iops)?;
    host.blkio_device_write_iops = throttled("device-write-iops", devices::parse_iops)?;
    host.ulimits = Some(ulimits(parsed.all("ulimit"))?);
    let mut resources = host.resources();
    traffic::read(parsed, &mut resources, false)?;
    host.set_resources(resources);
    Ok(())
}

/// The last value for a name wins; names are sorted.
fn ulimits(values: &[String]) -> Result<Vec<Ulimit>, String> {
    let mut by_name = std::collections::BTreeMap::new();
    for value in values {
        let limit = Ulimit::parse(value)?;
        by_name.insert(limit.name.clone(), limit);
    }
    Ok(by_name.into_values().collect())
}

/// Takes one value of the flag apart as Go's flags do: one pair is taken as it is, several are a row of CSV.
pub(crate) fn pairs(value: &str) -> Result<Vec<String>, String> {
    match value.matches('=').count() {
        0 => Err(format!("{value} must be formatted as key=value")),
        1 => Ok(vec![value.trim_matches('"').to_owned()]),
        _ => csv::fields(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;
    use crate::grammar::{CONTAINER_RUN, CONTAINER_UPDATE};

    fn update(line: &[&str]) -> Result<UpdateRequest, String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let parsed =
            flags::parse(CONTAINER_UPDATE.flags, false, &words, checks::check).map_err(|error| error.to_string())?;
        to_update(&parsed)
    }

    #[test]
    fn an_update_names_what_it_changes() {
        let request =
            update(&["-m", "8m", "--memory-swap", "-1", "--cpus", "0.5", "--restart", "on-failure:3", "x"]).unwrap();
        let resources = &request.resources;
        assert_eq!((resources.memory, resources.memory_swap, resources.nano_cpus), (8 << 20, -1, 500_000_000));
        assert_eq!((request.restart_policy.maximum_retry_count, request.next_start), (3, None));
        assert_eq!(resources.pids_limit, None);
        assert!(update(&["-m", "-1", "x"]).unwrap_err().ends_with("invalid size: '-1'"));
    }

    #[test]
    fn what_waits_for_the_next_start_is_named_apart() {
        let line =
            ["--publish-add", "8080:80", "--publish-rm", "81-82/udp", "--env-add", "A=b", "--label-rm", "l", "x"];
        let changes = update(&line).unwrap().next_start.unwrap();
        assert_eq!(changes.publish["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
        assert_eq!(changes.unpublish, ["81/udp", "82/udp"]);
        assert_eq!((changes.env, changes.unset_labels), (vec!["A=b".to_owned()], vec!["l".to_owned()]));
        assert!(update(&["--publish-rm", "8080:80", "x"]).is_err());
        let off = update(&["--no-healthcheck", "x"]).unwrap().next_start.unwrap();
        assert_eq!(off.healthcheck.unwrap().test, ["NONE"]);
    }

    fn request(line: &[&str]) -> Result<CreateRequest, String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let parsed =
            flags::parse(CONTAINER_RUN.flags, true, &words, checks::check).map_err(|error| error.to_string())?;
        to_request(&parsed, &[])
    }

    #[test]
    fn options_stop_at_the_image() {
        let request = request(&["-it", "--rm", "alpine", "ls", "-l", "--rm=false"]).unwrap();
        assert_eq!(request.config.cmd.unwrap(), ["ls", "-l", "--rm=false"]);
        assert!(request.host_config.unwrap().auto_remove);
        assert!(request.config.tty && request.config.open_stdin && request.config.stdin_once);
    }

    #[test]
    fn attach_names_streams() {
        let config = request(&["-a", "stdout", "x"]).unwrap().config;
        assert!(config.attach_stdout && !config.attach_stderr && !config.attach_stdin);
        let config = request(&["-i", "x"]).unwrap().config;
        assert!(config.attach_stdout && config.attach_stderr && config.attach_stdin);
    }

    #[test]
    fn an_empty_entrypoint_clears_the_images() {
        assert_eq!(request(&["--entrypoint=", "x"]).unwrap().config.entrypoint, Some(vec![String::new()]));
        assert_eq!(request(&["x"]).unwrap().config.entrypoint, None);
    }

    #[test]
    fn conflicts_are_named() {
        for (line, reason) in [
            (vec!["--rm", "--restart", "always", "x"], "conflicting options: cannot specify both --restart and --rm"),
            (vec!["--no-healthcheck", "--health-cmd", "x", "x"], "--no-healthcheck conflicts with --health-* options"),
            (vec!["--pid", "x", "x"], "--pid: invalid PID mode"),
            (vec!["--memory-swappiness", "101", "x"], "invalid value: 101. Valid memory swappiness range is 0-100"),
            (
                vec!["--network", "a", "--network", "host", "x"],
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
        ] {
            assert_eq!(request(&line).unwrap_err(), reason);
        }
    }

    #[test]
    fn restart_policies() {
        assert_eq!(restart_policy("on-failure:3").unwrap().maximum_retry_count, 3);
        assert!(restart_policy("on-failure:x").is_err());
        assert!(restart_policy(":3").is_err());
    }
}
