//! What a container gets that the client did not say: the image's configuration, and Docker's defaults. Pure.

use ferry_api::container::{Config, Empty, HealthConfig, HostConfig};
use ferry_spec::image::{ContainerConfig, Healthcheck};
use ferry_spec::runtime::defaults;

use crate::config::EngineConfig;

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
    super::logging::merge_defaults(&mut host.log_config, &engine.log_driver, &engine.log_options);
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
    host.oom_kill_disable.get_or_insert(false);
    // As Docker records it, with SELinux or without.
    let unlabelled = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    if unlabelled && super::bundle::security_option(host, "label").is_none() {
        host.security_opt.get_or_insert_default().push("label=disable".to_owned());
    }
    let open = super::bundle::security_option(host, "systempaths").as_deref() == Some("unconfined");
    // With all rights none are hidden, which Docker leaves unsaid.
    if !host.privileged {
        let paths = |default: fn() -> Vec<String>| if open { Vec::new() } else { default() };
        host.masked_paths.get_or_insert_with(|| paths(defaults::masked_paths));
        host.readonly_paths.get_or_insert_with(|| paths(defaults::readonly_paths));
    }
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
}
