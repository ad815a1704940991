//! `builder`: what builds may keep, and what their steps never get. Names are Docker's, in any case of letters, as Go reads them.

use ferry_api::filters::Filters;
use ferry_build::gc::{Denied, Policy, Settings};
use ferry_build::usage::PruneOptions;
use serde_json::{Map, Value};

use super::ConfigError;
use super::parse::Setting;
use super::resolve::{Reader, ram_in_bytes};

const NAME: &str = "builder";

/// Reads the object, and what of it has no effect.
pub(super) fn settings(read: &Reader<'_>, warnings: &mut Vec<String>) -> Result<Settings, ConfigError> {
    let Some(Setting::Object(object)) = read.0.get(NAME) else { return Ok(Settings::default()) };
    let object = Object::of(object, NAME)?;
    if object.get("history").is_some() {
        warnings.push(
            "option `builder.history` has no effect: ferry remembers builds for as long as the daemon runs".to_owned(),
        );
    }
    let denied = match object.get("entitlements") {
        None => Denied::default(),
        Some(rights) => {
            let rights = Object::of(rights, "builder.entitlements")?;
            let denies = |name: &str| Ok::<bool, ConfigError>(rights.flag(name)? == Some(false));
            Denied {
                host_network: denies("network-host")?,
                insecure: denies("security-insecure")?,
                devices: denies("device")?,
            }
        }
    };
    let policy = match object.get("gc") {
        None => Policy::default(),
        Some(gc) => policy(&Object::of(gc, "builder.gc")?)?,
    };
    Ok(Settings { policy, denied })
}

fn policy(gc: &Object<'_>) -> Result<Policy, ConfigError> {
    if gc.flag("enabled")? == Some(false) {
        return Ok(Policy::Off);
    }
    match gc.get("policy") {
        None => {
            let reserved = gc.text("defaultReservedSpace")?.or(gc.text("defaultKeepStorage")?);
            // Docker's own words shout.
            let [reserved_bytes, max_used_bytes, min_free_bytes] = [
                bytes(reserved, "defaultRESERVEDSPACE")?,
                bytes(gc.text("defaultMaxUsedSpace")?, "defaultMAXUSEDSPACE")?,
                bytes(gc.text("defaultMinFreeSpace")?, "defaultMINFREESPACE")?,
            ];
            Ok(Policy::Bounds { reserved_bytes, max_used_bytes, min_free_bytes })
        }
        Some(Value::Array(rules)) => {
            let rules = rules.iter().map(|rule| self::rule(&Object::of(rule, "builder.gc.policy")?));
            Ok(Policy::Rules(rules.collect::<Result<_, _>>()?))
        }
        Some(other) => Err(wrong("builder.gc.policy", "a list", other)),
    }
}

fn rule(rule: &Object<'_>) -> Result<PruneOptions, ConfigError> {
    let reserved = rule.text("reservedSpace")?.or(rule.text("keepStorage")?);
    let options = PruneOptions {
        all: rule.flag("all")?.unwrap_or_default(),
        filters: rule.get("filter").map(filters).transpose()?.unwrap_or_default(),
        reserved_bytes: bytes(reserved, "reservedSpace")?,
        max_used_bytes: bytes(rule.text("maxUsedSpace")?, "maxUsedSpace")?,
        min_free_bytes: bytes(rule.text("minFreeSpace")?, "minFreeSpace")?,
    };
    options.check().map_err(|failure| ConfigError::InDockersWords(failure.message))?;
    Ok(options)
}

/// A list of `name=value`, or the form that filters have in the API.
fn filters(value: &Value) -> Result<Filters, ConfigError> {
    let Value::Array(list) = value else {
        return Filters::parse(&value.to_string()).map_err(|_| wrong("builder.gc.policy.filter", "a list", value));
    };
    let mut filters = Filters::default();
    for one in list {
        let text = one.as_str().ok_or_else(|| wrong("builder.gc.policy.filter", "texts", one))?;
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        filters.add(name.trim().to_lowercase(), value.trim());
    }
    Ok(filters)
}

