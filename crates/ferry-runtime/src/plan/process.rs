//! The process of a configuration: arguments, rights and limits, checked.

use std::ffi::CString;

use ferry_spec::runtime::{self, Capabilities, ConsoleSize, LinuxPersonality, Process, User, defaults};
use ferry_sys::capability;
use ferry_sys::process::SchedulerAttributes;
use rustix::process::Resource;

use super::c_string;
use crate::error::Error;

/// A process, ready to be made.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: User,
    pub(crate) capabilities: CapabilityPlan,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) scheduler: Option<SchedulerAttributes>,
    /// Class and level.
    pub(crate) io_priority: Option<(u32, u32)>,
    pub(crate) personality: Option<u32>,
}

/// Capability sets as masks, no more than this process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilityPlan {
    pub(crate) bounding: u64,
    pub(crate) sets: capability::Sets,
    pub(crate) ambient: u64,
}

/// One resource limit.
#[derive(Debug)]
pub(crate) struct Rlimit {
    pub(crate) name: String,
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
    pub(crate) lower_to_allowed: bool,
}

impl ProcessPlan {
    pub(super) fn new(
        process: &Process,
        personality: Option<&LinuxPersonality>,
        warnings: &mut Vec<String>,
    ) -> Result<ProcessPlan, Error> {
        if process.args.is_empty() {
            return Err(Error::invalid("process.args must not be empty"));
        }
        if !process.cwd.starts_with('/') {
            return Err(Error::invalid(format!("process.cwd {:?} must be an absolute path", process.cwd)));
        }
        c_string("process.cwd", &process.cwd)?;
        let arguments = process.args.iter().map(|argument| c_string("argument", argument)).collect::<Result<_, _>>()?;
        for variable in &process.env {
            c_string("environment variable", variable)?;
        }
        if let Some(adjustment) = process.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
            return Err(Error::invalid(format!("oomScoreAdj {adjustment} must be between -1000 and 1000")));
        }
        Ok(ProcessPlan {
            arguments,
            environment: process.env.clone(),
            cwd: process.cwd.clone(),
            user: process.user.clone(),
            capabilities: capabilities(process.capabilities.as_ref(), capability::bounding(), warnings)?,
            rlimits: process.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            no_new_privileges: process.no_new_privileges,
            apparmor_profile: apparmor(process.apparmor_profile.as_deref())?,
            selinux_label: super::selinux_label(process.selinux_label.as_deref())?,
            oom_score_adj: process.oom_score_adj,
            console_size: process.console_size,
            scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            personality: personality.map(execution_domain).transpose()?,
        })
    }
}

impl ProcessPlan {
    /// Whether a file of procfs has to be written before the exec.
    pub(crate) fn needs_proc(&self) -> bool {
        self.apparmor_profile.is_some() || self.selinux_label.is_some()
    }
}

/// Reads capability names; those that this process does not hold are left out with a warning, as with Docker on a host that lacks them.
fn capabilities(asked: Option<&Capabilities>, held: u64, warnings: &mut Vec<String>) -> Result<CapabilityPlan, Error> {
    let Some(asked) = asked else { return Ok(CapabilityPlan::default()) };
    let mut lacking = 0;
    let mut mask = |names: &[String]| -> Result<u64, Error> {
        let wanted = names.iter().try_fold(0, |mask, name| Ok(mask | 1 << capability_number(name)?))?;
        lacking |= wanted & !held;
        Ok(wanted & held)
    };
    let plan = CapabilityPlan {
        bounding: mask(&asked.bounding)?,
        sets: capability::Sets {
            effective: mask(&asked.effective)?,
            permitted: mask(&asked.permitted)?,
            inheritable: mask(&asked.inheritable)?,
        },
        ambient: mask(&asked.ambient)?,
    };
    for (number, name) in
        defaults::ALL_CAPABILITIES.iter().enumerate().filter(|(number, _)| lacking & (1 << number) != 0)
    {
        let _ = number;
        warnings.push(format!("capability {name} is not available here and was left out"));
    }
    if plan.sets.effective & !plan.sets.permitted != 0 {
        return Err(Error::invalid("an effective capability is not permitted"));
    }
    if plan.ambient & !(plan.sets.permitted & plan.sets.inheritable) != 0 {
        return Err(Error::invalid("an ambient capability is not both permitted and inheritable"));
    }
    Ok(plan)
}

