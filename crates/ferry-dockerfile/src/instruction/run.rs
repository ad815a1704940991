//! RUN and its mounts.

use super::flags::FlagError;
use super::{CommandLine, Expander};
use crate::csv::{self, CsvError};
use crate::expand::ExpandError;
use crate::suggest::with_suggestion;

/// RUN
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// `--mount`, each one.
    pub mounts: Vec<RunMount>,
    /// `--network`
    pub network: RunNetwork,
    /// `--security`
    pub security: Security,
    /// `--device`, each one.
    pub devices: Vec<Device>,
    /// The names of the flags given.
    pub flags_used: Vec<String>,
}

/// What `RUN --network` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// The build's network.
    #[default]
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// What `RUN --security` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Confined.
    #[default]
    Sandbox,
    /// With all rights.
    Insecure,
}

/// A device of `RUN --device`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Its CDI name.
    pub name: String,
    /// It must be there.
    pub required: bool,
}

/// A `--mount` as written: all but its source stage may hold variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// The value of the flag.
    pub text: String,
    /// Its `from`; empty without.
    pub from: String,
}

/// A mount, its variables resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// Stage, image or named context that it comes from; empty is the build context, or nothing for a cache.
    pub from: String,
    /// Path there; for a secret its id.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// Size of a tmpfs in bytes; 0 without.
    pub size_bytes: i64,
    /// Id of a cache, a secret or an agent; empty without.
    pub id: String,
    /// Who may use a cache; `None` without.
    pub sharing: Option<CacheSharing>,
    /// A secret or agent must be there.
    pub required: bool,
    /// The variable that a secret goes into.
    pub env: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// The types of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// `bind`
    #[default]
    Bind,
    /// `cache`
    Cache,
    /// `tmpfs`
    Tmpfs,
    /// `secret`
    Secret,
    /// `ssh`
    Ssh,
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everybody.
    Shared,
    /// Everybody, each their own.
    Private,
    /// One after the other.
    Locked,
}

