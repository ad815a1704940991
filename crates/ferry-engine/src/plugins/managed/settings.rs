//! `plugin set`: what of a plugin's configuration may be set, and setting it.

use ferry_spec::plugin::{PluginConfig, PluginSettings};

use super::Managed;
use crate::error::{Error, Result};

impl Managed {
    /// Changes settings of a plugin that does not run.
    ///
    /// API: `POST /plugins/{name}/set`
    ///
    /// # Errors
    /// NotFound; Internal with Docker's texts.
    pub async fn set(&self, name: &str, args: &[String]) -> Result<()> {
        let entry = self.find(name)?;
        let _verb = entry.verb.lock().await;
        self.update(&entry, |record| {
            if record.enabled {
                return Err(Error::internal("cannot set on an active plugin, disable plugin before setting"));
            }
            apply(&mut record.config, &mut record.settings, args)
        })
    }
}

/// `name[.field][=value]`
struct Wish<'a> {
    name: &'a str,
    field: &'a str,
    value: &'a str,
}

impl<'a> Wish<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (left, value) = text.split_once('=').unwrap_or((text, ""));
        if left.is_empty() {
            return Err(Error::internal("invalid format, must be <name>[.<field>][=<value>]"));
        }
        match left.rfind('.').filter(|dot| *dot > 0) {
            Some(dot) => Ok(Self { name: &left[..dot], field: &left[dot + 1..], value }),
            None => Ok(Self { name: left, field: "", value }),
        }
    }

    /// Whether the field may be set; without one the only settable one is meant.
    fn check(&self, own: &str, settable: Option<&[String]>) -> Result<()> {
        let settable = settable.unwrap_or_default();
        let field = match (self.field, settable) {
            ("", [only]) => only,
            ("", [_, _, ..]) => {
                return Err(Error::internal("multiple fields are settable, one must be specified"));
            }
            (field, _) => field,
        };
        if field == own && settable.iter().any(|one| one == field) {
            return Ok(());
        }
        let shown = if field.is_empty() { self.name.to_owned() } else { format!("{}.{field}", self.name) };
        Err(Error::internal(format!("{shown:?} is not settable")))
    }
}

/// Sets one after the other; on failure nothing may be kept.
fn apply(config: &mut PluginConfig, settings: &mut PluginSettings, args: &[String]) -> Result<()> {
    for text in args {
        let wish = Wish::parse(text)?;
        apply_one(config, settings, &wish)?;
    }
    Ok(())
}

fn apply_one(config: &mut PluginConfig, settings: &mut PluginSettings, wish: &Wish<'_>) -> Result<()> {
    let (name, value) = (wish.name, wish.value.to_owned());
    if let Some(env) = config.env.iter().flatten().find(|env| env.name == name) {
        wish.check("value", env.settable.as_deref())?;
        let variable = format!("{name}={value}");
        match settings.env.iter_mut().find(|one| one.split('=').next() == Some(name)) {
            Some(one) => *one = variable,
            None => settings.env.push(variable),
        }
        return Ok(());
    }
    // Of mounts and devices Docker changes the configuration itself, too.
    if let Some(mount) = config.mounts.iter_mut().flatten().find(|mount| mount.name == name) {
        wish.check("source", mount.settable.as_deref())?;
        let source = mount.source.as_mut().ok_or_else(|| Error::internal("plugin config has no mount source"))?;
        source.clone_from(&value);
        if let Some(mount) = settings.mounts.iter_mut().find(|mount| mount.name == name) {
            mount.source = Some(value);
        }
        return Ok(());
    }
    if let Some(device) = config.linux.devices.iter_mut().flatten().find(|device| device.name == name) {
        wish.check("path", device.settable.as_deref())?;
        let path = device.path.as_mut().ok_or_else(|| Error::internal("plugin config has no device path"))?;
        path.clone_from(&value);
        if let Some(device) = settings.devices.iter_mut().find(|device| device.name == name) {
            device.path = Some(value);
        }
        return Ok(());
    }
    if config.args.name == name {
        wish.check("value", config.args.settable.as_deref())?;
        settings.args = value.split(' ').map(str::to_owned).collect();
        return Ok(());
    }
    Err(Error::internal(format!("setting {name:?} not found in the plugin configuration")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_set_is_set_and_the_rest_named() {
        let text = r#"{"Env":[{"Name":"DEBUG","Settable":["value"],"Value":"0"},{"Name":"FIXED","Settable":null}],
            "Mounts":[{"Name":"state","Settable":["source"],"Source":"/a"},{"Name":"none","Settable":["source"]}],
            "Args":{"Name":"args","Settable":["value"]},
            "Linux":{"Devices":[{"Name":"dev","Settable":["path","x"],"Path":"/dev/a"}]}}"#;
        let mut config: PluginConfig = serde_json::from_str(text).unwrap();
        let mut settings = PluginSettings::of(&config);
        let mut set = |text: &str| apply(&mut config, &mut settings, &[text.to_owned()]);
        for text in ["DEBUG=1", "state.source=/b", "args=a b", "dev.path=/dev/b"] {
            set(text).unwrap();
        }
        for (text, why) in [
            ("FIXED=1", "\"FIXED\" is not settable"),
            ("DEBUG.x=1", "\"DEBUG.x\" is not settable"),
            ("dev=/c", "multiple fields are settable, one must be specified"),
            ("none=/c", "plugin config has no mount source"),
            ("nope=1", "setting \"nope\" not found in the plugin configuration"),
            ("=1", "invalid format, must be <name>[.<field>][=<value>]"),
        ] {
            assert_eq!(set(text).unwrap_err().text(), why);
        }
        assert_eq!(settings.env, ["DEBUG=1"]);
        assert_eq!(settings.args, ["a", "b"]);
        assert_eq!(settings.mounts[0].source.as_deref(), Some("/b"));
        assert_eq!(settings.devices[0].path.as_deref(), Some("/dev/b"));
    }
}
