//! `default-network-opts`: options by driver, as objects in the file, as `bridge=key=value` on the command line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ConfigError;
use super::parse::Setting;
use super::resolve::{Reader, bad};

const NAME: &str = "default-network-opt";

/// Options of networks, by the name of their driver.
pub(super) fn read(read: &Reader<'_>) -> Result<BTreeMap<String, BTreeMap<String, String>>, ConfigError> {
    let mut all = BTreeMap::<String, BTreeMap<String, String>>::new();
    match read.0.get(NAME) {
        Some(Setting::List(entries)) => {
            for entry in entries {
                let parts = entry.split_once('=').and_then(|(driver, rest)| Some((driver, rest.split_once('=')?)));
                let (driver, (key, value)) = parts.ok_or_else(|| {
                    bad(NAME, entry, "expected DRIVER=KEY=VALUE, such as bridge=com.docker.network.driver.mtu=1400")
                })?;
                all.entry(driver.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
            }
        }
        Some(Setting::Object(Value::Object(drivers))) => {
            for (driver, options) in drivers {
                let wrong = || bad(NAME, driver, "expected options with texts as values");
                for (key, value) in options.as_object().ok_or_else(wrong)? {
                    let value = value.as_str().ok_or_else(wrong)?;
                    all.entry(driver.clone()).or_default().insert(key.clone(), value.to_owned());
                }
            }
        }
        Some(Setting::Object(value)) => return Err(bad(NAME, &value.to_string(), "expected options by driver")),
        _ => {}
    }
    Ok(all)
}
