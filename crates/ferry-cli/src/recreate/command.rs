//! The command line that makes a container again.

use ferry_api::container::HealthConfig;

use super::Written;
use super::origin::{Origin, mount_words};

/// Words of a command line, and what has no words.
#[derive(Default)]
struct Line {
    words: Vec<String>,
    left_out: Vec<String>,
}

impl Line {
    fn flag(&mut self, name: &str) {
        self.words.push(format!("--{name}"));
    }

    fn flag_if(&mut self, name: &str, on: bool) {
        if on {
            self.flag(name);
        }
    }

    fn text(&mut self, name: &str, value: impl Into<String>) {
        self.flag(name);
        self.words.push(value.into());
    }

    fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.text(name, value);
        }
    }

    fn number_if(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.text(name, value.to_string());
        }
    }

    fn each<I: IntoIterator>(&mut self, name: &str, values: I)
    where
        I::Item: Into<String>,
    {
        for value in values {
            self.text(name, value);
        }
    }

    fn left_out(&mut self, what: &str, is_there: bool) {
        if is_there {
            self.left_out.push(what.to_owned());
        }
    }
}

/// Writes the line that makes the container again, ready for a shell.
pub(crate) fn command_line(program: &str, origin: &Origin) -> Written {
    let mut line = Line { words: vec![program.to_owned(), "run".to_owned()], ..Line::default() };
    streams(&mut line, origin);
    identity(&mut line, origin);
    process(&mut line, origin);
    files(&mut line, origin);
    network(&mut line, origin);
    rights(&mut line, origin);
    limits(&mut line, origin);
    life(&mut line, origin);
    tail(&mut line, origin);
    let quoted: Vec<String> = line.words.iter().map(|word| quoted(word)).collect();
    Written { text: quoted.join(" "), left_out: line.left_out }
}

fn streams(line: &mut Line, origin: &Origin) {
    let config = &origin.config;
    let attached = [(config.attach_stdin, "stdin"), (config.attach_stdout, "stdout"), (config.attach_stderr, "stderr")];
    match (config.attach_stdin, config.attach_stdout, config.attach_stderr) {
        (false, false, false) => line.flag("detach"),
        (stdin, true, true) if stdin == config.open_stdin => {}
        _ => line.each("attach", attached.iter().filter(|(on, _)| *on).map(|(_, name)| *name)),
    }
    line.flag_if("interactive", config.open_stdin);
    line.flag_if("tty", config.tty);
}

fn identity(line: &mut Line, origin: &Origin) {
    line.text("name", origin.name.as_str());
    line.text_if("hostname", origin.hostname());
    line.text_if("domainname", Some(&origin.config.domainname));
    line.each("label", origin.labels().into_iter().map(|(key, value)| format!("{key}={value}")));
    line.each("annotation", origin.host.annotations.iter().map(|(key, value)| format!("{key}={value}")));
}

fn process(line: &mut Line, origin: &Origin) {
    line.text_if("user", origin.user());
    line.each("group-add", origin.host.group_add.iter().flatten());
    line.text_if("workdir", origin.working_dir());
    line.each("env", origin.environment());
    line.flag_if("init", origin.host.init == Some(true));
    if origin.host.init == Some(false) {
        line.words.push("--init=false".to_owned());
    }
}

fn files(line: &mut Line, origin: &Origin) {
    let host = &origin.host;
    line.each("volume", host.binds.iter().flatten());
    line.each("volume", origin.anonymous_volumes());
    line.each("mount", host.mounts.iter().map(mount_words));
    line.each(
        "tmpfs",
        host.tmpfs.iter().map(|(path, options)| match options.as_str() {
            "" => path.clone(),
            options => format!("{path}:{options}"),
        }),
    );
    line.each("volumes-from", host.volumes_from.iter().flatten());
    line.text_if("volume-driver", Some(&host.volume_driver));
    line.flag_if("read-only", host.readonly_rootfs);
    line.each("storage-opt", host.storage_opt.iter().map(|(key, value)| format!("{key}={value}")));
    if let Some(size) = origin.shm_size() {
        line.text("shm-size", size.to_string());
    }
    for device in host.devices.iter().flatten() {
        let mut text = device.path_on_host.clone();
        let same = device.path_in_container == device.path_on_host || device.path_in_container.is_empty();
        let all = matches!(device.cgroup_permissions.as_str(), "" | "rwm");
        if !same || !all {
            text = format!("{text}:{}", device.path_in_container);
        }
        if !all {
            text = format!("{text}:{}", device.cgroup_permissions);
        }
        line.text("device", text);
    }
    line.each("device-cgroup-rule", host.device_cgroup_rules.iter().flatten());
    device_requests(line, origin);
}