fn capability_number(name: &str) -> Result<usize, Error> {
    defaults::ALL_CAPABILITIES
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| Error::invalid(format!("unknown capability {name:?}")))
}

fn rlimit(limit: &runtime::Rlimit) -> Result<Rlimit, Error> {
    let resource = match limit.kind.as_str() {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => return Err(Error::invalid(format!("invalid rlimit type: {other}"))),
    };
    if limit.soft > limit.hard {
        return Err(Error::invalid(format!(
            "{}: the soft limit {} exceeds the hard limit {}",
            limit.kind, limit.soft, limit.hard
        )));
    }
    Ok(Rlimit {
        name: limit.kind.clone(),
        resource,
        soft: limit.soft,
        hard: limit.hard,
        lower_to_allowed: limit.lower_to_allowed,
    })
}

fn apparmor(profile: Option<&str>) -> Result<Option<String>, Error> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty()) else { return Ok(None) };
    let enabled =
        std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'));
    if enabled {
        return Ok(Some(profile.into()));
    }
    if profile == "unconfined" {
        return Ok(None);
    }
    Err(Error::unsupported(format!("apparmor profile {profile:?} asked for, but AppArmor is not enabled on this host")))
}

fn scheduler(asked: &runtime::Scheduler) -> Result<SchedulerAttributes, Error> {
    let policies =
        ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
    let policy = policies.iter().position(|name| *name == asked.policy);
    let policy = policy.ok_or_else(|| Error::invalid(format!("invalid scheduler policy: {}", asked.policy)))?;
    let mut flags = 0;
    for flag in &asked.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x1,
            "SCHED_FLAG_RECLAIM" => 0x2,
            "SCHED_FLAG_DL_OVERRUN" => 0x4,
            "SCHED_FLAG_KEEP_POLICY" => 0x8,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(Error::invalid(format!("invalid scheduler flag: {other}"))),
        };
    }
    let mut attributes = SchedulerAttributes::default();
    attributes.policy = policy as u32;
    attributes.flags = flags;
    attributes.nice = asked.nice.unwrap_or(0);
    attributes.priority = asked.priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0);
    attributes.runtime = asked.runtime.unwrap_or(0);
    attributes.deadline = asked.deadline.unwrap_or(0);
    attributes.period = asked.period.unwrap_or(0);
    Ok(attributes)
}

fn io_priority(asked: &runtime::LinuxIoPriority) -> Result<(u32, u32), Error> {
    let class = match asked.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid(format!("invalid ioPriority.class: {other}"))),
    };
    match u32::try_from(asked.priority) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(Error::invalid(format!("invalid ioPriority.priority: {}", asked.priority))),
    }
}

fn execution_domain(asked: &LinuxPersonality) -> Result<u32, Error> {
    if !asked.flags.is_empty() {
        return Err(Error::unsupported("linux.personality.flags is not supported"));
    }
    match asked.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::invalid(format!("invalid personality domain: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_not_held_are_left_out_with_a_warning() {
        let asked = Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_SYS_MODULE".into()],
            permitted: vec!["CAP_CHOWN".into()],
            ..Capabilities::default()
        };
        let mut warnings = Vec::new();
        let plan = capabilities(Some(&asked), 1, &mut warnings).unwrap();
        assert_eq!((plan.bounding, plan.sets.permitted), (1, 1));
        assert_eq!(warnings, ["capability CAP_SYS_MODULE is not available here and was left out"]);
    }

    #[test]
    fn capability_sets_must_agree() {
        let asked = Capabilities { effective: vec!["CAP_KILL".into()], ..Capabilities::default() };
        assert!(capabilities(Some(&asked), u64::MAX, &mut Vec::new()).is_err());
        let asked = Capabilities { bounding: vec!["CAP_NONSENSE".into()], ..Capabilities::default() };
        assert!(
            capabilities(Some(&asked), u64::MAX, &mut Vec::new()).unwrap_err().to_string().contains("CAP_NONSENSE")
        );
    }

    #[test]
    fn rlimits_are_checked() {
        let limit = |kind: &str, soft, hard| runtime::Rlimit { kind: kind.into(), soft, hard, lower_to_allowed: false };
        assert!(rlimit(&limit("RLIMIT_NOFILE", 1, 2)).is_ok());
        assert!(rlimit(&limit("RLIMIT_NOFILE", 3, 2)).is_err());
        assert!(rlimit(&limit("RLIMIT_BOGUS", 1, 2)).unwrap_err().to_string().contains("RLIMIT_BOGUS"));
    }
}
