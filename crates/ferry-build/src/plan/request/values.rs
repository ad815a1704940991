//! Values of single options.

use ferry_api::container::Ulimit;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_spec::platform::Platform;

use super::{NoCache, RequestError, Resources};
use crate::graph::{ExtraHost, ImagePullMode, NetworkMode};

fn invalid(text: String) -> RequestError {
    RequestError::Value(text)
}

/// Reads a boolean in the words that Go takes.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn platforms(value: &str) -> Result<Vec<Platform>, RequestError> {
    let parse = |text: &str| match Platform::parse(text) {
        Ok(platform) => Ok(platform.normalized()),
        Err(error) => Err(RequestError::Platform(text.to_owned(), error)),
    };
    value.split(',').filter(|_| !value.is_empty()).map(parse).collect()
}

pub(super) fn multi_platform(options: &BTreeMap<String, String>, several: bool) -> Result<bool, RequestError> {
    let given = |key: &str| options.get(key).filter(|value| !value.is_empty());
    let Some(value) = given("build-arg:BUILDKIT_MULTI_PLATFORM").or_else(|| given("multi-platform")) else {
        return Ok(several);
    };
    let wanted = boolean(value).ok_or_else(|| invalid(format!("invalid boolean value for multi-platform: {value}")))?;
    if several && !wanted {
        return Err(invalid("conflicting config: returning multiple target platforms is not allowed".to_owned()));
    }
    Ok(wanted)
}

pub(super) fn no_cache(value: Option<&str>) -> NoCache {
    match value {
        None => NoCache::Nothing,
        Some("") => NoCache::Everything,
        Some(names) => NoCache::Stages(names.split(',').map(str::to_owned).collect()),
    }
}

pub(super) fn pull(value: &str) -> Result<ImagePullMode, RequestError> {
    match value {
        "" | "default" | "local" => Ok(ImagePullMode::Prefer),
        "pull" => Ok(ImagePullMode::Always),
        _ => Err(invalid(format!("invalid image-resolve-mode: {value}"))),
    }
}

pub(super) fn network(value: &str) -> Result<NetworkMode, RequestError> {
    match value {
        "" | "sandbox" => Ok(NetworkMode::Sandbox),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ => Err(invalid(format!("invalid netmode {value}"))),
    }
}

pub(super) fn extra_hosts(value: &str) -> Result<Vec<ExtraHost>, RequestError> {
    let wrong = |text: String| invalid(format!("failed to parse additional hosts: {text}"));
    let mut hosts = Vec::new();
    for field in fields(value).map_err(wrong)? {
        let lower = field.to_lowercase();
        let Some((host, ip)) = lower.split_once('=') else {
            return Err(wrong(format!("invalid key-value pair {field}")));
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong(format!("failed to parse IP {ip}")))?;
        hosts.push(ExtraHost { host: host.to_owned(), ip: ip.to_string() });
    }
    Ok(hosts)
}

pub(super) fn shm_size(value: &str) -> Result<u64, RequestError> {
    if value.is_empty() {
        return Ok(0);
    }
    let text = |why: &str| invalid(format!("failed to parse shm size: strconv.ParseInt: parsing {value:?}: {why}"));
    let size = value.parse::<i64>().map_err(|_| text("invalid syntax"))?;
    Ok(u64::try_from(size).unwrap_or(0))
}

pub(super) fn ulimits(value: &str) -> Result<Vec<Ulimit>, RequestError> {
    let wrong = |text: String| invalid(format!("failed to parse ulimit: {text}"));
    let fields = fields(value).map_err(wrong)?;
    fields.iter().map(|field| Ulimit::parse(field).map_err(wrong)).collect()
}

pub(super) fn resources(options: &BTreeMap<String, String>) -> Result<Resources, RequestError> {
    Ok(Resources {
        memory: limit(options, "memory", 1, "must be > 0")?,
        memory_swap: limit(options, "memswap", -1, "must be -1 (unlimited) or > 0")?,
        cpu_shares: limit(options, "cpushares", 1, "must be > 0")?.unsigned_abs(),
        cpu_period: limit(options, "cpuperiod", 1, "must be > 0")?.unsigned_abs(),
        cpu_quota: limit(options, "cpuquota", 1, "must be > 0")?,
        cpuset_cpus: options.get("cpusetcpus").cloned().unwrap_or_default(),
        cpuset_mems: options.get("cpusetmems").cloned().unwrap_or_default(),
    })
}

fn limit(options: &BTreeMap<String, String>, key: &str, least: i64, rule: &str) -> Result<i64, RequestError> {
    let Some(value) = options.get(key).filter(|value| !value.is_empty()) else { return Ok(0) };
    let number = value.parse::<i64>().map_err(|_| {
        invalid(format!("invalid {key} value: {value}: strconv.ParseInt: parsing {value:?}: invalid syntax"))
    })?;
    if number < least || number == 0 {
        return Err(invalid(format!("invalid {key} value: {value}: {rule}")));
    }
    Ok(number)
}

pub(super) type CacheImport = (String, BTreeMap<String, String>);

/// Reads `cache-imports`, a JSON list, and the older `cache-from`, a list of references.
pub(super) fn cache_imports(json: &str, references: &str) -> Result<Vec<CacheImport>, RequestError> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "Type", alias = "type", default)]
        kind: String,
        #[serde(rename = "Attrs", alias = "attrs", default)]
        attributes: Option<BTreeMap<String, String>>,
    }
    let mut imports = Vec::new();
    if !json.is_empty() {
        let entries: Vec<Entry> = serde_json::from_str(json)
            .map_err(|error| invalid(format!("failed to unmarshal cache-imports ({json:?}): {error}")))?;
        imports.extend(entries.into_iter().map(|entry| (entry.kind, entry.attributes.unwrap_or_default())));
    }
    for reference in references.split(',').filter(|reference| !reference.is_empty()) {
        imports.push(("registry".to_owned(), BTreeMap::from([("ref".to_owned(), reference.to_owned())])));
    }
    Ok(imports)
}

/// Splits a list at its commas; a value in double quotes may hold commas.
fn fields(value: &str) -> Result<Vec<String>, String> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    ferry_dockerfile::csv::fields(value).map_err(|error| error.to_string())
}
