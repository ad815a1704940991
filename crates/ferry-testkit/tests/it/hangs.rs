//! What hangs, hangs alone: `ps`, `inspect`, `kill` and `rm -f` answer within two seconds meanwhile.
//!
//! A log server that is gone is in `remote_logs`.

use ferry_testkit::command::LIMIT;
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

use crate::{promptly, until, verbs_answer};

#[test]
fn a_fifo_for_the_files_of_users_is_no_reason_to_wait() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    // A container of its own, whose files are then no files.
    let _ = daemon.run(&["run", "-d", "--name", "fifo", "busybox", "sleep", "1000"]).ok();
    let swap = "rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group";
    let _ = daemon.run(&["exec", "fifo", "sh", "-c", swap]).ok();
    let named = promptly(&daemon, &["exec", "-u", "root", "fifo", "true"]);
    assert_ne!(named.code, 0, "{named}");
    let _ = promptly(&daemon, &["stop", "-t", "0", "fifo"]).ok();
    let started = promptly(&daemon, &["start", "fifo"]);
    assert_ne!(started.code, 0, "its user cannot be looked up: {started}");
    assert!(started.err().contains("it is not a regular file"), "{started}");
    verbs_answer(&daemon, "fifo");
    watch.end().unwrap();
}

#[test]
fn a_reader_that_never_reads_holds_nobody_up() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let write = "while [ ! -e /go ]; do sleep 0.05; done; yes 0123456789012345678901234567890 | head -n 300000; echo done; sleep 1000";
    let _ = daemon.run(&["run", "-d", "--name", "loud", "busybox", "sh", "-c", write]).ok();
    let readers = [
        daemon.ask_and_never_read("POST", "/containers/loud/attach?stream=1&stdout=1&stderr=1"),
        daemon.ask_and_never_read("GET", "/containers/loud/logs?follow=1&stdout=1"),
    ];
    let _ = daemon.run(&["exec", "loud", "touch", "/go"]).ok();
    until("the container to write all of it", || daemon.run(&["logs", "--tail", "1", "loud"]).out() == "done\n");
    verbs_answer(&daemon, "loud");
    drop(readers);
    watch.end().unwrap();
}

#[test]
fn a_signal_that_is_ignored_holds_only_who_waits_for_it() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let ignore = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let _ = daemon.run(&["run", "-d", "--name", "stubborn", "busybox", "sh", "-c", ignore]).ok();
    until("the trap to be set", || daemon.run(&["logs", "stubborn"]).out().contains("ready"));
    let stopping = daemon.spawn(&["stop", "-t", "600", "stubborn"]);
    until("the signal to be sent", || {
        let told = daemon.run(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]);
        told.out().lines().any(|action| action == "kill")
    });
    verbs_answer(&daemon, "stubborn");
    let _ = stopping.finish(LIMIT).unwrap();
    watch.end().unwrap();
}

#[test]
fn a_check_that_never_ends_holds_nobody_up() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let flags = ["--health-cmd", "trap '' TERM; while :; do sleep 1; done", "--health-interval", "50ms"];
    let line = [&["run", "-d", "--name", "checked"], &flags[..], &["busybox", "sleep", "1000"]].concat();
    let _ = daemon.run(&line).ok();
    until("the check to run", || daemon.inspect("checked", "{{len .ExecIDs}}") == "1");
    let _ = promptly(&daemon, &["stop", "-t", "0", "checked"]).ok();
    let _ = promptly(&daemon, &["start", "checked"]).ok();
    until("the check to run again", || daemon.inspect("checked", "{{len .ExecIDs}}") == "1");
    // A check that outlives its daemon is ended by the next, which runs one of its own.
    daemon.kill().unwrap();
    daemon.start().unwrap();
    let checks = || daemon.run(&["exec", "checked", "ps"]).out().matches("trap '' TERM").count();
    until("one check to run", || daemon.inspect("checked", "{{len .ExecIDs}}") == "1" && checks() == 1);
    let _ = promptly(&daemon, &["pause", "checked"]).ok();
    let _ = promptly(&daemon, &["unpause", "checked"]).ok();
    verbs_answer(&daemon, "checked");
    watch.end().unwrap();
}
