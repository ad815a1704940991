//! `default-address-pools`: as objects in the file, as `base=10.0.0.0/8,size=24` on the command line.

use ipnet::IpNet;
use serde_json::Value;

use super::ConfigError;
use super::parse::Setting;
use super::resolve::{Reader, bad};

const NAME: &str = "default-address-pool";

/// Pools with the prefix length of the networks cut from them; none are Docker's own.
pub(super) fn read(read: &Reader<'_>) -> Result<Vec<(IpNet, u8)>, ConfigError> {
    match read.0.get(NAME) {
        Some(Setting::List(entries)) => entries.iter().map(|entry| of_words(entry)).collect(),
        Some(Setting::Object(Value::Array(items))) => items.iter().map(of_object).collect(),
        Some(Setting::Object(value)) => Err(bad(NAME, &value.to_string(), "expected a list of pools")),
        _ => Ok(Vec::new()),
    }
}

fn of_words(entry: &str) -> Result<(IpNet, u8), ConfigError> {
    let (mut base, mut size) = (None, None);
    for word in entry.split(',') {
        match word.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("base") => base = Some(value),
            Some((key, value)) if key.eq_ignore_ascii_case("size") => {
                size = Some(value.parse::<i64>().map_err(|error| bad(NAME, entry, error))?);
            }
            Some((key, _)) => return Err(bad(NAME, entry, format!("unexpected key '{key}' in '{word}'"))),
            None => return Err(bad(NAME, entry, format!("invalid field '{word}' must be a key=value pair"))),
        }
    }
    pool(entry, base, size)
}

fn of_object(item: &Value) -> Result<(IpNet, u8), ConfigError> {
    let field = |name: &str| {
        let object = item.as_object()?;
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    pool(&item.to_string(), field("base").and_then(Value::as_str), field("size").and_then(Value::as_i64))
}

fn pool(entry: &str, base: Option<&str>, size: Option<i64>) -> Result<(IpNet, u8), ConfigError> {
    let base = base.ok_or_else(|| bad(NAME, entry, "it has no base"))?;
    let net: IpNet = base.parse().map_err(|_| bad(NAME, entry, format!("invalid base pool {base:?}")))?;
    let size = u8::try_from(size.unwrap_or(0)).unwrap_or(0);
    if size < net.prefix_len() || size > net.max_prefix_len() {
        let reason = format!("invalid size: it must be between {} and {}", net.prefix_len(), net.max_prefix_len());
        return Err(bad(NAME, entry, reason));
    }
    Ok((net.trunc(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_words_or_objects() {
        let pool = ("10.0.0.0/8".parse().unwrap(), 24);
        assert_eq!(of_words("base=10.0.0.0/8,size=24").unwrap(), pool);
        assert_eq!(of_object(&serde_json::json!({"base": "10.0.0.0/8", "size": 24})).unwrap(), pool);
        assert_eq!(of_words("base=fd00::/48,size=64").unwrap().1, 64);
        for wrong in [
            "10.0.0.0/8",
            "base=10.0.0.0/8",
            "base=x,size=24",
            "base=10.0.0.0/8,size=4",
            "base=10.0.0.0/8,size=33",
            "a=b",
        ] {
            assert!(of_words(wrong).is_err(), "{wrong}");
        }
    }
}
