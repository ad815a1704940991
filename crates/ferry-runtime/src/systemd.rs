//! cgroups that systemd makes: the container's is a transient scope of its own.
//!
//! systemd makes a scope around processes that are there, so one is made that does nothing, and goes when the container's own is in. The
//! scope is delegated: limits and device rules are written by the runtime as everywhere, and systemd is told the same numbers, so that it
//! does not put others in their place when it looks over its units. The folder is systemd's to remove, which it does when the scope has
//! stopped; a scope whose processes have all ended stops by itself, and is forgotten, failed or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_spec::runtime::{ScopeName, ScopeNameError};
use ferry_sys::namespace::Namespaces;
use ferry_sys::process::Child;

use self::bus::{Bus, CallError, Writer};
use crate::cgroup::Cgroup;
use crate::error::Error;

mod bus;

/// How long systemd may take over what somebody waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A scope that a container is being put in. Dropped before it is kept, it is stopped.
#[derive(Debug)]
pub struct Scope {
    unit: String,
    cgroup: String,
    holder: Option<Child>,
    kept: bool,
}

impl Scope {
    /// Starts the scope for a container that is about to be made.
    ///
    /// # Errors
    /// A bad name, no systemd that has cgroup v2 for itself, what systemd says against it.
    pub fn start(name: &ScopeName) -> Result<Scope, Error> {
        let (unit, cgroup) = (name.unit(), cgroup_of(name)?);
        let mut bus = connect(PATIENCE)?;
        let holder = holder()?;
        // Until it is made it is not ours to stop.
        let mut scope = Scope { unit, cgroup, holder: Some(holder), kept: true };
        let pid = scope.holder.as_ref().map_or(0, |holder| holder.pid);
        // A unit of that name which has failed before would be in the way.
        let _ = reset_failed(&mut bus, &scope.unit);
        let mut outcome = start_unit(&mut bus, name, &[pid]);
        if matches!(&outcome, Err(error) if is_there_already(error)) && is_empty(&scope.cgroup) {
            // Of an earlier run, whose end systemd has not come to yet.
            let _ = stop_unit(&mut bus, &scope.unit);
            outcome = start_unit(&mut bus, name, &[pid]);
        }
        outcome.map_err(|error| failed(&format!("start unit {}", scope.unit), &error))?;
        scope.kept = false;
        Ok(scope)
    }

    /// Path of its cgroup below the root.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Name of the unit.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The container is in it: the process that held it goes, and systemd learns the limits.
    ///
    /// # Errors
    /// What systemd says against the limits; the scope is stopped then.
    pub fn keep(mut self) -> Result<(), Error> {
        // While it is held: a program that has ended already would have taken the scope along.
        set_limits(&self.unit, &self.cgroup)?;
        self.kept = true;
        Ok(())
    }

    fn end_holder(&mut self) {
        if let Some(holder) = self.holder.take() {
            // It does nothing, and is our own child.
            let _ = ferry_sys::process::kill(holder.pid, libc::SIGKILL);
            let _ = holder.wait();
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.end_holder();
        if !self.kept {
            // What made the container fail is told; an empty scope goes by itself as well.
            let _ = stop(&self.unit, PATIENCE);
        }
    }
}

/// Puts processes into a scope that many share, which is made for the first of them.
///
/// # Errors
/// As for [`Scope::start`]; the processes are where they were then.
pub fn join(name: &ScopeName, pids: &[u32]) -> Result<(), Error> {
    let cgroup = cgroup_of(name)?;
    let adopt = || {
        let cgroup = Cgroup::open(&cgroup)?;
        pids.iter().try_for_each(|pid| cgroup.adopt(pid.cast_signed()))
    };
    if folder(&cgroup).is_dir() && adopt().is_ok() {
        return Ok(());
    }
    match start_unit(&mut connect(PATIENCE)?, name, pids) {
        // Somebody else was the first.
        Err(error) if is_there_already(&error) => adopt(),
        outcome => outcome.map_err(|error| failed(&format!("start unit {}", name.unit()), &error)),
    }
}

fn cgroup_of(name: &ScopeName) -> Result<String, Error> {
    name.cgroup().map_err(|error: ScopeNameError| Error::invalid(error.to_string()))
}

fn folder(cgroup: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'))
}

fn is_empty(cgroup: &str) -> bool {
    Cgroup::open(cgroup).and_then(|cgroup| cgroup.pids()).is_ok_and(|pids| pids.is_empty())
}

/// A process that only is there.
fn holder() -> Result<Child, Error> {
    let sleep = || {
        // Should the runtime die, nothing else would end it.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if ferry_sys::process::close_from(0, &[]).is_err() {
            return 1;
        }
        loop {
            std::thread::park();
        }
    };
    ferry_sys::process::clone_child(Namespaces::empty(), None, sleep)
        .map_err(|error| failed("make a process for the scope", &error))
}