fn device_requests(line: &mut Line, origin: &Origin) {
    for request in origin.host.device_requests.iter().flatten() {
        let ids = request.device_ids.as_deref().unwrap_or_default();
        if request.driver == "cdi" {
            line.each("device", ids);
            continue;
        }
        let mut words = Vec::new();
        if !request.driver.is_empty() {
            words.push(format!("driver={}", request.driver));
        }
        match request.count {
            0 if ids.is_empty() => {}
            0 => words.push(format!("\"device={}\"", ids.join(","))),
            -1 => words.push("count=all".to_owned()),
            count => words.push(format!("count={count}")),
        }
        let capabilities: Vec<&str> = request.capabilities.iter().flatten().flatten().map(String::as_str).collect();
        let others: Vec<&str> = capabilities.into_iter().filter(|capability| *capability != "gpu").collect();
        if !others.is_empty() {
            words.push(format!("\"capabilities={}\"", others.join(",")));
        }
        line.text("gpus", words.join(","));
    }
}

fn network(line: &mut Line, origin: &Origin) {
    let host = &origin.host;
    line.text_if("network", origin.network());
    if let Some(endpoint) = origin.network().and_then(|network| origin.networks.get(network)) {
        line.each("network-alias", endpoint.aliases.iter().flatten());
        line.text_if("ip", endpoint.ipam_config.as_ref().map(|ipam| ipam.ipv4_address.as_str()));
        line.text_if("ip6", endpoint.ipam_config.as_ref().map(|ipam| ipam.ipv6_address.as_str()));
    }
    let mode = host.network_mode.as_str();
    line.left_out(
        "further networks",
        origin.networks.keys().any(|name| name != mode) && !mode.is_empty() && mode != "default",
    );
    line.each("publish", origin.published());
    line.flag_if("publish-all", host.publish_all_ports);
    line.each("expose", origin.exposed());
    line.each("link", host.links.iter().flatten().map(|link| plain_link(link)));
    line.each("add-host", host.extra_hosts.iter().flatten());
    line.each("dns", host.dns.iter().flatten());
    line.each("dns-search", host.dns_search.iter().flatten());
    line.each("dns-option", host.dns_options.iter().flatten());
}

/// `/database:/web/db` is `--link database:db`.
fn plain_link(link: &str) -> String {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    format!("{}:{}", name.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias))
}

fn rights(line: &mut Line, origin: &Origin) {
    let host = &origin.host;
    line.flag_if("privileged", host.privileged);
    line.each("cap-add", host.cap_add.iter().flatten());
    line.each("cap-drop", host.cap_drop.iter().flatten());
    for option in origin.security_options() {
        if option.strip_prefix("seccomp=").is_some_and(|profile| profile.trim_start().starts_with('{')) {
            line.left_out("the seccomp profile (its file is not known)", true);
        } else {
            line.text("security-opt", option);
        }
    }
    if origin.system_paths_are_open() {
        line.text("security-opt", "systempaths=unconfined");
    }
    line.text_if("userns", Some(&host.userns_mode));
    line.text_if("pid", Some(&host.pid_mode));
    line.text_if("ipc", Some(host.ipc_mode.as_str()).filter(|mode| *mode != "private"));
    line.text_if("uts", Some(&host.uts_mode));
    line.text_if("cgroupns", origin.cgroupns());
    line.text_if("isolation", Some(&host.isolation));
    line.text_if("runtime", origin.runtime());
}

/// The API counts lost packets by the million.
const PARTS_OF_A_PERCENT: i64 = 10_000;

