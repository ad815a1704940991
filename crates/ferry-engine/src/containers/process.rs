//! The first process of a container, held by a descriptor: a number may mean another process at any moment.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::{Reply, Request};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use tokio::sync::MutexGuard;

use super::{Container, Live};
use crate::error::{Error, Result};

/// How long an end is waited for that is about to be noted.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock of who changes a container, and its first process; `None` where it does not run.
///
/// The end of one that has just ended is waited for: it is noted under the same lock, and from then on the container is one that does not
/// run.
pub(super) async fn locked(container: &Container) -> Result<(MutexGuard<'_, ()>, Option<OwnedFd>)> {
    loop {
        let verb = container.verb.lock().await;
        let process = process_of(container).await?;
        if process.is_some() || !container.status().is_live() {
            return Ok((verb, process));
        }
        let mut changes = container.watch();
        let exits = changes.borrow().exits;
        drop(verb);
        let noted = changes.wait_for(|change| change.exits > exits || change.removed);
        if tokio::time::timeout(PATIENCE, noted).await.is_err() {
            return Err(Error::conflict(format!("container {} has just ended", container.id)));
        }
    }
}

/// The first process of a container that runs, by a descriptor that is certain to mean it; `None` when it has ended.
pub(super) async fn process_of(container: &Container) -> Result<Option<OwnedFd>> {
    let Some(live) = container.live() else { return Ok(None) };
    let pid = container.with_record(|record| record.pid);
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => {
            return Err(
                Error::internal(format!("cannot open the process of container {}", container.id)).with_source(error)
            );
        }
    };
    // The shim reaps it: as long as it says that it lives, the number meant it when it was opened.
    match live.shim.call(Request::State, &[]).await {
        Ok(Reply::State(state)) if state.exit.is_none() && state.pid == pid.as_raw_nonzero().get().unsigned_abs() => {
            Ok(Some(pidfd))
        }
        Ok(_) => Ok(None),
        // It has ended with its container; the supervisor is about to see that, too.
        Err(error) if live_has_changed(container, &live) => {
            tracing::debug!(container = %container.id, %error, "shim gone while it was asked for the process");
            Ok(None)
        }
        Err(error) => Err(Error::internal(format!("cannot reach container {}", container.id)).with_source(error)),
    }
}

fn live_has_changed(container: &Container, live: &Live) -> bool {
    container.live().is_none_or(|now| !std::ptr::eq(Arc::as_ptr(&now), live))
}