fn connect(patience: Duration) -> Result<Bus, Error> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::internal("systemd not running on this host, cannot use systemd cgroups manager"));
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // On v1 it would take the device rules away again whenever it looks over its units.
        return Err(Error::unsupported("cgroups of systemd need cgroup v2 alone, and this host mounts v1"));
    }
    Bus::connect(patience).map_err(|error| failed("reach systemd", &error))
}

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::internal(format!("{what}: {error}"))
}

fn start_unit(bus: &mut Bus, name: &ScopeName, pids: &[u32]) -> Result<(), CallError> {
    let mut body = Writer::default();
    body.text(&name.unit());
    body.text("replace");
    properties(&mut body, name, pids);
    body.array(8, |_| {});
    match bus.call_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?.as_str() {
        "done" => Ok(()),
        other => Err(std::io::Error::other(format!("the job's result is {other}")).into()),
    }
}

fn is_there_already(error: &CallError) -> bool {
    matches!(error, CallError::Refused { name, .. } if name.ends_with("UnitExists"))
}

fn properties(body: &mut Writer, name: &ScopeName, pids: &[u32]) {
    body.array(8, |body| {
        let mut text = |name: &str, value: &str| {
            body.structure();
            body.text(name);
            body.signature("s");
            body.text(value);
        };
        text("Description", &format!("container {}", name.name));
        text("Slice", &name.slice);
        text("CollectMode", "inactive-or-failed");
        let mut flag = |name: &str, value: bool| {
            body.structure();
            body.text(name);
            body.signature("b");
            body.bool(value);
        };
        flag("Delegate", true);
        flag("DefaultDependencies", false);
        for name in ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"] {
            flag(name, true);
        }
        body.structure();
        body.text("PIDs");
        body.signature("au");
        body.array(4, |body| pids.iter().for_each(|pid| body.u32(*pid)));
    });
}

/// Tells systemd the limits as they are in the cgroup's files. A unit that has just ended has none.
///
/// # Errors
/// What systemd says against it.
pub fn set_limits(unit: &str, cgroup: &str) -> Result<(), Error> {
    let folder = folder(cgroup);
    let limits = limits(|file| std::fs::read_to_string(folder.join(file)).ok());
    let mut body = Writer::default();
    body.text(unit);
    body.bool(true);
    body.array(8, |body| {
        for (name, limit) in &limits {
            body.structure();
            body.text(name);
            match limit {
                Limit::Number(value) => {
                    body.signature("t");
                    body.u64(*value);
                }
                Limit::Bits(bytes) => {
                    body.signature("ay");
                    body.array(1, |body| bytes.iter().for_each(|byte| body.byte(*byte)));
                }
            }
        }
    });
    match connect(PATIENCE)?.call("SetUnitProperties", "sba(sv)", body) {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(failed(&format!("set the limits of unit {unit}"), &error)),
    }
}

fn is_gone(error: &CallError) -> bool {
    matches!(error, CallError::Refused { name, .. } if name.ends_with("NoSuchUnit"))
}