fn limits(line: &mut Line, origin: &Origin) {
    let host = &origin.host;
    line.number_if("memory", host.memory);
    if let Some(swap) = origin.memory_swap() {
        line.text("memory-swap", swap.to_string());
    }
    line.number_if("memory-reservation", host.memory_reservation);
    if let Some(swappiness) = host.memory_swappiness.filter(|value| *value >= 0) {
        line.text("memory-swappiness", swappiness.to_string());
    }
    line.flag_if("oom-kill-disable", host.oom_kill_disable == Some(true));
    line.number_if("oom-score-adj", host.oom_score_adj);
    line.number_if("pids-limit", host.pids_limit.unwrap_or(0));
    if host.nano_cpus != 0 {
        line.text("cpus", decimal(host.nano_cpus));
    }
    line.number_if("cpu-shares", host.cpu_shares);
    line.number_if("cpu-period", host.cpu_period);
    line.number_if("cpu-quota", host.cpu_quota);
    line.number_if("cpu-rt-period", host.cpu_realtime_period);
    line.number_if("cpu-rt-runtime", host.cpu_realtime_runtime);
    line.text_if("cpuset-cpus", Some(&host.cpuset_cpus));
    line.text_if("cpuset-mems", Some(&host.cpuset_mems));
    line.number_if("blkio-weight", host.blkio_weight.into());
    line.each(
        "blkio-weight-device",
        host.blkio_weight_device.iter().flatten().map(|device| format!("{}:{}", device.path, device.weight)),
    );
    for (name, devices) in [
        ("device-read-bps", &host.blkio_device_read_bps),
        ("device-write-bps", &host.blkio_device_write_bps),
        ("device-read-iops", &host.blkio_device_read_iops),
        ("device-write-iops", &host.blkio_device_write_iops),
    ] {
        line.each(name, devices.iter().flatten().map(|device| format!("{}:{}", device.path, device.rate)));
    }
    for (name, unit, value, factor) in [
        ("net-in", "bit", host.net_in, 1),
        ("net-out", "bit", host.net_out, 1),
        ("net-delay", "ns", host.net_delay, 1),
        ("net-loss", "%", host.net_loss, PARTS_OF_A_PERCENT),
    ] {
        if value > 0 {
            line.text(name, format!("{}{unit}", value as f64 / factor as f64));
        }
    }
    line.each("egress", host.egress.iter().flatten().map(String::as_str));
    line.text_if("cgroup-parent", Some(&host.cgroup_parent));
    let ulimits = host.ulimits.iter().flatten();
    line.each("ulimit", ulimits.map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)));
    line.each("sysctl", host.sysctls.iter().map(|(key, value)| format!("{key}={value}")));
}

