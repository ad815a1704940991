//! Devices, their limits and GPUs.

use ferry_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};

use super::checks::positive_bytes;
use super::csv;
use super::mounts::clean;

fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm'))
        && text.chars().enumerate().all(|(at, letter)| !text[..at].contains(letter))
}

/// Reads `--device`: `host[:container][:mode]`.
pub(super) fn parse_device(value: &str) -> Result<DeviceMapping, String> {
    let bad = || format!("bad format for path: {value}");
    let parts: Vec<&str> = value.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        ["", ..] => return Err(bad()),
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(bad()),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    let path_in_container = clean(container);
    let path_on_host = if host == container { path_in_container.clone() } else { host.to_owned() };
    Ok(DeviceMapping { path_on_host, path_in_container, cgroup_permissions: mode.to_owned() })
}

/// A device of the container device interface, such as `vendor.com/class=name`.
pub(super) fn is_cdi(value: &str) -> bool {
    let Some((kind, name)) = value.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    !vendor.is_empty() && !class.is_empty() && !name.is_empty() && !value.starts_with('/') && !class.contains('/')
}

fn device_and_value(value: &str) -> Result<(&str, &str), String> {
    match value.split_once(':') {
        Some((device, rest)) if !device.is_empty() => {
            if !device.starts_with("/dev/") {
                return Err(format!("bad format for device path: {value}"));
            }
            Ok((device, rest))
        }
        _ => Err(format!("bad format: {value}")),
    }
}

/// Reads `--device-read-bps` and `--device-write-bps`.
pub(super) fn parse_bps(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(value)?;
    let rate = positive_bytes(rate).ok_or_else(|| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive \
             integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// Reads `--device-read-iops` and `--device-write-iops`.
pub(super) fn parse_iops(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(value)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// Reads `--blkio-weight-device`.
pub(super) fn parse_weight(value: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and_value(value)?;
    let invalid = || format!("invalid weight for device: {value}");
    let weight: u16 = weight.parse().map_err(|_| invalid())?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(invalid());
    }
    Ok(WeightDevice { path: path.to_owned(), weight })
}

/// Checks `--device-cgroup-rule`: `c 42:* rmw`.
pub(super) fn check_cgroup_rule(value: &str) -> Result<(), String> {
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let fits = match value.split(' ').collect::<Vec<_>>().as_slice() {
        ["a" | "b" | "c", numbers, mode] => {
            let numbers_fit = numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor));
            let mode_fits = (1..=3).contains(&mode.len()) && mode.bytes().all(|byte| b"rwm".contains(&byte));
            numbers_fit && mode_fits
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("invalid device cgroup format '{value}'")) }
}

/// Reads `--gpus`.
pub(super) fn parse_gpus(value: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut counted = false;
    for (index, field) in csv::fields(value)?.into_iter().enumerate() {
        let (key, text) = match field.split_once('=') {
            Some((key, text)) => (key, text),
            None if index == 0 => ("count", field.as_str()),
            None => ("", field.as_str()),
        };
        match key {
            "driver" => request.driver = text.to_owned(),
            "count" => {
                counted = true;
                request.count = gpu_count(text)?;
            }
            "device" => request.device_ids = Some(text.split(',').map(str::to_owned).collect()),
            "capabilities" => {
                let mut capabilities: Vec<String> = text.split(',').map(str::to_owned).collect();
                capabilities.push("gpu".to_owned());
                request.capabilities = Some(vec![capabilities]);
            }
            "options" => {
                let pairs = text.split(',').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                request.options = Some(pairs.map(|(name, option)| (name.to_owned(), option.to_owned())).collect());
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let device = parse_device("/dev/a:/dev/b:rw").unwrap();
        assert_eq!((device.path_on_host.as_str(), device.path_in_container.as_str()), ("/dev/a", "/dev/b"));
        assert_eq!(device.cgroup_permissions, "rw");
        assert_eq!(parse_device("/dev/a:r").unwrap().path_in_container, "/dev/a");
        assert_eq!(parse_device("/dev/a:/b:x"), Err("bad mode specified: x".to_owned()));
        assert_eq!(parse_device("a"), Err("a is not an absolute path".to_owned()));
        assert!(is_cdi("vendor.com/class=name"));
        assert!(!is_cdi("/dev/a"));
    }

    #[test]
    fn limits() {
        assert_eq!(parse_bps("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(parse_iops("/dev/sda:5").unwrap().rate, 5);
        assert!(parse_weight("/dev/sda:5").is_err());
        assert_eq!(parse_bps("x"), Err("bad format: x".to_owned()));
        assert!(check_cgroup_rule("c 1:* rwm").is_ok());
        assert!(check_cgroup_rule("c 1 rwm").is_err());
    }
}
