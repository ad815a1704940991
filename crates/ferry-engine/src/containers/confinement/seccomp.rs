//! System call profiles in Docker's format: rules that depend on capabilities, machine and kernel, turned into those of the runtime. Pure.
//!
//! Docker's documentation: `seccomp.md`; the format is that of `default.json` of the Moby project.

use ferry_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall, defaults};
use serde::Deserialize;
use serde::de::value::StrDeserializer;

use crate::config::SeccompDefault;
use crate::error::{Error, Result};

/// Version and patch level of the host's kernel, as rules count them: 6.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel(pub(crate) u32, pub(crate) u32);

impl Kernel {
    /// Reads the front of a release such as `6.1.0-18-amd64`.
    pub(crate) fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// What decides the filter of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The container's own word, see [`super::SecurityOptions::seccomp`].
    pub(crate) option: &'a str,
    /// What the engine gives those that say nothing.
    pub(crate) engine: &'a SeccompDefault,
    pub(crate) privileged: bool,
    pub(crate) capabilities: &'a [String],
    pub(crate) kernel: Kernel,
}

/// The filter of a container; none where it is unconfined.
///
/// # Errors
/// Internal, as in Docker, for a profile that cannot be read.
pub(crate) fn profile(wanted: Wanted<'_>) -> Result<Option<LinuxSeccomp>> {
    let builtin = || Ok(Some(defaults::seccomp_profile(wanted.capabilities)));
    match (wanted.option, wanted.engine) {
        ("unconfined", _) => Ok(None),
        ("", _) if wanted.privileged => Ok(None),
        ("builtin", _) => builtin(),
        ("", SeccompDefault::Builtin) => builtin(),
        ("", SeccompDefault::Unconfined) => Ok(None),
        ("", SeccompDefault::Custom { text, .. }) => load(text, wanted),
        (text, _) => load(text, wanted),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Machine>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Machine {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// The machine as rules name it, and as filters do.
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, &str) = ("amd64", "SCMP_ARCH_X86_64");
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, &str) = ("arm64", "SCMP_ARCH_AARCH64");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: (&str, &str) = ("", "");

fn load(text: &str, wanted: Wanted<'_>) -> Result<Option<LinuxSeccomp>> {
    let document: Document = serde_json::from_str(text).map_err(broken)?;
    if document.architectures.as_ref().is_some_and(|list| !list.is_empty())
        && document.arch_map.as_ref().is_some_and(|list| !list.is_empty())
    {
        return Err(Error::internal(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    // A profile that says nothing of what it does not name is no profile.
    let Some(action) = document.default_action.as_deref().filter(|action| !action.is_empty()) else { return Ok(None) };
    let default_action =
        LinuxSeccompAction::deserialize(StrDeserializer::<serde_json::Error>::new(action)).map_err(broken)?;
    let mut syscalls = Vec::new();
    for rule in document.syscalls.unwrap_or_default() {
        syscalls.extend(rule.taken(wanted)?);
    }
    Ok(Some(LinuxSeccomp {
        default_action,
        default_errno_ret: document.default_errno_ret,
        architectures: architectures(document.architectures, document.arch_map),
        flags: document.flags.unwrap_or_default(),
        listener_path: document.listener_path.filter(|path| !path.is_empty()),
        listener_metadata: document.listener_metadata.filter(|text| !text.is_empty()),
        syscalls,
    }))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("Decoding seccomp profile failed: {error}"))
}

fn architectures(listed: Option<Vec<String>>, map: Option<Vec<Machine>>) -> Vec<String> {
    let native = map.unwrap_or_default().into_iter().find(|machine| machine.architecture == NATIVE.1);
    match native {
        Some(machine) => {
            let mut all = vec![machine.architecture];
            all.extend(machine.sub_architectures.unwrap_or_default());
            all
        }
        None => listed.unwrap_or_default(),
    }
}

impl Rule {
    /// The rule for the runtime, where its conditions hold.
    fn taken(self, wanted: Wanted<'_>) -> Result<Option<LinuxSyscall>> {
        let mut names = self.names.unwrap_or_default();
        if !self.name.is_empty() {
            if !names.is_empty() {
                return Err(Error::internal(
                    "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            names.push(self.name);
        }
        let excluded = self.excludes.map_or(Ok(false), |condition| condition.any(wanted))?;
        let included = self.includes.map_or(Ok(true), |condition| condition.all(wanted))?;
        if excluded || !included {
            return Ok(None);
        }
        Ok(Some(LinuxSyscall {
            names,
            action: self.action,
            errno_ret: self.errno_ret,
            args: self.args.unwrap_or_default(),
        }))
    }
}

impl Condition {
    fn kernel_is_enough(&self, wanted: Wanted<'_>) -> Result<Option<bool>> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let least = Kernel::parse(text).ok_or_else(|| broken(format!("invalid kernel version: {text:?}")))?;
        Ok(Some(wanted.kernel >= least))
    }

    fn names_machine(&self) -> Option<bool> {
        let arches = self.arches.as_ref().filter(|arches| !arches.is_empty())?;
        Some(arches.iter().any(|arch| arch == NATIVE.0))
    }

    /// Whether everything it asks for is so.
    fn all(&self, wanted: Wanted<'_>) -> Result<bool> {
        let caps = self.caps.iter().flatten().all(|cap| wanted.capabilities.contains(cap));
        Ok(caps && self.names_machine().unwrap_or(true) && self.kernel_is_enough(wanted)?.unwrap_or(true))
    }

    /// Whether anything it names is so.
    fn any(&self, wanted: Wanted<'_>) -> Result<bool> {
        let caps = self.caps.iter().flatten().any(|cap| wanted.capabilities.contains(cap));
        Ok(caps || self.names_machine().unwrap_or(false) || self.kernel_is_enough(wanted)?.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        option: &str,
        engine: &SeccompDefault,
        privileged: bool,
        capabilities: &[&str],
    ) -> Result<Option<LinuxSeccomp>> {
        let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        profile(Wanted { option, engine, privileged, capabilities: &capabilities, kernel: Kernel(6, 1) })
    }

    fn names(text: &str, capabilities: &[&str]) -> Vec<String> {
        let filter = of(text, &SeccompDefault::Builtin, false, capabilities).unwrap().unwrap();
        filter.syscalls.into_iter().flat_map(|rule| rule.names).collect()
    }

    #[test]
    fn the_containers_word_goes_before_the_engines() {
        let custom = SeccompDefault::Custom {
            path: "/p".into(),
            text: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#.into(),
        };
        let action = |option: &str, engine: &SeccompDefault, privileged| {
            of(option, engine, privileged, &[]).unwrap().map(|filter| filter.default_action)
        };
        let (errno, allow) = (Some(LinuxSeccompAction::Errno), Some(LinuxSeccompAction::Allow));
        assert_eq!(action("", &SeccompDefault::Builtin, false), errno);
        assert_eq!(action("", &SeccompDefault::Builtin, true), None);
        assert_eq!(action("unconfined", &SeccompDefault::Builtin, false), None);
        assert_eq!(action("", &SeccompDefault::Unconfined, false), None);
        assert_eq!(action("builtin", &SeccompDefault::Unconfined, false), errno);
        assert_eq!(action("", &custom, false), allow);
        assert_eq!(action("", &custom, true), None);
        assert_eq!(action(r#"{"defaultAction": "SCMP_ACT_LOG"}"#, &custom, true), Some(LinuxSeccompAction::Log));
        assert_eq!(action("{}", &SeccompDefault::Builtin, false), None);
    }

    #[test]
    fn rules_depend_on_capabilities_machine_and_kernel() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["always"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"name": "old", "action": "SCMP_ACT_ALLOW"},
            {"names": ["cap"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_A", "CAP_B"]}},
            {"names": ["nocap"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_A"]}},
            {"names": ["here"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}},
            {"names": ["elsewhere"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["nothere"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64"]}},
            {"names": ["recent"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}}]}"#;
        assert_eq!(names(text, &[]), ["always", "old", "nocap", "here", "recent"]);
        assert_eq!(names(text, &["CAP_A"]), ["always", "old", "here", "recent"]);
        assert_eq!(names(text, &["CAP_A", "CAP_B"]), ["always", "old", "cap", "here", "recent"]);
    }

    #[test]
    fn architectures_come_from_either_list() {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{{"architecture": "SCMP_ARCH_S390X"}},
                {{"architecture": "{}", "subArchitectures": ["SCMP_ARCH_X"]}}]}}"#,
            NATIVE.1
        );
        let filter = of(&text, &SeccompDefault::Builtin, false, &[]).unwrap().unwrap();
        assert_eq!(filter.architectures, [NATIVE.1, "SCMP_ARCH_X"]);
        let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"], "archMap": [{"architecture": "y"}]}"#;
        assert!(of(both, &SeccompDefault::Builtin, false, &[]).unwrap_err().text().starts_with("both 'architectures'"));
    }

    #[test]
    fn profiles_that_cannot_be_meant_are_refused() {
        let text = |profile: &str| of(profile, &SeccompDefault::Builtin, false, &[]).unwrap_err().text();
        assert!(text("{").starts_with("Decoding seccomp profile failed: "));
        assert!(text(r#"{"defaultAction": "SCMP_ACT_DANCE"}"#).starts_with("Decoding seccomp profile failed: "));
        let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_KILL"}]}"#;
        assert!(text(both).starts_with("both 'name' and 'names'"));
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(Kernel::parse("6.18.44-x"), Some(Kernel(6, 18)));
        assert_eq!(Kernel::parse("4.8"), Some(Kernel(4, 8)));
        assert_eq!(Kernel::parse("x"), None);
        assert!(Kernel(6, 18) > Kernel(6, 2));
    }
}
