//! Whether the first process of a container can receive a signal at all.
//!
//! The first process of a pid namespace gets only signals that it handles or blocks: the kernel drops all others but SIGKILL and SIGSTOP, even
//! from outside. A shell or a program that was never meant to be process 1 lets every `stop` run into its time-out.
//!
//! What a process that waits in `rt_sigtimedwait` blocks is not shown while it waits, so such a one is taken to hear. In doubt everybody hears:
//! then a stop is Docker's.

use std::fs;
use std::time::Duration;

use ferry_spec::signal;

use super::Container;
use super::stop::SIGKILL;
use crate::clock;

const SIGSTOP: i32 = 19;
/// A process this young may not have come to install its handlers.
const YOUNG_NS: i64 = 1_000_000_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Looks in a row that must find it deaf: between two of them it may have gone into its wait.
const LOOKS: u32 = 3;
/// `rt_sigtimedwait`, by machine.
const WAITS_FOR_SIGNALS: &str = if cfg!(target_arch = "x86_64") { "128" } else { "137" };

/// Why `signal` would be lost on the container's process, or nothing when it can be received. Waits for a process that has only just begun.
pub(super) async fn reason(container: &Container, signal: i32) -> Option<String> {
    if matches!(signal, SIGKILL | SIGSTOP) {
        return None;
    }
    let mut looks = 0;
    loop {
        let (pid, started_ns, own_namespace) =
            container.with_record(|record| (record.pid, record.started_ns, record.host_config.pid_mode.is_empty()));
        if pid == 0 || !own_namespace {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        if can_receive(&status, signal)? || call.split(' ').next() == Some(WAITS_FOR_SIGNALS) {
            return None;
        }
        // The pid was the container's own only if it lives still.
        container.live()?;
        looks += 1;
        if looks >= LOOKS && clock::now_ns() - started_ns >= YOUNG_NS {
            let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
            let signal = signal::name(signal);
            return Some(format!("process 1 ({name}) cannot receive {signal}: it neither handles nor blocks it"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Reads `/proc/<pid>/status`; `None` when it does not tell.
fn can_receive(status: &str, signal: i32) -> Option<bool> {
    let bit = u32::try_from(signal).ok()?.checked_sub(1).filter(|bit| *bit < 64)?;
    let mask = |key: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(hex.trim(), 16).ok()
    };
    Some((mask("SigCgt:")? | mask("SigBlk:")?) >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handled_or_blocked_signals_are_received() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000001\n";
        assert_eq!(can_receive(status, 1), Some(true), "handled");
        assert_eq!(can_receive(status, 2), Some(true), "blocked: it may be waited for");
        assert_eq!(can_receive(status, 15), Some(false), "ignored");
        assert_eq!(can_receive(status, 3), Some(false), "left at its default");
        assert_eq!(can_receive("Name:\tx\n", 15), None);
        assert_eq!(can_receive(status, 0), None);
    }
}
