//! Flags and parameters that only a running client shows: signals, detach keys, what goes on until it is ended.

use ferry_testkit::command::LIMIT;
use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, api, programs};
use rustix::process::Signal;

use crate::{attached, until};

#[test]
fn signals_stay_with_the_client_where_that_is_asked_for() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let run = daemon.spawn(&["run", "--sig-proxy=false", "--name", "box", "busybox", "sh", "-c", script]);
    until("it to be up", || daemon.run(&["logs", "box"]).out() == "up\n");
    run.signal(Signal::TERM).unwrap();
    assert_ne!(run.finish(LIMIT).unwrap().code, 9);
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
    let attach = daemon.spawn(&["attach", "--sig-proxy=false", "box"]);
    attached(&daemon, 2);
    attach.signal(Signal::TERM).unwrap();
    assert_ne!(attach.finish(LIMIT).unwrap().code, 9);
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
    let attach = daemon.spawn(&["attach", "box"]);
    attached(&daemon, 3);
    attach.signal(Signal::TERM).unwrap();
    assert_eq!(attach.finish(LIMIT).unwrap().code, 9);
}

#[test]
fn every_command_that_attaches_takes_detach_keys() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let keys = ["--detach-keys", "ctrl-a,x"];
    let detached = |args: &[&str]| {
        let mut command = daemon.client(programs::binary("ferry").unwrap());
        command.args(args);
        let mut terminal = Terminal::start(&command).unwrap();
        terminal.keys("echo in-$((40+2))\n").unwrap();
        terminal.expect("in-42").unwrap();
        terminal.keys("\u{1}x").unwrap();
        terminal.finish().unwrap();
        assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running", "{args:?}");
    };
    detached(&["run", keys[0], keys[1], "-it", "--name", "box", "busybox", "sh"]);
    detached(&["attach", keys[0], keys[1], "box"]);
    detached(&["exec", keys[0], keys[1], "-it", "box", "sh"]);
    let _ = daemon.run(&["kill", "box"]).ok();
    detached(&["start", keys[0], keys[1], "-ai", "box"]);
}

#[test]
fn detach_keys_of_a_request_end_its_attach() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-dit", "--name", "box", "busybox", "sh"]).ok();
    let target = "/containers/box/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x";
    let answer = api::attach(&daemon.socket(), target, b"\x01x").unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
}

#[test]
fn a_quiet_copy_says_nothing_even_on_a_terminal() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["create", "--name", "box", "busybox"]).ok();
    let copied = |args: &[&str]| {
        let mut command = daemon.client(programs::binary("ferry").unwrap());
        command.args(args);
        Terminal::start(&command).unwrap().finish_showing().unwrap()
    };
    let (code, shown) = copied(&["cp", "/etc/hostname", "box:/tmp/loud"]);
    assert!(code == 0 && shown.contains("Successfully copied"), "{code} {shown:?}");
    assert_eq!(copied(&["cp", "--quiet", "/etc/hostname", "box:/tmp/quiet"]), (0, String::new()));
}

#[test]
fn figures_are_shown_once_where_that_is_asked_for() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let shown = daemon.spawn(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]).finish(LIMIT).unwrap();
    assert_eq!(shown.ok(), "box 1");
}

#[test]
fn a_start_from_a_checkpoint_is_refused_as_outside_of_experimental_mode() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["create", "--name", "one", "busybox", "true"]).ok();
    let answer = daemon.api("POST", "/containers/one/start?checkpoint=x", None);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.json()["message"], "checkpoint is only supported in experimental mode");
    for flag in ["checkpoint", "checkpoint-dir"] {
        let text = daemon.run(&["start", &format!("--{flag}=x"), "one"]).fails_with(1);
        let reason = format!("\"--{flag}\" is only supported on a Docker daemon with experimental features enabled");
        assert_eq!(text.trim(), reason);
    }
    assert_eq!(daemon.inspect("one", "{{.State.Status}}"), "created");
}