fn bytes(text: Option<&str>, name: &str) -> Result<i64, ConfigError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(0) };
    let wrong = || ConfigError::InDockersWords(format!("failed to parse {name}: invalid size: '{text}'"));
    ram_in_bytes(text).ok_or_else(wrong)
}

fn wrong(key: &str, expected: &'static str, value: &Value) -> ConfigError {
    ConfigError::WrongType { key: key.to_owned(), expected, value: value.to_string() }
}

/// An object whose members are found whatever the case of their names is; those that are null are not there.
struct Object<'a> {
    members: &'a Map<String, Value>,
    name: &'static str,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, name: &'static str) -> Result<Self, ConfigError> {
        match value {
            Value::Object(members) => Ok(Self { members, name }),
            other => Err(wrong(name, "an object", other)),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let found = self.members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        let wrong = |value: &Value| wrong(&format!("{}.{name}", self.name), "true or false", value);
        self.get(name).map(|value| value.as_bool().ok_or_else(|| wrong(value))).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        let wrong = |value: &Value| wrong(&format!("{}.{name}", self.name), "a text", value);
        let text = self.get(name).map(|value| value.as_str().ok_or_else(|| wrong(value))).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parse::Settings as Given;
    use super::*;

    fn read(object: Value) -> Result<(Settings, Vec<String>), String> {
        let given = Given::from_iter([(NAME, Setting::Object(object))]);
        let mut warnings = Vec::new();
        let read = settings(&Reader(&given), &mut warnings);
        read.map(|settings| (settings, warnings)).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        let policy = |gc: Value| read(json!({ "GC": gc })).unwrap().0.policy;
        let bounds = |reserved_bytes, max_used_bytes, min_free_bytes| Policy::Bounds {
            reserved_bytes,
            max_used_bytes,
            min_free_bytes,
        };
        assert_eq!(policy(json!({})), Policy::default());
        assert_eq!(policy(json!({"enabled": false, "policy": []})), Policy::Off);
        assert_eq!(policy(json!({"defaultKeepStorage": "20GB"})), bounds(20 << 30, 0, 0));
        let all = json!({"DefaultReservedSpace": "1k", "defaultMaxUsedSpace": "2k", "defaultMinFreeSpace": "3"});
        assert_eq!(policy(all), bounds(1024, 2048, 3));
        let rule = json!({"keepStorage": "10GB", "filter": ["unused-for=2200h", "Type = regular"], "all": true});
        let Policy::Rules(rules) = policy(json!({ "policy": [rule, {"filter": {"id": {"x": true}}}] })) else {
            panic!("no rules");
        };
        assert_eq!((rules[0].reserved_bytes, rules[0].all, rules[1].all), (10 << 30, true, false));
        assert_eq!(rules[0].filters.get("type").collect::<Vec<_>>(), ["regular"]);
        assert_eq!(rules[1].filters.get("id").collect::<Vec<_>>(), ["x"]);
        let (settings, warnings) =
            read(json!({"entitlements": {"device": false, "network-host": true}, "history": {}})).unwrap();
        assert_eq!(settings.denied, Denied { devices: true, ..Denied::default() });
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (gc, text) in [
            (json!({"defaultKeepStorage": "much"}), "failed to parse defaultRESERVEDSPACE: invalid size: 'much'"),
            (json!({"policy": [{"maxUsedSpace": "x"}]}), "failed to parse maxUsedSpace: invalid size: 'x'"),
            (json!({"policy": {}}), "key `builder.gc.policy` wants a list, not `{}`"),
            (json!({"enabled": "yes"}), "key `builder.gc.enabled` wants true or false, not `\"yes\"`"),
            (json!({"policy": [{"filter": ["nosuch=x"]}]}), "invalid filter 'nosuch'"),
        ] {
            assert_eq!(read(json!({ "gc": gc })).unwrap_err(), text);
        }
        assert_eq!(read(json!({"gc": 1})).unwrap_err(), "key `builder.gc` wants an object, not `1`");
    }
}
