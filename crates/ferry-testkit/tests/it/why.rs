//! `why`, and the stop of a process that cannot hear.

use std::time::{Duration, Instant};

use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::{Daemon, programs};
use serde_json::json;

use crate::until;

fn why(daemon: &Daemon, name: &str) -> (String, String) {
    let text = daemon.run(&["why", "--format", "json", name]).ok();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    (answer["Cause"].as_str().unwrap().to_owned(), text)
}

fn ended(daemon: &Daemon, name: &str) {
    until(&format!("{name} to end"), || daemon.inspect(name, "{{.State.Status}}") == "exited");
}

#[test]
fn a_process_that_cannot_hear_is_killed_at_once() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run = |name: &str, flags: &[&str], command: &str| {
        let _ = daemon.run(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", command]].concat()).ok();
    };
    run("deaf", &[], "while :; do sleep 0.05; done");
    run("polite", &[], "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    run("patient", &["--stop-timeout", "1"], "while :; do sleep 0.05; done");
    run("api", &["--stop-timeout", "1"], "while :; do sleep 0.05; done");
    let begun = Instant::now();
    let stopped = daemon.run(&["stop", "deaf"]);
    assert_eq!((stopped.code, stopped.out().as_str()), (0, "deaf\n"), "{stopped}");
    assert!(stopped.err().contains("deaf: process 1 (sh) cannot receive SIGTERM"), "{stopped}");
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waited for the ten seconds to pass");
    assert_eq!(daemon.inspect("deaf", "{{.State.ExitCode}}"), "137");
    let (cause, text) = why(&daemon, "deaf");
    assert_eq!(cause, "stop-deaf");
    assert!(text.contains("ferry (pid ") && text.contains("--init"), "{text}");

    let _ = daemon.run(&["start", "deaf"]).ok();
    let (first, begun) = (daemon.inspect("deaf", "{{.State.Pid}}"), Instant::now());
    let restarted = daemon.run(&["restart", "deaf"]);
    assert_eq!((restarted.code, restarted.out().as_str()), (0, "deaf\n"), "{restarted}");
    assert!(restarted.err().contains("deaf: process 1 (sh) cannot receive SIGTERM"), "{restarted}");
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waited for the ten seconds to pass");
    assert_ne!(daemon.inspect("deaf", "{{.State.Pid}}"), first);

    until("the trap to be set", || daemon.run(&["logs", "polite"]).out().contains("ready"));
    let stopped = daemon.run(&["stop", "polite"]);
    assert_eq!((stopped.code, stopped.err().as_str()), (0, ""), "{stopped}");
    assert_eq!(daemon.inspect("polite", "{{.State.ExitCode}}"), "3");
    assert_eq!(why(&daemon, "polite").0, "stop");
    // Who said how long to wait is waited for, and clients of Docker get what Docker does.
    let stopped = daemon.run(&["stop", "patient"]);
    assert_eq!((stopped.code, stopped.err().as_str()), (0, ""), "{stopped}");
    assert_eq!(why(&daemon, "patient").0, "stop-timeout");
    assert_eq!(daemon.api("POST", "/v1.45/containers/api/stop", None).status, 204);
    assert_eq!(why(&daemon, "api").0, "stop-timeout");
}

#[test]
fn ends_are_told_apart() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run = |name: &str, command: &str| {
        let _ = daemon.run(&["run", "-d", "--name", name, "busybox", "sh", "-c", command]).ok();
    };
    let _ = daemon.run(&["create", "--name", "created", "busybox"]).ok();
    assert_eq!(why(&daemon, "created").0, "never-started");
    run("runs", "sleep 1000");
    assert_eq!(why(&daemon, "runs").0, "running");
    let _ = daemon.run(&["kill", "runs"]).ok();
    let (cause, text) = why(&daemon, "runs");
    assert!(cause == "signal" && text.contains("SIGKILL was sent by ferry (pid "), "{text}");

    run("foreign", "sleep 1000");
    let pid = daemon.inspect("foreign", "{{.State.Pid}}");
    let _ = daemon.sandbox().sh(&format!("kill -9 {pid}")).ok();
    ended(&daemon, "foreign");
    let (cause, text) = why(&daemon, "foreign");
    assert!(cause == "signal" && text.contains("ferry did not send it"), "{text}");

    run("code", "echo the last words; exit 4");
    run("shell", "no-such-program");
    run("below", "sh -c 'kill -11 $$'; exit $?");
    let _ = daemon.run(&["run", "-d", "--name", "lone", "busybox", "sh"]).ok();
    for name in ["code", "shell", "below", "lone"] {
        ended(&daemon, name);
    }
    let (cause, text) = why(&daemon, "code");
    assert!(cause == "exit" && text.contains("the last words"), "{text}");
    assert_eq!(why(&daemon, "shell").0, "missing-command");
    let (cause, text) = why(&daemon, "below");
    assert!(cause == "signal" && text.contains("SIGSEGV"), "{text}");
    let (cause, text) = why(&daemon, "lone");
    assert!(cause == "finished" && text.contains("-it"), "{text}");

    for (name, command, cause) in [
        ("missing", "no-such-command", "missing-command"),
        ("path", "/no/such/path", "missing-command"),
        ("plain", "/etc/passwd", "not-executable"),
    ] {
        assert_ne!(daemon.run(&["run", "--name", name, "busybox", command]).code, 0);
        assert_eq!(why(&daemon, name).0, cause, "{command}");
    }
    let unknown = daemon.run(&["why", "no-such"]);
    assert!(unknown.fails_with(1).contains("No such container: no-such"), "{unknown}");
}

#[test]
fn programs_that_the_kernel_refuses_are_looked_at() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let mut arm = vec![0_u8; 120];
    arm[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    arm[16] = 2;
    arm[18] = 183;
    let layer = Layer::default()
        .file("arm", 0o755, &arm)
        .file("perl", 0o755, b"#!/usr/bin/perl\n")
        .file("windows", 0o755, b"#!/bin/sh\r\n")
        .file("bare", 0o755, b"echo no first line\n")
        .into_tar();
    let image = Image::build("amd64", &json!({}), vec![layer], Compression::Gzip, Dialect::Oci).unwrap();
    let archive = daemon.sandbox().dir().join("odd.tar");
    std::fs::write(&archive, image.archive(&["odd:latest"])).unwrap();
    daemon.load(&archive);
    for (program, cause, part) in [
        ("arm", "wrong-architecture", "a program for arm64"),
        ("perl", "missing-interpreter", "`/usr/bin/perl`, which the image lacks"),
        ("windows", "missing-interpreter", "carriage return"),
        ("bare", "not-a-program", "does not begin with `#!`"),
    ] {
        let _ = daemon.run(&["run", "--name", program, "odd", &format!("/{program}")]);
        let (found, text) = why(&daemon, program);
        assert!(found == cause && text.contains(part), "{program}: {text}");
    }
}

#[test]
fn a_memory_kill_is_told_with_its_limit() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    if daemon.run(&["info", "--format", "{{.MemoryLimit}}"]).ok() != "true" {
        let _ = programs::need("a memory controller", false);
        return;
    }
    let eat = "x=a; while :; do x=$x$x; done";
    let run = ["run", "--name", "fat", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", eat];
    assert_eq!(daemon.run(&run).code, 137);
    let (cause, text) = why(&daemon, "fat");
    assert!(cause == "memory" && text.contains("the memory limit of 16 MiB killed"), "{text}");
}
