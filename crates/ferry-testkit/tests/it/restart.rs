//! Restart policies: back-off, counts, and who wins over them.

use ferry_testkit::command::LIMIT;
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

use crate::until;

fn state(daemon: &Daemon, name: &str) -> String {
    daemon.inspect(name, "{{.State.Status}} {{.State.Running}} {{.State.Restarting}}")
}

fn create(daemon: &Daemon, name: &str, policy: &str, command: &str) {
    let _ = daemon.run(&["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", command]).ok();
}

#[test]
fn failures_are_tried_again_so_often_and_no_more() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    create(&daemon, "three", "on-failure:3", "echo run; exit 5");
    until("it to give up", || state(&daemon, "three") == "exited false false");
    assert_eq!(daemon.inspect("three", "{{.RestartCount}} {{.State.ExitCode}}"), "3 5");
    assert_eq!(daemon.run(&["logs", "three"]).ok().lines().count(), 4);
    let why = daemon.run(&["why", "three"]).ok();
    assert!(why.contains("its policy gave up after 3 restarts") && why.contains("| run"), "{why}");
    let _ = daemon.run(&["start", "three"]).ok();
    until("it to give up again", || daemon.run(&["logs", "three"]).out().lines().count() == 8);
    create(&daemon, "fine", "on-failure", "exit 0");
    until("a success to be left alone", || state(&daemon, "fine") == "exited false false");
    assert_eq!(daemon.inspect("fine", "{{.RestartCount}}"), "0");
    let _ = daemon.run(&["rm", "-f", "three", "fine"]).ok();
    watch.end().unwrap();
}

#[test]
fn a_wait_between_runs_can_be_ended() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    for name in ["stopped", "killed", "removed", "started"] {
        create(&daemon, name, "always", "exit 3");
    }
    // The seventh delay is 6.4 s long, and each after it twice as long as the one before.
    let waits = |name: &str| {
        until(&format!("{name} to wait"), || {
            let state = daemon.inspect(name, "{{.RestartCount}} {{.State.Restarting}}");
            state.strip_suffix(" true").is_some_and(|count| count.parse().is_ok_and(|count: u32| count >= 7))
        });
    };
    waits("stopped");
    assert_eq!(state(&daemon, "stopped"), "restarting true true");
    assert!(
        daemon.run(&["ps", "--filter", "name=stopped", "--format", "{{.Status}}"]).ok().starts_with("Restarting (3)")
    );
    let paused = daemon.run(&["pause", "stopped"]);
    assert!(paused.fails_with(1).contains("is restarting, wait until the container is running"), "{paused}");
    let exec = daemon.run(&["exec", "stopped", "true"]);
    assert!(exec.fails_with(1).contains("is restarting, wait until the container is running"), "{exec}");
    let _ = daemon.run(&["stop", "stopped"]).ok();
    assert_eq!(state(&daemon, "stopped"), "exited false false");
    waits("killed");
    let _ = daemon.run(&["kill", "killed"]).ok();
    assert_eq!(state(&daemon, "killed"), "exited false false");
    waits("removed");
    let _ = daemon.run(&["rm", "-f", "removed", "started"]).ok();
    assert_eq!(daemon.run(&["ps", "-a", "--format", "{{.Names}}"]).ok().lines().count(), 2);
    // These two are started again with the daemon, and are removed however that goes.
    daemon.kill().unwrap();
    daemon.start().unwrap();
    let _ = daemon.run(&["rm", "-f", "stopped", "killed"]).ok();
    watch.end().unwrap();
}

#[test]
fn a_stop_by_hand_outlives_the_daemon_for_unless_stopped_alone() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("kept", "unless-stopped")] {
        create(&daemon, name, policy, "trap 'exit 0' TERM; while :; do sleep 0.05; done");
    }
    let _ = daemon.run(&["stop", "always", "unless"]).ok();
    assert_eq!(state(&daemon, "unless"), "exited false false", "a stop wins over its policy");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    until("`always` to run again", || state(&daemon, "always") == "running true false");
    assert_eq!(state(&daemon, "unless"), "exited false false");
    assert_eq!(state(&daemon, "kept"), "running true false");
    // A signal that does not end it is no stop.
    let _ = daemon.run(&["kill", "-s", "WINCH", "kept"]).ok();
    assert_eq!(state(&daemon, "kept"), "running true false");
}

#[test]
fn a_restart_keeps_what_goes_with_its_end() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["run", "-d", "--rm", "--name", "gone", "--init", "busybox", "sleep", "1000"]).ok();
    let id = daemon.inspect("gone", "{{.Id}}");
    let _ = daemon.run(&["restart", "gone"]).ok();
    assert_eq!(daemon.inspect("gone", "{{.Id}} {{.State.Status}}"), format!("{id} running"));
    let missing = daemon.run(&["restart", "no-such"]);
    assert!(missing.fails_with(1).contains("No such container: no-such"), "{missing}");
    let _ = daemon.run(&["stop", "gone"]).ok();
    until("it to go", || daemon.run(&["ps", "-aq"]).ok().is_empty());
    watch.end().unwrap();
}

#[test]
fn init_passes_signals_on_and_reaps() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let command = "(sleep 0.01 &); trap 'echo got it; exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let _ = daemon.run(&["run", "-d", "--name", "box", "--init", "busybox", "sh", "-c", command]).ok();
    until("the trap to be set", || daemon.run(&["logs", "box"]).out().contains("ready"));
    until("the orphan to be reaped", || {
        let listed = daemon.run(&["exec", "box", "ps", "-o", "ppid,stat,comm"]).ok();
        !listed.lines().any(|line| line.trim().starts_with("1 ") && line.contains("sleep"))
    });
    let stopped = daemon.run(&["stop", "box"]);
    assert_eq!((stopped.code, stopped.err().as_str()), (0, ""), "{stopped}");
    assert_eq!(daemon.inspect("box", "{{.State.ExitCode}}"), "6", "{}", daemon.run(&["why", "box"]).out());
    assert_eq!(daemon.run(&["logs", "box"]).ok(), "ready\ngot it");
    let killed = daemon.spawn(&["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.finish(LIMIT).unwrap().code, 137);
}
