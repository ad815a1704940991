//! What a request may say: names, values, and what is known but not built.
//!
//! Pure. Everything Docker knows and ferry has not built yet is refused here by name, so that nothing asked for is dropped in silence.

use std::net::IpAddr;

use ferry_api::container::{Config, CreateRequest, HostConfig, RestartPolicy};

use super::combinations::SubnetsOf;
use super::confinement::SecurityOptions;
use crate::config::{CgroupDriver, EngineConfig};
use crate::error::{Error, Result};

/// Docker's rule for container names.
pub(super) fn name(name: &str) -> Result<()> {
    if crate::names::is_valid(name) { Ok(()) } else { Err(bad_name(name)) }
}

pub(super) fn bad_name(name: &str) -> Error {
    Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
}

/// Checks a request before anything is made.
pub(super) fn request(
    request: &CreateRequest,
    host_config: &HostConfig,
    engine: &EngineConfig,
    subnets_of: &SubnetsOf<'_>,
) -> Result<()> {
    super::combinations::check(request, host_config, subnets_of)?;
    portable(&request.config)?;
    values(host_config)?;
    modes(host_config)?;
    restart_policy(&host_config.restart_policy)?;
    if host_config.auto_remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy".to_owned()));
    }
    SecurityOptions::parse(host_config)?;
    cgroup_parent(&host_config.cgroup_parent, engine.cgroup_driver)?;
    runtime(host_config, engine)
}

fn cgroup_parent(parent: &str, driver: CgroupDriver) -> Result<()> {
    if !parent.is_empty() && !driver.takes_parent(parent) {
        return Err(Error::invalid(CgroupDriver::BAD_PARENT.to_owned()));
    }
    Ok(())
}

fn portable(config: &Config) -> Result<()> {
    no_control_characters("hostname", &config.hostname)?;
    if config.hostname.len() > 64 {
        return Err(Error::invalid(format!("hostname {:?} is too long (maximum 64 bytes)", config.hostname)));
    }
    no_control_characters("domainname", &config.domainname)?;
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
        if variable.contains('\0') {
            return Err(Error::invalid(format!("invalid environment variable: {variable:?} holds a NUL byte")));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        // A number is taken as it is.
        let number = config.stop_signal.parse::<i32>().ok().filter(|number| *number != 0);
        number
            .or_else(|| ferry_spec::signal::parse(&config.stop_signal))
            .ok_or_else(|| Error::invalid(format!("invalid signal: {}", config.stop_signal)))?;
    }
    for port in config.exposed_ports.keys() {
        super::ports::parse_port_key(port)?;
    }
    config.healthcheck.as_ref().map_or(Ok(()), super::health::validate)
}

fn no_control_characters(what: &str, value: &str) -> Result<()> {
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid(format!("invalid {what}: {value:?} holds a blank or control character")));
    }
    Ok(())
}

fn values(host: &HostConfig) -> Result<()> {
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0".to_owned()));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    for address in host.dns.iter().flatten() {
        address.parse::<IpAddr>().map_err(|_| {
            Error::invalid(format!("invalid IP address: {address}: ip address is not correctly formatted"))
        })?;
    }
    for extra in host.extra_hosts.iter().flatten() {
        ferry_network::files::extra_host(extra).map_err(|error| Error::invalid(error.to_string()))?;
    }
    let empty = Vec::new();
    let options = host.dns_options.as_ref().unwrap_or(&empty);
    ferry_network::files::check("", "", &empty, host.dns_search.as_ref().unwrap_or(&empty), options)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(())
}

fn modes(host: &HostConfig) -> Result<()> {
    let known = |what: &str, mode: &str, words: &[&str]| {
        if mode.is_empty() || words.contains(&mode) {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid {what} mode: {mode}")))
        }
    };
    let shared = |what: &str, mode: &str, words: &[&str]| match mode.split_once(':') {
        Some(("container", "")) if what == "PID" => Err(Error::invalid(format!("invalid {what} mode: {mode}"))),
        Some(("container", "")) => Err(Error::invalid("invalid name or ID supplied: \"\"".to_owned())),
        Some(("container", _)) => Ok(()),
        _ => known(what, mode, words),
    };
    shared("IPC", &host.ipc_mode, &["none", "host", "private", "shareable"])?;
    shared("PID", &host.pid_mode, &["host"])?;
    known("UTS", &host.uts_mode, &["host"])?;
    known("userns", &host.userns_mode, &["host"])?;
    known("cgroup namespace", &host.cgroupns_mode, &["host", "private"])?;
    Ok(())
}

/// Docker's rules for restart policies.
pub(super) fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" => {
            if policy.maximum_retry_count != 0 {
                let mut text =
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned();
                if policy.maximum_retry_count < 0 {
                    text.push_str(" and cannot be negative");
                }
                return Err(Error::invalid(text));
            }
        }
        "on-failure" => {
            if policy.maximum_retry_count < 0 {
                return Err(Error::invalid(
                    "invalid restart policy: maximum retry count cannot be negative".to_owned(),
                ));
            }
        }
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    }
    Ok(())
}

fn runtime(host: &HostConfig, engine: &EngineConfig) -> Result<()> {
    let name = host.runtime.as_str();
    if matches!(name, "" | "runc" | "ferry" | "io.containerd.runc.v2") || engine.live.get().runtimes.contains_key(name)
    {
        return Ok(());
    }
    Err(Error::invalid(format!("unknown or invalid runtime name: {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for good in ["web", "a1", "A_b.c-d"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "../../x", "a b", ".a", "a\n", "-a", "a\u{1b}"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_for_files_hold_no_newline() {
        let config = Config { hostname: "a\nb".into(), ..Config::default() };
        assert!(portable(&config).is_err());
        let host = |extra: &str| HostConfig { extra_hosts: Some(vec![extra.into()]), ..HostConfig::default() };
        assert!(values(&host("a:1.2.3.4\nx")).is_err());
        assert!(values(&host("a\nb:1.2.3.4")).is_err());
        assert!(values(&host("a:1.2.3.4")).is_ok());
        assert!(values(&host("a:host-gateway")).is_ok());
        assert!(values(&host("a:::1")).is_ok());
    }
}
