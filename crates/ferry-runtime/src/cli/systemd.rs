//! `--systemd-cgroup`: the container's cgroup is a transient scope of systemd's.
//!
//! systemd makes a scope around processes that are there, so one is made that does nothing, and goes when the container's own is in. The
//! scope is delegated: limits and device rules are written by the runtime as everywhere, and systemd is told the same numbers, so that it
//! does not put others in their place when it looks over its units.

use std::path::{Path, PathBuf};

use ferry_runtime::Error;
use ferry_sys::namespace::Namespaces;
use ferry_sys::process::Child;

use self::bus::{Bus, CallError, Writer};
use super::{failed, invalid, unsupported};

mod bus;

/// A scope that a container is being put in.
pub(crate) struct Scope {
    /// Name of the unit.
    pub(crate) unit: String,
    /// Path of its cgroup below the root.
    pub(crate) cgroup: String,
    holder: Option<Child>,
    kept: bool,
}

/// The unit that `cgroupsPath` names.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    slice: String,
    unit: String,
}

impl Name {
    /// Reads `slice:prefix:name`.
    fn parse(path: Option<&str>, id: &str) -> Result<Name, Error> {
        let path = path.unwrap_or_default();
        let parts: Vec<&str> = path.split(':').collect();
        let (slice, prefix, name) = match parts.as_slice() {
            [""] => ("", "ferry", id),
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => {
                return Err(invalid(format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                )));
            }
        };
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let allowed = |character: char| character.is_ascii_alphanumeric() || ":-_.\\@".contains(character);
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if name.is_empty() || unit.len() > 255 || !unit.chars().all(allowed) {
            return Err(invalid(format!("invalid name of a unit: {unit:?}")));
        }
        Ok(Name { slice: slice.into(), unit })
    }

    /// Where systemd puts it: a dash in the name of a slice leads one level down.
    fn cgroup(&self) -> Result<String, Error> {
        let bad = || invalid(format!("invalid slice name: {}", self.slice));
        let stem = self.slice.strip_suffix(".slice").filter(|stem| !stem.contains('/')).ok_or_else(bad)?;
        if stem == "-" {
            return Ok(format!("/{}", self.unit));
        }
        let mut path = String::new();
        let mut prefix = String::new();
        for part in stem.split('-') {
            if part.is_empty() || part.chars().any(|character| character.is_whitespace() || character.is_control()) {
                return Err(bad());
            }
            path += &format!("/{prefix}{part}.slice");
            prefix += &format!("{part}-");
        }
        Ok(format!("{path}/{}", self.unit))
    }
}

impl Scope {
    /// Starts the scope for a container that is about to be made.
    pub(crate) fn start(cgroups_path: Option<&str>, id: &str) -> Result<Scope, Error> {
        let name = Name::parse(cgroups_path, id)?;
        let cgroup = name.cgroup()?;
        let mut bus = connect()?;
        let holder = holder()?;
        let mut scope = Scope { unit: name.unit.clone(), cgroup, holder: Some(holder), kept: false };
        let pid = scope.holder.as_ref().map_or(0, |holder| holder.pid);
        // A unit of that name which has failed before would be in the way.
        let _ = reset_failed(&mut bus, &name.unit);
        let mut body = Writer::default();
        body.text(&name.unit);
        body.text("replace");
        properties(&mut body, id, &name.slice, pid);
        body.array(8, |_| {});
        let outcome = bus.call_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body);
        match outcome {
            Ok(result) if result == "done" => Ok(scope),
            Ok(result) => Err(failed(
                &format!("start unit {}", name.unit),
                &std::io::Error::other(format!("the job's result is {result}")),
            )),
            Err(error) => {
                // It was not made by us.
                scope.kept = true;
                Err(failed(&format!("start unit {}", name.unit), &error))
            }
        }
    }

    /// The container is in it: the process that held it goes, and systemd learns the limits.
    pub(crate) fn keep(mut self) -> Result<(), Error> {
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
            let _ = stop(&self.unit);
        }
    }
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

