//! `kill -9` of the daemon, and two daemons side by side.

use ferry_testkit::command::LIMIT;
use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::plugin::Plugin;
use ferry_testkit::{Daemon, Sandbox, programs};

use crate::until;

const COUNTING: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
const WAITING: &str = "while [ ! -e /go ]; do sleep 0.02; done; exit 7";

#[test]
fn ten_containers_outlive_a_killed_daemon() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let run = |name: &str, rest: &[&str]| daemon.run(&[&["run", "-d", "--name", name], rest].concat()).ok();
    let attached = daemon.spawn(&["run", "--name", "lines", "busybox", "sh", "-c", COUNTING]);
    let _ = run("seven", &["busybox", "sh", "-c", WAITING]);
    let _ = run(
        "web",
        &["-p", "8080:80", "busybox", "sh", "-c", "mkdir /w; echo it works >/w/index.html; exec httpd -f -h /w"],
    );
    let _ = run("shell", &["-it", "busybox", "sh"]);
    let _ = run("input", &["-i", "busybox", "sh", "-c", "read line; echo got $line; exit 5"]);
    for number in 0..5 {
        let _ = run(&format!("sleeper{number}"), &["busybox", "sleep", "1000"]);
    }
    until("lines to flow", || daemon.run(&["logs", "lines"]).out().lines().count() > 20);
    until("the web server to answer", || daemon.sandbox().http_get("127.0.0.1:8080", "/").is_ok());
    let pid = |name: &str| daemon.inspect(name, "{{.State.Pid}}");
    let (lines_pid, seven_pid) = (pid("lines"), pid("seven"));

    daemon.kill().unwrap();
    let left = attached.finish(LIMIT).unwrap();
    assert_eq!(left.code, 125, "an attached client ends with 125: {left}");
    assert!(left.err().contains("unexpected EOF"), "{left}");
    let _ = daemon.sandbox().sh(&format!("touch /proc/{seven_pid}/root/go")).ok();
    until("the container to end without a daemon", || daemon.sandbox().sh(&format!("kill -0 {seven_pid}")).code != 0);
    assert!(
        daemon.sandbox().http_get("127.0.0.1:8080", "/").is_ok_and(|answer| answer.contains("it works")),
        "ports answer meanwhile"
    );
    daemon.start().unwrap();

    assert_eq!(daemon.run(&["ps", "-q"]).ok().lines().count(), 9);
    assert_eq!(daemon.inspect("lines", "{{.State.Status}} {{.State.Pid}}"), format!("running {lines_pid}"));
    assert_eq!(daemon.inspect("seven", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(daemon.run(&["wait", "seven"]).ok(), "7");
    let seen: u32 = daemon.run(&["logs", "--tail", "1", "lines"]).ok().parse().unwrap();
    until("lines to flow again", || {
        daemon.run(&["logs", "--tail", "1", "lines"]).out().trim().parse::<u32>().is_ok_and(|last| last > seen + 10)
    });
    let all = daemon.run(&["logs", "lines"]).ok();
    for (index, line) in all.lines().enumerate() {
        assert_eq!(line, (index + 1).to_string(), "the log is whole");
    }
    assert_eq!(daemon.run(&["exec", "sleeper0", "echo", "alive"]).ok(), "alive");
    // The end of an attached input ends its output, too, as in Docker: it stays open until the container has ended.
    let line =
        "(echo typed; while ferry ps -q --filter name=input | grep -q .; do sleep 0.1; done) | ferry attach input";
    let typed = daemon.sh(line);
    assert_eq!((typed.code, typed.out().as_str()), (5, "got typed\n"), "{typed}");
    let taken = daemon.run(&["run", "--rm", "--name", "lines", "-p", "8080:80", "busybox", "true"]);
    assert_eq!(taken.code, 125, "names and ports are held: {taken}");
    let all: Vec<String> = daemon.run(&["ps", "-aq"]).ok().lines().map(str::to_owned).collect();
    let mut remove = vec!["rm", "-f"];
    remove.extend(all.iter().map(String::as_str));
    let _ = daemon.run(&remove).ok();
    watch.end().unwrap();
}

#[test]
fn a_killed_daemon_forgets_no_removal() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let ids: Vec<String> =
        (0..5).map(|_| daemon.run(&["run", "-d", "--rm", "busybox", "sleep", "1000"]).ok()).collect();
    let mut kill = vec!["kill"];
    kill.extend(ids.iter().map(String::as_str));
    let killing = daemon.spawn(&kill);
    daemon.kill().unwrap();
    let _ = killing.finish(LIMIT).unwrap();
    daemon.start().unwrap();
    let left = daemon.run(&["ps", "-q"]).ok();
    if !left.is_empty() {
        // Those that were killed before may be gone by now.
        let _ = daemon.run(&[&["kill"], left.lines().collect::<Vec<_>>().as_slice()].concat());
    }
    until("removed ones to go", || daemon.run(&["ps", "-aq"]).ok().is_empty());
    watch.end().unwrap();
}

