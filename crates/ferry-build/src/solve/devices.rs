//! Devices of the host that steps may have: all of them, those that are named, or none.

use std::collections::{BTreeMap, BTreeSet};

use ferry_engine::ErrorKind;

use crate::failure::{Failure, Result};
use crate::graph::Device;

/// Which devices steps may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRights {
    all: bool,
    /// By the names that steps ask for; what each stands for, where that is another.
    named: BTreeMap<String, Option<String>>,
}

impl DeviceRights {
    /// Reads rights as clients grant them: `device`, or `device=NAME[,alias=NAME]`; what is no right to a device is passed over.
    ///
    /// # Errors
    /// InvalidArgument, in BuildKit's words.
    pub fn read<'a>(rights: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut read = Self::default();
        for right in rights {
            match right.split_once('=').unwrap_or((right, "")) {
                ("device", "") => read.all = true,
                ("device", device) => read.add(device)?,
                _ => {}
            }
        }
        Ok(read)
    }

    fn add(&mut self, device: &str) -> Result<()> {
        let fields = ferry_dockerfile::csv::fields(device).map_err(|error| Failure::invalid(error.to_string()))?;
        let (name, rest) = fields.split_first().ok_or_else(|| Failure::invalid("a device without a name"))?;
        let mut alias = None;
        for field in rest {
            match field.split_once('=') {
                Some(("alias", value)) => alias = Some(value.to_owned()),
                Some((key, _)) => return Err(Failure::invalid(format!("unknown device config key {key:?}"))),
                None => return Err(Failure::invalid(format!("invalid device config {field:?}"))),
            }
        }
        match alias.filter(|alias| !alias.is_empty()) {
            Some(alias) => self.named.insert(alias, Some(name.clone())),
            None => self.named.insert(name.clone(), None),
        };
        Ok(())
    }

    /// The devices, of those that are `known`, that a step gets which asks for some.
    pub(super) fn choose(&self, asked: &[Device], known: &[String]) -> Result<Vec<String>> {
        let (mut chosen, mut open) = (Vec::new(), Vec::new());
        for device in asked {
            match self.named.get(&device.name) {
                Some(Some(meant)) if !self.all => chosen.extend(found(meant, device.optional, known)?),
                _ => open.extend(found(&device.name, device.optional, known)?),
            }
        }
        if !self.all && !open.is_empty() {
            let own = self.named.iter().filter(|(_, meant)| meant.is_none());
            let granted: BTreeSet<String> = own.flat_map(|(name, _)| matching(name, known)).collect();
            let mut forbidden: Vec<&str> = Vec::new();
            for name in open.iter().filter(|name| !granted.contains(*name)) {
                if !forbidden.contains(&name.as_str()) {
                    forbidden.push(name);
                }
            }
            let (noun, verb) = if forbidden.len() == 1 { ("device", "is") } else { ("devices", "are") };
            if !forbidden.is_empty() {
                let names = forbidden.join(", ");
                let text = format!("{noun} {names} {verb} requested by the build but not allowed");
                return Err(Failure::new(ErrorKind::Forbidden, text));
            }
        }
        chosen.extend(open);
        let mut seen = BTreeSet::new();
        chosen.retain(|name| seen.insert(name.clone()));
        Ok(chosen)
    }
}

fn found(name: &str, optional: bool, known: &[String]) -> Result<Vec<String>> {
    let found = matching(name, known);
    match (found.is_empty(), optional) {
        (true, true) => tracing::warn!(device = name, "optional device is not registered"),
        (true, false) => return Err(Failure::invalid(format!("required device {name:?} is not registered"))),
        (false, _) => {}
    }
    Ok(found)
}

/// `vendor/class=name` is one device, `vendor/class=*` all of a kind, and a kind alone the first of it.
fn matching(name: &str, known: &[String]) -> Vec<String> {
    let (kind, own) = name.split_once('=').unwrap_or((name, ""));
    if !kind.contains('/') {
        return Vec::new();
    }
    let mut of_kind = known.iter().filter(|one| one.split_once('=').is_some_and(|(other, _)| other == kind));
    match own {
        "" => of_kind.next().cloned().into_iter().collect(),
        "*" => of_kind.cloned().collect(),
        _ => of_kind.find(|one| *one == name).cloned().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rights: &[&str], asked: &[&str]) -> std::result::Result<Vec<String>, String> {
        let known = ["v.com/a=0", "v.com/a=1", "v.com/b=0"].map(str::to_owned);
        let asked: Vec<Device> = asked
            .iter()
            .map(|word| Device { name: word.trim_end_matches('?').to_owned(), optional: word.ends_with('?') })
            .collect();
        let rights = DeviceRights::read(rights.iter().copied()).map_err(|failure| failure.message)?;
        rights.choose(&asked, &known).map_err(|failure| failure.message)
    }

    #[test]
    fn devices_are_given_to_whoever_may_have_them() {
        let good = |rights: &[&str], asked: &[&str]| chosen(rights, asked).unwrap();
        assert_eq!(good(&["device"], &["v.com/a=*", "v.com/b"]), ["v.com/a=0", "v.com/a=1", "v.com/b=0"]);
        assert_eq!(good(&["network.host", "device=v.com/a=1"], &["v.com/a=1", "none/x=0?"]), ["v.com/a=1"]);
        assert_eq!(good(&["device=v.com/a"], &["v.com/a"]), ["v.com/a=0"]);
        assert_eq!(good(&["device=v.com/a=1,alias=gpu"], &["gpu"]), ["v.com/a=1"]);
        assert_eq!(good(&[], &["none/x=0?"]), [""; 0]);
    }

    #[test]
    fn devices_are_refused_in_the_words_of_buildkit() {
        for (rights, asked, why) in [
            (&[][..], &["v.com/a=1"][..], "device v.com/a=1 is requested by the build but not allowed"),
            (
                &["device=v.com/b"],
                &["v.com/a=*", "v.com/b=0"],
                "devices v.com/a=0, v.com/a=1 are requested by the build but not allowed",
            ),
            (&["device"], &["none/x=0"], "required device \"none/x=0\" is not registered"),
            (&["device=v.com/a,x"], &[], "invalid device config \"x\""),
            (&["device=v.com/a,x=y"], &[], "unknown device config key \"x\""),
        ] {
            assert_eq!(chosen(rights, asked).unwrap_err(), why);
        }
    }
}
