//! What a container gets that the client did not say: the image's configuration, and Docker's defaults. Pure.

use ferry_api::container::{Config, Empty, HealthConfig, HostConfig};
use ferry_shim::protocol::LogOptions;
use ferry_spec::image::{ContainerConfig, Healthcheck};
use ferry_spec::runtime::defaults;

use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Rotation of logs that say nothing of it: bounded, unlike Docker's.
const LOG_MAX_SIZE_BYTES: u64 = 100 * 1024 * 1024;
const LOG_MAX_FILES: u32 = 3;

/// Merges the image's configuration into the client's, as Docker does.
pub(super) fn merge_image(config: &mut Config, image: &ContainerConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.keys() {
        config.exposed_ports.entry(port.clone()).or_insert(Empty {});
    }
    merge_env(config, image);
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) && config.entrypoint.is_none() {
            config.cmd.clone_from(&image.cmd);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // `--entrypoint ""` clears the image's.
    if config.entrypoint.as_ref().is_some_and(|entrypoint| matches!(&entrypoint[..], [only] if only.is_empty())) {
        config.entrypoint = None;
    }
    for (key, value) in &image.labels {
        config.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    config.labels.get_or_insert_default();
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    for volume in image.volumes.keys() {
        config.volumes.get_or_insert_default().entry(volume.clone()).or_insert(Empty {});
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    if let Some(check) = &image.healthcheck {
        merge_healthcheck(config, check);
    }
}

fn merge_env(config: &mut Config, image: &ContainerConfig) {
    let env = config.env.get_or_insert_default();
    for variable in &image.env {
        let key = variable.split('=').next().unwrap_or_default();
        let has = |own: &String| own.split('=').next() == Some(key);
        if !key.is_empty() && !env.iter().any(has) {
            env.push(variable.clone());
        }
    }
    if !env.iter().any(|variable| variable.starts_with("PATH=") || variable == "PATH") {
        env.insert(0, defaults_path());
    }
}

fn defaults_path() -> String {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
}

fn merge_healthcheck(config: &mut Config, image: &Healthcheck) {
    let own = config.healthcheck.get_or_insert_with(HealthConfig::default);
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    for (value, from_image) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *value == 0 {
            *value = from_image;
        }
    }
}

/// Fills in what the host part leaves open.
pub(super) fn fill_host(host: &mut HostConfig, engine: &EngineConfig) {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".to_owned();
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.log_config.driver.is_empty() {
        host.log_config.driver.clone_from(&engine.log_driver);
        if host.log_config.config.as_ref().is_none_or(|options| options.is_empty()) {
            host.log_config.config =
                Some(engine.log_options.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
        }
    }
    host.log_config.config.get_or_insert_default();
    if host.shm_size == 0 {
        host.shm_size = engine.live.get().default_shm_size_bytes;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".to_owned();
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = if host.privileged { "host" } else { "private" }.to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&engine.live.get().default_runtime);
    }
    if host.init.is_none() && engine.init {
        host.init = Some(true);
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.port_bindings.is_none() {
        host.port_bindings = Some(Default::default());
    }
    for list in [&mut host.dns, &mut host.dns_options, &mut host.dns_search] {
        list.get_or_insert_default();
    }
    // As Docker records it; without SELinux it changes nothing.
    let unlabelled = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    if unlabelled && super::bundle::security_option(host, "label").is_none() {
        host.security_opt.get_or_insert_default().push("label=disable".to_owned());
    }
    let open = host.privileged || super::bundle::security_option(host, "systempaths").as_deref() == Some("unconfined");
    if host.masked_paths.is_none() {
        host.masked_paths = if open { Some(Vec::new()) } else { Some(defaults::masked_paths()) };
    }
    if host.readonly_paths.is_none() {
        host.readonly_paths = if open { Some(Vec::new()) } else { Some(defaults::readonly_paths()) };
    }
}

/// The shim's log settings out of `LogConfig`.
///
/// # Errors
/// InvalidArgument for options that json-file does not have.
pub(super) fn log_options(host: &HostConfig, id: &str) -> Result<LogOptions> {
    if host.log_config.driver == "none" {
        return Ok(LogOptions::None);
    }
    let file_name = log_file_name(id);
    let mut max_size_bytes = Some(LOG_MAX_SIZE_BYTES);
    let mut max_files = LOG_MAX_FILES;
    let mut compress = false;
    for (key, value) in host.log_config.config.iter().flatten() {
        match key.as_str() {
            "max-size" => max_size_bytes = parse_size(value)?,
            "max-file" => {
                max_files = value
                    .parse()
                    .ok()
                    .filter(|count| *count >= 1)
                    .ok_or_else(|| Error::invalid(format!("max-file cannot be less than 1: {value}")))?;
            }
            "compress" => compress = parse_bool(value)?,
            "mode" if value == "blocking" => {}
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "mode" | "max-buffer-size" => {
                return Err(Error::not_implemented(format!("log option {key}")));
            }
            _ => return Err(Error::invalid(format!("unknown log opt '{key}' for json-file log driver"))),
        }
    }
    Ok(LogOptions::JsonFile { file_name, max_size_bytes, max_files, compress, attrs: Vec::new() })
}

/// Name of the live log file in the container's folder.
pub(super) fn log_file_name(id: &str) -> String {
    format!("{id}-json.log")
}

fn parse_bool(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"))),
    }
}

/// `10m`, `1g`, `-1`; Docker's units are powers of 1024 here.
fn parse_size(value: &str) -> Result<Option<u64>> {
    if value == "-1" {
        return Ok(None);
    }
    let invalid = || Error::invalid(format!("invalid size: '{value}'"));
    let lower = value.to_ascii_lowercase();
    let text = lower.trim_end_matches('b');
    let text = text.trim_end_matches('i');
    let (digits, power) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 2),
        Some('g') => (&text[..text.len() - 1], 3),
        Some('t') => (&text[..text.len() - 1], 4),
        _ => (text, 0),
    };
    let number: f64 = digits.trim().parse().map_err(|_| invalid())?;
    let bytes = number * 1024_f64.powi(power);
    if !(1.0..=9e18).contains(&bytes) {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie within the range just above"
    )]
    Ok(Some(bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ContainerConfig {
        ContainerConfig {
            env: vec!["PATH=/bin".into(), "A=image".into()],
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["cmd".into()]),
            ..ContainerConfig::default()
        }
    }

    fn merged(config: Config) -> Config {
        let mut config = config;
        merge_image(&mut config, &image());
        config
    }

    #[test]
    fn a_command_keeps_the_images_entrypoint() {
        let config = merged(Config { cmd: Some(vec!["x".into()]), ..Config::default() });
        assert_eq!((config.entrypoint, config.cmd), (Some(vec!["/entry".into()]), Some(vec!["x".into()])));
    }

    #[test]
    fn an_entrypoint_drops_the_images_command() {
        let config = merged(Config { entrypoint: Some(vec!["/own".into()]), ..Config::default() });
        assert_eq!((config.entrypoint, config.cmd), (Some(vec!["/own".into()]), None));
        let cleared =
            merged(Config { entrypoint: Some(vec![String::new()]), cmd: Some(vec!["x".into()]), ..Config::default() });
        assert_eq!((cleared.entrypoint, cleared.cmd), (None, Some(vec!["x".into()])));
    }

    #[test]
    fn own_environment_wins() {
        let config = merged(Config { env: Some(vec!["A=own".into()]), ..Config::default() });
        assert_eq!(config.env.unwrap(), ["A=own", "PATH=/bin"]);
    }

    #[test]
    fn sizes_of_logs() {
        assert_eq!(parse_size("10m").unwrap(), Some(10 << 20));
        assert_eq!(parse_size("1.5k").unwrap(), Some(1536));
        assert_eq!(parse_size("-1").unwrap(), None);
        assert!(parse_size("x").is_err());
    }
}
