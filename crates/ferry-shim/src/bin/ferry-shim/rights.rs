//! What the shim may do, and when.
//!
//! Making, entering and taking down a container takes nearly every right there is, and an exec may ask for any of them (a privileged one
//! for all), so they stay permitted for as long as the container lives. They take effect only while such a request is answered or a
//! container is taken down. Between that, which is where output, log lines and bytes of clients are handled, only signals to processes of
//! other users are possible beyond what root's own files allow. `docs/design/shim-rights.md` has the whole list, and why.

use ferry_shim::protocol::Request;
use ferry_sys::capability::{self, Sets};

/// `CAP_KILL`: what is left in a container at its end belongs to any user.
const ALWAYS: u64 = 1 << 5;

/// Whether a request takes more than signals and what root's own files allow. Files of a cgroup may have been given to somebody else by the
/// container, so that changing them does.
pub(crate) fn are_needed(request: &Request) -> bool {
    match request {
        Request::Start(_)
        | Request::Exec(_)
        | Request::Kill { all: true, .. }
        | Request::Pause
        | Request::Resume
        | Request::Pids
        | Request::Usage
        | Request::Update(_)
        | Request::Shutdown => true,
        Request::Attach { .. } | Request::Kill { all: false, .. } | Request::Resize { .. } | Request::State => false,
    }
}

/// All rights are in effect until this is dropped.
pub(crate) struct InEffect(());

/// Takes up all rights for a while.
pub(crate) fn in_effect() -> InEffect {
    put_into_effect(u64::MAX);
    InEffect(())
}

impl Drop for InEffect {
    fn drop(&mut self) {
        put_into_effect(ALWAYS);
    }
}

fn put_into_effect(wanted: u64) {
    // The kernel refuses neither: what is permitted may always be made effective or not.
    let _ = capability::get().and_then(|held| capability::set(Sets { effective: held.permitted & wanted, ..held }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_come_and_go_and_stay_permitted() {
        let before = capability::get().unwrap();
        let held = in_effect();
        assert_eq!(capability::get().unwrap().effective, before.permitted);
        drop(held);
        let after = capability::get().unwrap();
        assert_eq!((after.effective, after.permitted), (before.permitted & ALWAYS, before.permitted));
        drop(in_effect());
        assert_eq!(capability::get().unwrap().permitted, before.permitted);
        capability::set(before).unwrap();
    }
}
