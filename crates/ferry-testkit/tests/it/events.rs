//! `events`: what is told, to whom, since when and until when.

use ferry_testkit::command::LIMIT;
use ferry_testkit::{Daemon, programs};

use crate::until;

/// Type and action of each event of the past that fits.
fn past(daemon: &Daemon, more: &[&str]) -> Vec<String> {
    let now = daemon.sandbox().sh("date +%s.%N").ok();
    let format = ["--since", "0", "--until", &now, "--format", "{{.Type}} {{.Action}}"];
    let all = [&["events"][..], &format, more].concat();
    daemon.run(&all).ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_life_is_told_in_order_with_its_attributes() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let live = daemon.spawn(&["events", "--format", "{{json .}}", "--filter", "event=destroy"]);
    let _ = daemon
        .run(&["run", "-d", "--name", "box", "-v", "data:/data:ro", "-l", "a=b", "busybox", "sleep", "1000"])
        .ok();
    let _ = daemon.run(&["exec", "box", "true"]).ok();
    let _ = daemon.run(&["rename", "box", "other"]).ok();
    let _ = daemon.run(&["kill", "-s", "KILL", "other"]).ok();
    until("the end", || daemon.inspect("other", "{{.State.Running}}") == "false");
    let _ = daemon.run(&["rm", "other"]).ok();
    let _ = daemon.run(&["volume", "rm", "data"]).ok();
    let told = past(&daemon, &["--filter", "type=container", "--filter", "type=volume", "--filter", "type=network"]);
    let expected = [
        "volume create",
        "container create",
        "network connect",
        "volume mount",
        "container start",
        "container exec_create: true ",
        "container exec_start: true ",
        "container exec_die",
        "container rename",
        "container kill",
        "network disconnect",
        "volume unmount",
        "container die",
        "container destroy",
        "volume destroy",
    ];
    assert_eq!(told, expected);
    let attributes = |filters: &[&str], key: &str| {
        let now = daemon.sandbox().sh("date +%s.%N").ok();
        let template = format!("{{{{index .Actor.Attributes {key:?}}}}}");
        let all = [&["events", "--since", "0", "--until", &now, "--format", &template][..], filters].concat();
        daemon.run(&all).ok()
    };
    for (event, key, value) in [
        ("die", "exitCode", "137"),
        ("kill", "signal", "9"),
        ("rename", "oldName", "/box"),
        ("destroy", "name", "other"),
        ("start", "image", "busybox"),
        ("start", "a", "b"),
        ("mount", "destination", "/data"),
        ("mount", "read/write", "false"),
        ("connect", "type", "bridge"),
        ("exec_die", "exitCode", "0"),
    ] {
        let filter = format!("event={event}");
        let filters =
            ["--filter", &filter, "--filter", "type=container", "--filter", "type=volume", "--filter", "type=network"];
        assert_eq!(attributes(&filters, key).lines().next(), Some(value), "{event} {key}");
    }
    live.signal(rustix::process::Signal::INT).unwrap();
    let out = live.finish(LIMIT).unwrap().out();
    let destroyed: serde_json::Value = serde_json::from_str(out.lines().next().unwrap_or_default()).unwrap();
    assert_eq!((destroyed["Action"].as_str(), destroyed["scope"].as_str()), (Some("destroy"), Some("local")));
}

#[test]
fn filters_and_times_choose() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for name in ["web1", "db"] {
        let _ = daemon.run(&["create", "--name", name, "-l", &format!("role={name}"), "busybox"]).ok();
    }
    let count = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        past(&daemon, &filters).len()
    };
    for (filters, expected) in [
        (&["type=container"][..], 2),
        (&["container=web"], 1),
        (&["container=web1", "container=db"], 2),
        (&["label=role=db"], 1),
        (&["label=role"], 2),
        (&["image=busybox", "event=create"], 2),
        (&["event=create", "container=nobody"], 0),
        (&["scope=swarm"], 0),
        (&["daemon=nobody"], 0),
        (&["volume=nobody"], 0),
        (&["network=nobody"], 0),
        (&["plugin=nobody"], 0),
        (&["node=nobody"], 0),
        (&["service=nobody"], 0),
        (&["secret=nobody"], 0),
        (&["config=nobody"], 0),
    ] {
        assert_eq!(count(filters), expected, "{filters:?}");
    }
    let lines = |since: &str, until: &str| {
        let now = daemon.sandbox().sh(&format!("date -d '{until}' +%Y-%m-%dT%H:%M:%SZ")).ok();
        daemon.run(&["events", "--since", since, "--until", &now, "--filter", "type=container"]).ok().lines().count()
    };
    for since in ["1h", "0", "2020-01-01", "2020-01-01T00:00", "2020-01-01T00:00:00.5Z", "2020-01-01T00:00:00+01:00"] {
        assert_eq!(lines(since, "now + 1 second"), 2, "{since}");
    }
    assert_eq!(lines("2h", "now - 1 hour"), 0);
    let line = daemon.run(&["events", "--since", "1h", "--until", "0s", "--filter", "container=db"]).ok();
    assert!(line.contains(" container create ") && line.ends_with("(image=busybox, name=db, role=db)"), "{line}");
    let bad = daemon.api("GET", "/events?since=x", None);
    let text = "invalid value for 'since': invalid timestamp \"x\": invalid seconds \"x\": invalid syntax";
    assert_eq!((bad.status, bad.json()["message"].as_str()), (400, Some(text)));
    let crossed = daemon.api("GET", "/events?since=5&until=4", None);
    let text = "`since` time (5) cannot be after `until` time (4)";
    assert_eq!((crossed.status, crossed.json()["message"].as_str()), (400, Some(text)));
    // The past is told again after a restart of the daemon.
    let _ = daemon.stop().unwrap();
    daemon.start().unwrap();
    assert_eq!(count(&["type=container"]), 2);
}
