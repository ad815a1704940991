//! `attach`: output from now on, input, and the exit code.

use std::time::Duration;

use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, programs};

use crate::until;

#[test]
fn attach_gives_output_and_the_exit_code() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo said; exit 6";
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let running = daemon.spawn(&["attach", "box"]);
    until("attach to be connected", || connections(&daemon) > 0);
    let _ = daemon.run(&["exec", "box", "touch", "/go"]).ok();
    let outcome = running.finish(Duration::from_secs(20)).unwrap();
    assert_eq!((outcome.code, outcome.out().as_str()), (6, "said\n"), "{outcome}");
}

/// Counts the connections to the daemon's socket that are open now.
fn connections(daemon: &Daemon) -> usize {
    let table = format!("/proc/{}/net/unix", daemon.sandbox().init());
    let text = std::fs::read_to_string(table).unwrap_or_default();
    // Column 6 (state): 03 is connected; the listener itself has 01.
    text.lines().filter(|line| line.contains("/a.sock") && line.split_whitespace().nth(5) == Some("03")).count()
}

#[test]
fn start_attached_gives_output_and_the_exit_code() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["create", "--name", "box", "-i", "busybox", "sh", "-c", "cat; exit 2"]).ok();
    let outcome = daemon.run_with_input(&["start", "-a", "-i", "box"], b"typed\n");
    assert_eq!((outcome.code, outcome.out().as_str()), (2, "typed\n"), "{outcome}");
}

#[test]
fn two_attached_clients_see_the_same_and_one_may_leave() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "-i", "-t", "--name", "box", "busybox", "sh"]).ok();
    let mut attach = daemon.client(programs::binary("ferry").unwrap());
    attach.args(["attach", "box"]);
    let mut first = Terminal::start(&attach).unwrap();
    let mut second = Terminal::start(&attach).unwrap();
    until("both to be connected", || connections(&daemon) >= 2);
    first.keys("echo to-$((40+2))\n").unwrap();
    first.expect("to-42").unwrap();
    second.expect("to-42").unwrap();
    first.keys("\u{10}\u{11}").unwrap();
    first.expect("read escape sequence").unwrap();
    assert_eq!(first.finish().unwrap(), 1, "detached");
    second.keys("exit 3\n").unwrap();
    assert_eq!(second.finish().unwrap(), 3);
}
