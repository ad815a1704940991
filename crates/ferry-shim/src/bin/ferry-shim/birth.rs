//! The first steps of the program: what it protects itself from before it listens to anyone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::process::DumpableBehavior;

use crate::shim::Shim;

/// The loop over the connection on descriptor 0.
pub(crate) fn supervise() -> ExitCode {
    match prepare().and_then(|control| Shim::new(control)?.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn prepare() -> io::Result<OwnedFd> {
    // The program itself was left open by who spawned us; nothing of ours is open yet.
    ferry_sys::process::close_from(3, &[])?;
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    // Whatever comes to be on descriptor 0 later, it is not the engine.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    ferry_sys::process::place_fd(&null, 0)?;
    // Nobody reads our memory or descriptors through /proc, not even root in a container without CAP_SYS_PTRACE.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"ferry-shim")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    spare_from_oom();
    Ok(control)
}

/// Whose parent is killed, loses its exit status and its log; the container itself starts with what its configuration says.
fn spare_from_oom() {
    // Not allowed without CAP_SYS_RESOURCE, such as in a nested container: it works without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
}

/// Compresses descriptor 0 to descriptor 1.
pub(crate) fn compress() -> ExitCode {
    let files = || -> io::Result<(File, File)> {
        Ok((io::stdin().as_fd().try_clone_to_owned()?.into(), io::stdout().as_fd().try_clone_to_owned()?.into()))
    };
    match files().and_then(|(mut source, mut target)| ferry_shim::log::compress(&mut source, &mut target)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