/// Why the value of a RUN flag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The list is malformed.
    #[error("failed to parse csv {0}s: {1}")]
    Csv(&'static str, CsvError),
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableInFrom,
    /// An option that is unknown, or has a value that it does not take.
    #[error("{0}")]
    Option(String),
    /// A variable cannot be resolved.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// Not one of the networks.
    #[error("invalid network mode {0:?}")]
    Network(String),
    /// Not one of the confinements.
    #[error("security {0:?} is not valid")]
    Security(String),
    /// A wrong flag.
    #[error(transparent)]
    Flag(#[from] FlagError),
}

const KINDS: &[(&str, MountKind)] = &[
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: &[(&str, CacheSharing)] =
    &[("shared", CacheSharing::Shared), ("private", CacheSharing::Private), ("locked", CacheSharing::Locked)];

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountKind {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl RunMount {
    /// Reads what must be known before any variable has a value: the stage it comes from.
    pub(super) fn parse(text: &str) -> Result<Self, MountError> {
        let mut mount = Self { text: text.to_owned(), from: String::new() };
        for field in csv::fields(text).map_err(|error| MountError::Csv("mount", error))? {
            let Some((key, value)) = field.split_once('=') else { continue };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            // A dollar at the very end is no variable.
            if value.find('$').is_some_and(|place| place + 1 != value.len()) {
                return Err(MountError::VariableInFrom);
            }
            value.clone_into(&mut mount.from);
        }
        Ok(mount)
    }

    /// Reads the mount, resolving variables.
    ///
    /// # Errors
    /// [`MountError`] for unknown options, wrong values, and options that do not go together.
    pub fn resolve(&self, expand: &mut Expander<'_>) -> Result<Mount, MountError> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in csv::fields(&self.text).map_err(|error| MountError::Csv("mount", error))? {
            match field.split_once('=') {
                Some((key, value)) => {
                    let value = expand(value)?;
                    mount.set(&key.to_lowercase(), &value, &field, &mut read_only)?;
                }
                None => mount.set_alone(&field, &mut read_only)?,
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.check()?;
        Ok(mount)
    }
}

impl Mount {
    /// Takes an option without a value.
    fn set_alone(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), MountError> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only_for("required", &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => return Err(MountError::Option(format!("invalid field '{field}' must be a key=value pair"))),
        }
        Ok(())
    }

    /// Takes an option with a value.
    fn set(&mut self, key: &str, value: &str, field: &str, read_only: &mut Option<bool>) -> Result<(), MountError> {
        match key {
            "type" => self.kind = choose(KINDS, value, "mount type")?,
            "from" => value.clone_into(&mut self.from),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => *read_only = Some(boolean(key, value)?),
            "readwrite" | "rw" => *read_only = Some(!boolean(key, value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = boolean(key, value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.size_bytes =
                    size(value).ok_or_else(|| MountError::Option(format!("invalid value for {key}: {value}")))?;
            }
            "id" => value.clone_into(&mut self.id),
            "sharing" => self.sharing = Some(choose(SHARINGS, value, "sharing value")?),
            "mode" => self.mode = Some(number(key, value, 8)?),
            "uid" => self.uid = Some(number(key, value, 10)?),
            "gid" => self.gid = Some(number(key, value, 10)?),
            "env" => self.env = Some(value.to_owned()),
            _ => {
                let message = format!("unexpected key '{key}' in '{field}'");
                return Err(MountError::Option(with_suggestion(message, key, KEYS.iter().copied(), true)));
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::Option(format!("unexpected key '{key}' for mount type '{}'", self.kind.name())))
    }

    /// Refuses options that do not go together.
    fn check(&self) -> Result<(), MountError> {
        let refuse = |text: String| Err(MountError::Option(text));
        let name = self.kind.name();
        if !matches!(self.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return refuse(format!("{key} not allowed for {name:?} type mounts"));
            }
        }
        if self.kind == MountKind::Secret {
            if !self.from.is_empty() {
                return refuse("secret mount should not have a from".to_owned());
            }
            if self.sharing.is_some() {
                return refuse("secret mount should not define sharing".to_owned());
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return refuse("invalid secret mount. one of source, target required".to_owned());
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return refuse("both source and id can't be set".to_owned());
            }
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return refuse(format!("invalid cache sharing set for {name} mount"));
        }
        Ok(())
    }
}

impl Device {
    /// Reads the value of `--device`.
    pub(super) fn parse(text: &str) -> Result<Self, MountError> {
        let mut device = Self::default();
        for field in csv::fields(text).map_err(|error| MountError::Csv("device", error))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => device.required = boolean(&key, value)?,
                ("name", Some(value)) if device.name.is_empty() => value.clone_into(&mut device.name),
                ("name", Some(_)) => {
                    return Err(MountError::Option(format!("device name already set to {}", device.name)));
                }
                _ if device.name.is_empty() => device.name.clone_from(&field),
                (_, None) => {
                    return Err(MountError::Option(format!("invalid field '{field}' must be a key=value pair")));
                }
                (key, Some(_)) => {
                    let message = format!("unexpected key '{key}' in '{field}'");
                    return Err(MountError::Option(with_suggestion(message, key, ["name", "required"], true)));
                }
            }
        }
        Ok(device)
    }
}

impl RunNetwork {
    pub(super) fn parse(text: &str) -> Result<Self, MountError> {
        match text {
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            _ => Err(MountError::Network(text.to_owned())),
        }
    }
}

impl Security {
    pub(super) fn parse(text: &str) -> Result<Self, MountError> {
        match text {
            "sandbox" => Ok(Self::Sandbox),
            "insecure" => Ok(Self::Insecure),
            _ => Err(MountError::Security(text.to_owned())),
        }
    }
}

fn choose<T: Copy>(table: &[(&str, T)], value: &str, what: &str) -> Result<T, MountError> {
    let wanted = value.to_lowercase();
    match table.iter().find(|(name, _)| *name == wanted) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let message = format!("unsupported {what} {value:?}");
            let names = table.iter().map(|(name, _)| *name);
            Err(MountError::Option(with_suggestion(message, value, names, true)))
        }
    }
}

/// Reads a boolean in the words that Go takes.
fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::Option(format!("invalid value for {key}: {value}"))),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    let invalid = || MountError::Option(format!("invalid value {value} for {key}"));
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    u32::from_str_radix(value, radix).map_err(|_| invalid())
}

