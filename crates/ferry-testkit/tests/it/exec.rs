//! `exec`: a second process in a running container.

use std::time::Duration;

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, command, programs};

use crate::until;

#[test]
fn exec_runs_beside_the_first_process_and_leaves_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "-e", "BASE=1", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["exec", "box", "true"]).ok();
    let watch = Watch::daemon(&daemon);
    assert_eq!(
        daemon
            .run(&["exec", "-e", "A=b", "-w", "/tmp", "-u", "1000", "box", "sh", "-c", "echo $BASE $A $(pwd) $(id -u)"])
            .ok(),
        "1 b /tmp 1000"
    );
    assert_eq!(daemon.run(&["exec", "box", "sh", "-c", "exit 4"]).code, 4);
    assert_eq!(daemon.run(&["exec", "box", "no-such-command"]).code, 127);
    assert_eq!(daemon.run(&["exec", "box", "/etc/passwd"]).code, 126);
    assert_eq!(daemon.run_with_input(&["exec", "-i", "box", "wc", "-c"], &[7; 300_000]).ok(), "300000");
    let groups = |which: &str| daemon.run(&["exec", "box", "cat", &format!("/proc/{which}/cgroup")]).ok();
    assert_eq!(groups("self"), groups("1"), "an exec is under the container's limits");
    let status = daemon.run(&["exec", "box", "cat", "/proc/self/status"]).ok();
    assert!(status.contains("Seccomp:\t2") && status.contains("CapEff:\t00000000a80425fb"), "{status}");
    watch.end().unwrap();
}

#[test]
fn exec_ends_with_its_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let running = daemon.spawn(&["exec", "box", "sleep", "1000"]);
    until("the exec to run", || daemon.run(&["exec", "box", "ps"]).out().matches("sleep 1000").count() == 2);
    let _ = daemon.run(&["kill", "box"]).ok();
    assert_eq!(running.finish(Duration::from_secs(20)).unwrap().code, 137);
}

#[test]
fn many_execs_at_once_keep_their_outputs_apart() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let running: Vec<_> = (0..16)
        .map(|number| daemon.spawn(&["exec", "box", "sh", "-c", &format!("echo {number}; exit {number}")]))
        .collect();
    for (number, one) in running.into_iter().enumerate() {
        let outcome = one.finish(command::LIMIT).unwrap();
        assert_eq!((outcome.code, outcome.out()), (i32::try_from(number).unwrap(), format!("{number}\n")));
    }
}
