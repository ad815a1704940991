//! Giving up rights, in the one order that is safe: limits, no_new_privs, capabilities and ids, and the filter last.

use std::ffi::CStr;

use ferry_sys::{capability, keyring, process as sys_process, seccomp};
use rustix::fs::{Mode, fstat};
use rustix::io::Errno;
use rustix::process::{getrlimit, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Filter;
use super::proc::PrivateProc;
use super::user::Identity;
use crate::error::Error;
use crate::plan::{CapabilityPlan, ProcessPlan};

/// Leaves the caller's keys behind.
pub(crate) fn join_keyring(name: &CStr) -> Result<(), Error> {
    match keyring::join_session(name) {
        Ok(()) => Ok(()),
        // No keys in this kernel, or a filter around us that keeps the container from them just as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        Err(error) => Err(Error::step("unable to join session keyring", error)),
    }
}

/// Hands the standard streams over, so that the process may open them again by `/dev/stdout` and the like.
pub(crate) fn give_stdio(uid: u32) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = fstat(stream) else { continue };
        let is_null = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device()
            && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3);
        if stat.st_uid != uid && !is_null {
            // What cannot be handed over, such as a socket or a read-only file, still works as an open descriptor.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// Sets resource limits, scheduling and the like, while the rights for it are there.
pub(crate) fn set_limits(process: &ProcessPlan) -> Result<(), Error> {
    for limit in &process.rlimits {
        let wanted = |soft: u64, hard: u64| rustix::process::Rlimit { current: finite(soft), maximum: finite(hard) };
        match setrlimit(limit.resource, wanted(limit.soft, limit.hard)) {
            Ok(()) => {}
            Err(Errno::PERM) if limit.lower_to_allowed => {
                let ceiling = getrlimit(limit.resource).maximum.unwrap_or(u64::MAX);
                let (soft, hard) = (limit.soft.min(ceiling), limit.hard.min(ceiling));
                setrlimit(limit.resource, wanted(soft, hard))
                    .map_err(|error| Error::step(format!("error setting rlimit type {}", limit.name), error))?;
            }
            Err(error) => {
                let what = format!("error setting rlimit {} to {}:{}", limit.name, limit.soft, limit.hard);
                return Err(Error::step(what, error));
            }
        }
    }
    if let Some(scheduler) = process.scheduler {
        sys_process::set_scheduler(scheduler).map_err(|error| Error::step("set the scheduler", error))?;
    }
    if let Some((class, level)) = process.io_priority {
        sys_process::set_io_priority(class, level).map_err(|error| Error::step("set the I/O priority", error))?;
    }
    if let Some(domain) = process.personality {
        sys_process::set_personality(domain).map_err(|error| Error::step("set the personality", error))?;
    }
    Ok(())
}

fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

/// Becomes the user with these capabilities and no more; but for `CAP_SYS_ADMIN` while a filter is still to be installed without
/// no_new_privs, which [`install_filter`] and at the latest the exec take away.
pub(crate) fn drop_to(
    process: &ProcessPlan,
    user: &Identity,
    filter: Option<&Filter>,
    proc: Option<PrivateProc>,
) -> Result<(), Error> {
    let step = |what: &'static str| move |error: std::io::Error| Error::step(what, error);
    rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022) & 0o777));
    confine_next_exec(process, proc)?;
    if process.no_new_privileges {
        set_no_new_privs(true).map_err(|error| Error::step("set no_new_privs", error))?;
    }
    capability::limit_bounding(process.capabilities.bounding).map_err(step("limit the bounding set"))?;
    capability::keep_over_user_change(true).map_err(step("keep capabilities"))?;
    let groups: Vec<_> = user.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).map_err(|error| Error::step("setgroups", error))?;
    let gid = rustix::process::Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|error| Error::step(format!("setgid {}", user.gid), error))?;
    let uid = rustix::process::Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).map_err(|error| Error::step(format!("setuid {}", user.uid), error))?;
    capability::keep_over_user_change(false).map_err(step("keep capabilities"))?;
    let mut sets = process.capabilities.sets;
    if holds_back(filter, process) {
        sets.permitted |= 1 << capability::SYS_ADMIN;
        sets.effective |= 1 << capability::SYS_ADMIN;
    }
    // Without file capabilities a program of another user than root would lose all but the ambient set anyhow.
    capability::set(sets).map_err(step("set capabilities"))?;
    capability::set_ambient(process.capabilities.ambient).map_err(step("set ambient capabilities"))
}

/// Chooses what the security modules make of the program.
fn confine_next_exec(process: &ProcessPlan, proc: Option<PrivateProc>) -> Result<(), Error> {
    if !process.needs_proc() {
        return Ok(());
    }
    let proc = proc.ok_or_else(|| Error::internal("there is no procfs to choose a profile or label by"))?;
    if let Some(profile) = &process.apparmor_profile {
        proc.set_apparmor(profile)?;
    }
    process.selinux_label.as_deref().map_or(Ok(()), |label| proc.set_exec_label(label))
}

/// Installs the filter: the last act before the exec, so that it need allow nothing else.
pub(crate) fn install_filter(filter: Option<&Filter>, process: &ProcessPlan) -> Result<(), Error> {
    let Some(filter) = filter else { return Ok(()) };
    seccomp::install(&filter.program, filter.flags)
        .map_err(|error| Error::step("unable to install the seccomp filter", error))?;
    if holds_back(Some(filter), process) {
        // The filter may forbid this call. Then the exec does it: the bounding set has lost what is held back, and the exec of root
        // gives no more than that, of any other user no more than the ambient set.
        let _ = capability::set(process.capabilities.sets);
    }
    Ok(())
}

fn holds_back(filter: Option<&Filter>, process: &ProcessPlan) -> bool {
    let CapabilityPlan { sets, .. } = process.capabilities;
    filter.is_some() && !process.no_new_privileges && sets.effective & (1 << capability::SYS_ADMIN) == 0
}