#[test]
fn containers_outlive_a_stopped_daemon_and_restart_policies_hold() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "live", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", WAITING]).ok();
    let pid = daemon.inspect("live", "{{.State.Pid}}");
    let waiting = daemon.inspect("always", "{{.State.Pid}}");
    assert_eq!(daemon.stop().unwrap(), 0, "{}", daemon.log());
    let _ = daemon.sandbox().sh(&format!("touch /proc/{waiting}/root/go")).ok();
    until("the other to end", || daemon.sandbox().sh(&format!("kill -0 {waiting}")).code != 0);
    daemon.start().unwrap();
    assert_eq!(daemon.inspect("live", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    until("the policy to start it again", || daemon.inspect("always", "{{.State.Status}}") != "exited");
    assert_ne!(daemon.inspect("always", "{{.RestartCount}}"), "");
}

#[test]
fn two_daemons_live_side_by_side() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let first = Daemon::ferry(&sandbox, "a");
    let second = Daemon::ferry(&sandbox, "b").args(&["--bridge", "ferry1"]);
    first.start().unwrap();
    first.load(&Material::get().busybox());
    let _ = first.run(&["run", "-d", "--name", "same", "-p", "8080:80", "busybox", "sleep", "1000"]).ok();
    let watch = Watch::begin(&sandbox, &[first.data_root(), first.exec_root()]);
    second.start().unwrap();
    second.load(&Material::get().busybox());
    let _ = second.run(&["run", "-d", "--name", "same", "busybox", "sleep", "1000"]).ok();
    assert_ne!(first.run(&["ps", "-q"]).ok(), second.run(&["ps", "-q"]).ok());
    let address = |daemon: &Daemon| daemon.inspect("same", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}");
    assert_ne!(address(&first), address(&second));
    let _ = second.run(&["rm", "-f", "same"]).ok();
    second.kill().unwrap();
    second.start().unwrap();
    second.stop().unwrap();
    assert_eq!(first.run(&["exec", "same", "echo", "untouched"]).ok(), "untouched");
    let report =
        watch.end_within(std::time::Duration::from_secs(5)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(!report.lines().any(|line| line.starts_with("- ")), "the other's objects were touched: {report}");
}

#[test]
fn a_second_daemon_on_the_same_data_root_is_refused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let root = daemon.data_root();
    let line = format!("ferryd --data-root {} --exec-root /run/x -p /run/x.pid -H unix:///run/x.sock", root.display());
    let outcome = daemon.sh(&line);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err().contains(&root.display().to_string()), "{outcome}");
}

#[test]
fn a_copy_that_is_cut_short_leaves_nobody_paused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = Plugin::in_sandbox(daemon.sandbox(), "sample").unwrap();
    let _ = daemon.run(&["volume", "create", "-d", "sample", "data"]).ok();
    for name in ["busy", "held"] {
        let _ = daemon.run(&["run", "-d", "--name", name, "-v", "data:/v", "busybox", "sleep", "1000"]).ok();
    }
    let status = |name: &str| daemon.inspect(name, "{{.State.Status}}");
    let _ = daemon.run(&["pause", "held"]).ok();
    let mounts = plugin.calls("VolumeDriver.Mount").len();
    plugin.hang("VolumeDriver.Mount");
    let copying = daemon.spawn(&["volume", "cp", "--pause", "data", "copy"]);
    until("the copy to begin", || plugin.calls("VolumeDriver.Mount").len() > mounts);
    assert_eq!(status("busy"), "paused");
    daemon.kill().unwrap();
    assert_ne!(copying.finish(LIMIT).unwrap().code, 0);
    plugin.relent();
    daemon.start().unwrap();
    assert_eq!((status("busy"), status("held")), ("running".to_owned(), "paused".to_owned()), "who paused it himself");
    assert_eq!(daemon.run(&["exec", "busy", "echo", "goes on"]).ok(), "goes on");
    // Somebody else's pause is none of a copy that is over.
    let _ = daemon.run(&["pause", "busy"]).ok();
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(status("busy"), "paused");
    let _ = daemon.run(&["rm", "-f", "busy", "held"]).ok();
    let _ = daemon.run(&["volume", "rm", "data"]).ok();
}
