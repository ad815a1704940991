//! The first process of a container, held by a descriptor: a number may mean another process at any moment.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ferry_shim::protocol::{Reply, Request};
use rustix::process::{Pid, PidfdFlags};

use super::{Container, Live};
use crate::error::{Error, Result};

/// The first process of a container that runs, by a descriptor that is certain to mean it; `None` when it has ended.
pub(super) async fn process_of(container: &Container) -> Result<Option<OwnedFd>> {
    let Some(live) = container.live() else { return Ok(None) };
    let pid = container.with_record(|record| record.pid);
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
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
