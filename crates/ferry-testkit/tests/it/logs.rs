//! `logs`: whole, in order, live.

use std::time::Duration;

use ferry_testkit::{Daemon, programs};

use crate::until;

#[test]
fn logs_keep_streams_order_and_long_lines() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "echo one; echo two >&2; head -c 100000 /dev/zero | tr '\\0' x; echo; printf end";
    let _ = daemon.run(&["run", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let outcome = daemon.run(&["logs", "box"]);
    assert_eq!(outcome.err(), "two\n");
    let lines: Vec<String> = outcome.out().lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), lines[0].as_str(), lines[1].len(), lines[2].as_str()), (3, "one", 100_000, "end"));
    assert_eq!(daemon.run(&["logs", "--tail", "1", "box"]).out(), "end");
}

#[test]
fn the_log_file_is_dockers_json_file() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "--name", "box", "busybox", "echo", "line"]).ok();
    let path = daemon.inspect("box", "{{.LogPath}}");
    let text = std::fs::read_to_string(&path).unwrap();
    let entry: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((entry["log"].as_str(), entry["stream"].as_str()), (Some("line\n"), Some("stdout")));
    assert!(entry["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{entry}");
}

#[test]
fn follow_shows_lines_as_they_come_and_ends_with_the_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last";
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let running = daemon.spawn(&["logs", "-f", "box"]);
    until("the first line", || daemon.run(&["logs", "box"]).out() == "first\n");
    let _ = daemon.run(&["exec", "box", "touch", "/go"]).ok();
    assert_eq!(running.finish(Duration::from_secs(20)).unwrap().ok(), "first\nlast");
}

#[test]
fn a_closed_pipe_ends_the_client_quietly() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "--name", "big", "busybox", "seq", "200000"]).ok();
    let outcome = daemon.sh("ferry logs big | head -n 1");
    assert_eq!((outcome.code, outcome.out().as_str(), outcome.err().as_str()), (0, "1\n", ""));
    let outcome = daemon.sh("ferry logs big | tail -n 1; ferry logs --tail 3 big | head -n 1");
    assert_eq!(outcome.ok(), "200000\n199998");
}

#[test]
fn rotation_keeps_what_it_promises() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon
        .run(&[
            "run",
            "--name",
            "box",
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=2",
            "busybox",
            "seq",
            "5000",
        ])
        .ok();
    let lines: Vec<u32> = daemon.run(&["logs", "box"]).ok().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.last(), Some(&5000));
    assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is missing in what was kept");
    assert!(lines.len() < 1000, "{} lines were kept of two files of 10 kB", lines.len());
}