/// Reads a size such as `64m`, in powers of 1024.
fn size(text: &str) -> Option<i64> {
    let digits_end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(digits_end);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    if number < 0.0 {
        return None;
    }
    let unit = unit.to_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "sizes beyond the range end at its bounds")]
    Some((number * 1024_f64.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Mount, String> {
        let mount = RunMount::parse(text).map_err(|error| error.to_string())?;
        mount.resolve(&mut |word| Ok(word.replace("$X", "x"))).map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_of_every_type() {
        let cases: &[(&str, Mount)] = &[
            ("target=/a", Mount { target: "/a".into(), read_only: true, ..Mount::default() }),
            (
                "type=bind,src=/s,dst=/d,from=base,rw",
                Mount { source: "/s".into(), target: "/d".into(), from: "base".into(), ..Mount::default() },
            ),
            (
                "type=cache,target=/c,id=$X,sharing=Locked,mode=0700,uid=1,gid=2,ro=true",
                Mount {
                    kind: MountKind::Cache,
                    target: "/c".into(),
                    id: "x".into(),
                    sharing: Some(CacheSharing::Locked),
                    mode: Some(0o700),
                    uid: Some(1),
                    gid: Some(2),
                    read_only: true,
                    ..Mount::default()
                },
            ),
            (
                "type=tmpfs,destination=/t,size=64m",
                Mount { kind: MountKind::Tmpfs, target: "/t".into(), size_bytes: 64 << 20, ..Mount::default() },
            ),
            (
                "type=secret,id=s,env=TOKEN,required",
                Mount {
                    kind: MountKind::Secret,
                    id: "s".into(),
                    env: Some("TOKEN".into()),
                    required: true,
                    read_only: true,
                    ..Mount::default()
                },
            ),
            (
                "type=ssh,required=false,readwrite=0",
                Mount { kind: MountKind::Ssh, read_only: true, ..Mount::default() },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text).as_ref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, error) in [
            ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("from=$X", "'from' doesn't support variable expansion, define alias stage instead"),
            ("type=cache,sharing=all", "unsupported sharing value \"all\""),
            ("tagret=/a", "unexpected key 'tagret' in 'tagret=/a' (did you mean target?)"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("type=cache,uid=-1", "invalid value -1 for uid"),
            ("type=bind,mode=0700", "mode not allowed for \"bind\" type mounts"),
            ("type=tmpfs,gid=1", "gid not allowed for \"tmpfs\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,src=a,id=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=bind,sharing=shared", "invalid cache sharing set for bind mount"),
            ("type=bind,ro=maybe", "invalid value for ro: maybe"),
        ] {
            assert_eq!(resolve(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn devices() {
        let device = |name: &str, required| Ok(Device { name: name.into(), required });
        assert_eq!(Device::parse("vendor1.com/device=foo"), device("vendor1.com/device=foo", false));
        assert_eq!(Device::parse("vendor1.com/device,required"), device("vendor1.com/device", true));
        assert_eq!(Device::parse("name=a/b=c,required=false"), device("a/b=c", false));
        let text = |value| Device::parse(value).unwrap_err().to_string();
        assert_eq!(text("a/b=c,name=d"), "device name already set to a/b=c");
        assert_eq!(text("a/b,requird=1"), "unexpected key 'requird' in 'requird=1' (did you mean required?)");
        assert_eq!(text("a/b,x"), "invalid field 'x' must be a key=value pair");
    }
}