/// The value of a property.
#[derive(Debug, PartialEq, Eq)]
enum Limit {
    /// `u64::MAX` is none.
    Number(u64),
    /// A set of processors or memory nodes, the lowest bit of the first byte first.
    Bits(Vec<u8>),
}

/// Limits by the names of systemd's properties.
fn limits(read: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, Limit)> {
    let number = |text: &str| match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    let mut limits = Vec::new();
    for (file, name) in [
        ("memory.max", "MemoryMax"),
        ("memory.low", "MemoryLow"),
        ("memory.swap.max", "MemorySwapMax"),
        ("cpu.weight", "CPUWeight"),
        ("pids.max", "TasksMax"),
    ] {
        // A controller that is not there has no limit.
        limits.extend(read(file).as_deref().and_then(number).map(|value| (name, Limit::Number(value))));
    }
    if let Some((quota, period)) = read("cpu.max").as_deref().and_then(|text| text.trim().split_once(' ')) {
        let period = number(period).unwrap_or(100_000).max(1);
        // Microseconds for each second; a quota that does not come out even is rounded up, to the 10 ms that systemd counts in.
        let per_second = match number(quota) {
            Some(u64::MAX) | None => u64::MAX,
            Some(quota) => (quota.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000,
        };
        limits.push(("CPUQuotaPeriodUSec", Limit::Number(period)));
        limits.push(("CPUQuotaPerSecUSec", Limit::Number(per_second)));
    }
    for (file, name) in [("cpuset.cpus", "AllowedCPUs"), ("cpuset.mems", "AllowedMemoryNodes")] {
        let set = read(file).map(|text| bits(text.trim())).filter(|bytes| !bytes.is_empty());
        limits.extend(set.map(|bytes| (name, Limit::Bits(bytes))));
    }
    limits
}

/// A list such as `0-2,7` as a row of bits; the kernel writes no other form.
fn bits(list: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for number in first..=last {
            let at = usize::from(number / 8);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (number % 8);
        }
    }
    bytes
}

/// Has a unit stopped in which nothing runs any more, and waits for it: only then can another of its name be started. One that is gone is no
/// error.
///
/// # Errors
/// systemd is not there, or does not stop it in time.
pub fn stop(unit: &str, patience: Duration) -> Result<(), Error> {
    stop_unit(&mut connect(patience)?, unit).map_err(|error| failed(&format!("stop unit {unit}"), &error))
}

fn stop_unit(bus: &mut Bus, unit: &str) -> Result<(), CallError> {
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    match bus.call_job("StopUnit", "ss", body) {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    // It is collected by itself, too.
    let _ = reset_failed(bus, unit);
    Ok(())
}

fn reset_failed(bus: &mut Bus, unit: &str) -> Result<(), CallError> {
    let mut body = Writer::default();
    body.text(unit);
    bus.call("ResetFailedUnit", "s", body).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_is_gone_is_stopped() {
        let mut bus = bus::fake::connect(PATIENCE, |mut systemd| {
            assert_eq!(systemd.next_call().as_deref(), Some("StopUnit"));
            systemd.refuse("org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
        });
        stop_unit(&mut bus, "x.scope").unwrap();
    }

    #[test]
    fn limits_are_those_of_the_files() {
        let files = |file: &str| {
            let text = match file {
                "memory.max" => "67108864\n",
                "memory.low" => "0\n",
                "pids.max" => "max\n",
                "cpu.max" => "50000 100000\n",
                "cpuset.cpus" => "0-1,9\n",
                "cpuset.mems" => "\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(
            limits(files),
            [
                ("MemoryMax", Limit::Number(67_108_864)),
                ("MemoryLow", Limit::Number(0)),
                ("TasksMax", Limit::Number(u64::MAX)),
                ("CPUQuotaPeriodUSec", Limit::Number(100_000)),
                ("CPUQuotaPerSecUSec", Limit::Number(500_000)),
                ("AllowedCPUs", Limit::Bits(vec![0b11, 0b10])),
            ]
        );
    }
}