/// Billionths as a decimal number.
pub(super) fn decimal(nano: i64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, (nano % 1_000_000_000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn life(line: &mut Line, origin: &Origin) {
    let host = &origin.host;
    line.flag_if("rm", host.auto_remove);
    match (host.restart_policy.name.as_str(), host.restart_policy.maximum_retry_count) {
        ("" | "no", _) => {}
        (name, 0) => line.text("restart", name),
        (name, count) => line.text("restart", format!("{name}:{count}")),
    }
    line.text_if("stop-signal", origin.stop_signal());
    if let Some(seconds) = origin.stop_timeout() {
        line.text("stop-timeout", seconds.to_string());
    }
    let log = &host.log_config;
    line.text_if("log-driver", Some(log.driver.as_str()).filter(|driver| *driver != "json-file"));
    line.each("log-opt", log.config.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    if let Some(health) = origin.healthcheck() {
        healthcheck(line, health);
    }
}

fn healthcheck(line: &mut Line, health: &HealthConfig) {
    match health.test.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["NONE"] => return line.flag("no-healthcheck"),
        ["CMD-SHELL", command] => line.text("health-cmd", command),
        [] => {}
        _ => line.left_out("the health check (its command is a list)", true),
    }
    for (name, duration) in [
        ("health-interval", health.interval),
        ("health-timeout", health.timeout),
        ("health-start-period", health.start_period),
        ("health-start-interval", health.start_interval),
    ] {
        if duration != 0 {
            line.text(name, format!("{duration}ns"));
        }
    }
    line.number_if("health-retries", health.retries);
}

fn tail(line: &mut Line, origin: &Origin) {
    let mut more: Vec<String> = Vec::new();
    match origin.entrypoint() {
        None => {}
        Some([]) => line.words.push("--entrypoint=".to_owned()),
        Some([program, arguments @ ..]) => {
            line.text("entrypoint", program.as_str());
            more.extend(arguments.iter().cloned());
            line.left_out("the entrypoint as a list (its arguments became part of the command)", !arguments.is_empty());
        }
    }
    more.extend(origin.command().unwrap_or_default().iter().cloned());
    line.words.push(origin.config.image.clone());
    line.words.extend(more);
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+.,:/@%^".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use ferry_api::container::{Config, HostConfig, Inspect};
    use serde_json::json;

    use super::*;

    fn origin(config: serde_json::Value, host: serde_json::Value, image: serde_json::Value) -> Origin {
        let config: Config = serde_json::from_value(config).unwrap();
        let host: HostConfig = serde_json::from_value(host).unwrap();
        let container = Inspect {
            id: "0123456789abcdef".into(),
            name: "/web".into(),
            config,
            host_config: Some(host),
            ..Inspect::default()
        };
        Origin::new(container, Some(serde_json::from_value(image).unwrap()))
    }

    fn line(config: serde_json::Value, host: serde_json::Value, image: serde_json::Value) -> String {
        command_line("ferry", &origin(config, host, image)).text
    }

    #[test]
    fn what_the_image_gives_is_not_said() {
        let config = json!({
            "Hostname": "0123456789ab", "AttachStdout": true, "AttachStderr": true, "Image": "nginx", "Cmd": ["serve"],
            "Env": ["A=1", "PATH=/bin"], "Entrypoint": ["/entry"], "Labels": {"of": "image"}, "WorkingDir": "/w",
            "ExposedPorts": {"80/tcp": {}},
        });
        let image = json!({
            "Cmd": ["serve"], "Env": ["PATH=/bin"], "Entrypoint": ["/entry"], "Labels": {"of": "image"}, "WorkingDir": "/w",
            "ExposedPorts": {"80/tcp": {}},
        });
        let host =
            json!({"NetworkMode": "bridge", "ShmSize": 67108864, "IpcMode": "private", "CgroupnsMode": "private"});
        assert_eq!(line(config, host, image), "ferry run --name web --env A=1 nginx");
    }

    #[test]
    fn everything_else_is() {
        let config = json!({
            "Hostname": "h", "Image": "a", "Cmd": ["x y", "it's"], "Tty": true, "OpenStdin": true, "AttachStdin": true,
            "AttachStdout": true, "AttachStderr": true, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopTimeout": 3,
        });
        let host = json!({
            "Binds": ["/a:/b:ro"], "NetworkMode": "host", "Memory": 100, "MemorySwap": 200, "NanoCpus": 1500000000,
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "Privileged": true, "SecurityOpt": ["label=disable"],
            "Mounts": [{"Type": "bind", "Source": "/s,1", "Target": "/t", "ReadOnly": true}], "CgroupnsMode": "host",
        });
        assert_eq!(
            line(config, host, json!({"Entrypoint": ["/entry"]})),
            "ferry run --interactive --tty --name web --volume /a:/b:ro --mount 'type=bind,\"source=/s,1\",target=/t,readonly' \
             --network host --publish 127.0.0.1:8080:80 --expose 53/udp --privileged --memory 100 --cpus 1.5 --ulimit nofile=1:2 \
             --restart on-failure:3 --stop-timeout 3 --entrypoint= a 'x y' 'it'\\''s'"
        );
    }

    #[test]
    fn limits_of_traffic_are_written_as_they_are_read() {
        let limits =
            json!({"NetIn": 1_500_000, "NetLoss": 5_000, "NetDelay": 20_000_000, "Egress": ["lan", "allow=a:1"]});
        let written = command_line("ferry", &origin(json!({"Image": "a"}), limits, json!({})));
        let words = "--net-in 1500000bit --net-delay 20000000ns --net-loss 0.5% --egress lan --egress allow=a:1";
        assert!(written.text.contains(words), "{}", written.text);
    }

    #[test]
    fn what_has_no_words_is_told() {
        let written = command_line(
            "ferry",
            &origin(
                json!({"Image": "a", "Entrypoint": ["/e", "x"], "Healthcheck": {"Test": ["CMD", "a", "b"]}}),
                json!({"SecurityOpt": ["seccomp={\"a\": 1}"]}),
                json!({}),
            ),
        );
        assert_eq!(written.left_out.len(), 3, "{:?}", written.left_out);
        assert!(written.text.ends_with("--entrypoint /e a x"), "{}", written.text);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, shown) in [("a-b=c", "a-b=c"), ("", "''"), ("a b", "'a b'"), ("$x", "'$x'"), ("~", "'~'")] {
            assert_eq!(quoted(word), shown);
        }
        assert_eq!(plain_link("/database:/web/db"), "database:db");
        assert_eq!(decimal(500_000_000), "0.5");
    }
}
