//! Checks of single flag values, made while the line is read; texts are Docker's.

use std::net::IpAddr;

use ferry_api::container::Ulimit;

use crate::flags::{check_env, parse_bytes};
use crate::grammar::{Flag, Kind};

use super::{devices, mounts, networks};

/// Checks one value by the flag's name; names mean the same in every command.
pub(crate) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match (flag.name, flag.kind) {
        ("gpus", Kind::Text) => devices::parse_gpus(value).map(drop),
        // Only swap can be had without end.
        (name, Kind::Bytes) if name != "memory-swap" && value == "-1" => Err(format!("invalid size: '{value}'")),
        ("docker", Kind::Map) => check_pairs(value),
        (name, Kind::List | Kind::Map) => check_list(name, value),
        _ => Ok(()),
    }
}

/// A value of Go's `stringToString` flags.
fn check_pairs(value: &str) -> Result<(), String> {
    match super::pairs(value)?.into_iter().find(|pair| !pair.contains('=')) {
        Some(pair) => Err(format!("{pair} must be formatted as key=value")),
        None => Ok(()),
    }
}

fn check_list(name: &str, value: &str) -> Result<(), String> {
    match name {
        "env" | "env-add" => check_env(value),
        "label" | "label-add" => check_label(value),
        "attach" => check_attach(value),
        "add-host" => extra_host(value).map(drop),
        "dns" => ip_address(value).map(drop),
        "dns-search" => check_domain(value),
        "filter" => check_filter(value),
        "link" => check_link(value),
        "sysctl" => check_sysctl(value),
        "ulimit" => Ulimit::parse(value).map(drop),
        "mount" => mounts::parse(value).map(drop),
        "network" | "net" => networks::parse(value).map(drop),
        "device-read-bps" | "device-write-bps" => devices::parse_bps(value).map(drop),
        "device-read-iops" | "device-write-iops" => devices::parse_iops(value).map(drop),
        "blkio-weight-device" => devices::parse_weight(value).map(drop),
        "device-cgroup-rule" => devices::check_cgroup_rule(value),
        _ => Ok(()),
    }
}

fn check_label(value: &str) -> Result<(), String> {
    match value.split('=').next() {
        Some("") | None => Err(format!("invalid label '{value}': empty name")),
        Some(_) => Ok(()),
    }
}

fn check_attach(value: &str) -> Result<(), String> {
    match value.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// Reads `host:ip` or `host=ip` into the form that the daemon takes.
pub(super) fn extra_host(value: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", crate::flags::go_quote(value));
    let (host, address) = value.split_once('=').or_else(|| value.split_once(':')).ok_or_else(bad)?;
    if host.is_empty() || host.contains(':') {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    ip_address(address).map_err(|_| format!("invalid IP address in add-host: {}", crate::flags::go_quote(address)))?;
    Ok(format!("{host}:{address}"))
}

/// Reads an address and writes it in its usual form.
pub(super) fn ip_address(value: &str) -> Result<String, String> {
    let text = value.trim();
    text.parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

fn check_domain(value: &str) -> Result<(), String> {
    let domain = value.trim_matches(' ');
    if domain == "." {
        return Ok(());
    }
    let label_fits = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    let plain = domain.strip_suffix('.').unwrap_or(domain);
    let has_letter = plain.chars().any(|letter| letter.is_ascii_alphabetic());
    if has_letter && plain.len() < 255 && plain.split('.').all(label_fits) {
        return Ok(());
    }
    Err(format!("{domain} is not a valid domain"))
}

fn check_filter(value: &str) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

fn check_link(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if value.split(':').count() > 2 {
        return Err(format!("bad format for links: {value}"));
    }
    Ok(())
}

fn check_sysctl(value: &str) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let denied = || format!("sysctl '{value}' is not allowed");
    let (name, _) = value.split_once('=').ok_or_else(denied)?;
    let allowed = NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if allowed { Ok(()) } else { Err(denied()) }
}

/// Reads a size that may not be negative.
pub(super) fn positive_bytes(text: &str) -> Option<u64> {
    parse_bytes(text).ok().and_then(|bytes| u64::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".to_owned()));
        assert_eq!(extra_host("a=[::1]"), Ok("a:::1".to_owned()));
        assert_eq!(extra_host("a:host-gateway"), Ok("a:host-gateway".to_owned()));
        assert_eq!(extra_host("x"), Err("bad format for add-host: \"x\"".to_owned()));
        assert_eq!(extra_host("a:1.2.3"), Err("invalid IP address in add-host: \"1.2.3\"".to_owned()));
    }

    #[test]
    fn domains_and_sysctls() {
        assert!(check_domain("example.com").is_ok());
        assert!(check_domain("-bad").is_err());
        assert!(check_sysctl("net.ipv4.ip_forward=1").is_ok());
        assert!(check_sysctl("kernel.domainname=x").is_err());
    }
}