fn connect() -> Result<Bus, Error> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(unsupported("systemd not running on this host, cannot use systemd cgroups manager"));
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // On v1 it would take the device rules away again whenever it looks over its units.
        return Err(unsupported("--systemd-cgroup needs cgroup v2 alone, and this host mounts v1"));
    }
    Bus::connect().map_err(|error| failed("reach systemd", &error))
}

fn properties(body: &mut Writer, id: &str, slice: &str, pid: u32) {
    body.array(8, |body| {
        let mut text = |name: &str, value: &str| {
            body.structure();
            body.text(name);
            body.signature("s");
            body.text(value);
        };
        text("Description", &format!("container {id}"));
        text("Slice", slice);
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
        body.array(4, |body| body.u32(pid));
    });
}

/// Tells systemd the limits as they are in the cgroup's files.
pub(crate) fn set_limits(unit: &str, cgroup: &str) -> Result<(), Error> {
    let folder = PathBuf::from("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let limits = limits(read);
    let mut body = Writer::default();
    body.text(unit);
    body.bool(true);
    body.array(8, |body| {
        for (name, value) in &limits {
            body.structure();
            body.text(name);
            body.signature("t");
            body.u64(*value);
        }
    });
    connect()?
        .call("SetUnitProperties", "sba(sv)", body)
        .map(drop)
        .map_err(|error| failed(&format!("set the limits of unit {unit}"), &error))
}

/// Limits by the names of systemd's properties; `u64::MAX` is none.
fn limits(read: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, u64)> {
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
        limits.extend(read(file).as_deref().and_then(number).map(|value| (name, value)));
    }
    if let Some((quota, period)) = read("cpu.max").as_deref().and_then(|text| text.trim().split_once(' ')) {
        let period = number(period).unwrap_or(100_000).max(1);
        // Microseconds for each second; a quota that does not come out even is rounded up, to the 10 ms that systemd counts in.
        let per_second = match number(quota) {
            Some(u64::MAX) | None => u64::MAX,
            Some(quota) => (quota.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000,
        };
        limits.push(("CPUQuotaPeriodUSec", period));
        limits.push(("CPUQuotaPerSecUSec", per_second));
    }
    limits
}

/// Has a unit stopped, without waiting for it: nothing runs in it any more. One that is gone is no error.
pub(crate) fn stop(unit: &str) -> Result<(), Error> {
    let mut bus = connect()?;
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    match bus.call("StopUnit", "ss", body) {
        Ok(_) => {}
        Err(CallError::Refused { name, .. }) if name.ends_with("NoSuchUnit") => return Ok(()),
        Err(error) => return Err(failed(&format!("stop unit {unit}"), &error)),
    }
    // It is collected by itself, too.
    let _ = reset_failed(&mut bus, unit);
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
    fn units_are_named_as_runc_names_them() {
        let cgroup = |path: &str| Name::parse(Some(path), "id").and_then(|name| name.cgroup());
        assert_eq!(cgroup("system.slice:docker:abc").unwrap(), "/system.slice/docker-abc.scope");
        assert_eq!(cgroup("a-b-c.slice::x").unwrap(), "/a.slice/a-b.slice/a-b-c.slice/x.scope");
        assert_eq!(cgroup("-.slice:p:x").unwrap(), "/p-x.scope");
        assert_eq!(cgroup("").unwrap(), "/system.slice/ferry-id.scope");
        for path in ["/a/b", "a:b", "a.slice:p:", "a--b.slice:p:x", "x:p:y", "a/b.slice:p:x", "a.slice:p:../x"] {
            assert!(cgroup(path).is_err(), "{path}");
        }
    }

    #[test]
    fn limits_are_those_of_the_files() {
        let files = |file: &str| {
            let text = match file {
                "memory.max" => "67108864\n",
                "memory.low" => "0\n",
                "pids.max" => "max\n",
                "cpu.max" => "50000 100000\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(
            limits(files),
            [
                ("MemoryMax", 67_108_864),
                ("MemoryLow", 0),
                ("TasksMax", u64::MAX),
                ("CPUQuotaPeriodUSec", 100_000),
                ("CPUQuotaPerSecUSec", 500_000)
            ]
        );
    }
}
