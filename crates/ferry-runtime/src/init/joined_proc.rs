//! The procfs of a pid namespace that is joined.
//!
//! A procfs shows the pid namespace that its maker lives in, so a process in there has to make it; and whatever is in there is seen by the
//! container it belongs to. The maker therefore has nothing: an empty root, one socket, one capability, and a filter that leaves it the few calls for
//! this one thing.

use std::os::fd::{AsFd, OwnedFd};

use ferry_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use ferry_sys::capability::{self, SYS_ADMIN, Sets};
use ferry_sys::namespace::{self, Namespaces};
use ferry_sys::{process as sys_process, socket};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;

use super::mounts;
use crate::error::Error;
use crate::plan::{MountPlan, MountSource, Plan};
use crate::seccomp;

const STAGE: &str = "mount proc of the joined pid namespace";

/// Makes every procfs of the plan, as detached mounts in their order, in the pid namespace that `join` makes the next child be born in.
pub(crate) fn make(plan: &Plan, join: impl FnOnce() -> Result<(), Error>) -> Result<Vec<OwnedFd>, Error> {
    let wanted: Vec<&MountPlan> = plan.mounts.iter().filter(|mount| is_proc(mount)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::step(STAGE, error))?;
    let filter = seccomp::filter(&makers_profile(), None)?;
    let let_go = || -> Result<(), Error> {
        let step = |error: std::io::Error| Error::step(STAGE, error);
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| step(error.into()))?;
        join()?;
        namespace::unshare(Namespaces::MOUNT).map_err(step)?;
        mounts::enter_empty_root()?;
        for number in 0..3 {
            sys_process::place_fd(&theirs, number).map_err(step)?;
        }
        sys_process::close_from(3, &[theirs.as_fd()]).map_err(step)?;
        capability::set(Sets { effective: 1 << SYS_ADMIN, permitted: 1 << SYS_ADMIN, inheritable: 0 }).map_err(step)?;
        set_no_new_privs(true).map_err(|error| step(error.into()))?;
        ferry_sys::seccomp::install(&filter.program, filter.flags).map_err(step)
    };
    let make_all = || -> Result<(), Error> {
        let made = wanted.iter().map(|mount| mounts::make_proc(mount)).collect::<Result<Vec<_>, Error>>()?;
        let fds: Vec<_> = made.iter().map(AsFd::as_fd).collect();
        socket::send(&theirs, b"p", &fds).map(drop).map_err(|error| Error::step(STAGE, error))
    };
    // What fails in there shows as the socket's end: there is no way to tell more that the container could not use, too.
    let maker = sys_process::clone_by_intermediate(
        || let_go().map_err(|_| std::io::Error::from_raw_os_error(libc::EIO)),
        Namespaces::empty(),
        None,
        || i32::from(make_all().is_err()),
    )
    .map_err(|error| Error::step(STAGE, error))?;
    drop(theirs);
    let mut fds = Vec::new();
    let received = socket::receive(&ours, &mut [0u8; 1], &mut fds);
    maker.wait().map_err(|error| Error::step(STAGE, error))?;
    received.map_err(|error| Error::step(STAGE, error))?;
    if fds.len() == wanted.len() { Ok(fds) } else { Err(Error::internal(format!("{STAGE}: it could not be made"))) }
}

/// What the maker may still do: whoever takes it over in there wins no more than this.
fn makers_profile() -> LinuxSeccomp {
    let calls = [
        "fsopen",
        "fsconfig",
        "fsmount",
        "read",
        "sendmsg",
        "close",
        "clone",
        "brk",
        "mmap",
        "munmap",
        "fcntl",
        "exit_group",
    ];
    let rule = LinuxSyscall {
        names: calls.map(String::from).to_vec(),
        action: LinuxSeccompAction::Allow,
        ..LinuxSyscall::default()
    };
    LinuxSeccomp { default_action: LinuxSeccompAction::Errno, syscalls: vec![rule], ..LinuxSeccomp::default() }
}

/// Whether a mount is a procfs.
pub(super) fn is_proc(mount: &MountPlan) -> bool {
    matches!(&mount.source, MountSource::FileSystem { kind, .. } if kind == "proc")
}
