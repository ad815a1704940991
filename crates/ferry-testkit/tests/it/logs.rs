//! `logs`: whole, in order, live.

use ferry_testkit::command::LIMIT;
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
fn details_and_times_stand_before_lines_in_every_local_driver() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for driver in ["json-file", "local"] {
        let options = ["--log-driver", driver, "--log-opt", "labels=com.x", "--log-opt", "env-regex=^COL"];
        let more = ["--log-opt", "tag={{.Name}}/{{.ID}}", "-l", "com.x=a b", "-e", "COLOR=red"];
        let name = format!("box-{driver}");
        let script = "echo one; echo two >&2; sleep 0.3; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end";
        let run = [&["run", "--name", &name][..], &options, &more, &["busybox", "sh", "-c", script]].concat();
        let _ = daemon.run(&run).ok();
        let short = daemon.inspect(&name, "{{.Id}}")[..12].to_owned();
        let expected = format!("COLOR=red,com.x=a+b,tag={name}%2F{short} one\n");
        let outcome = daemon.run(&["logs", "--details", &name]);
        assert!(outcome.out().starts_with(&expected), "{driver}: {} {:.200}", outcome.err(), outcome.out());
        let times = daemon.run(&["logs", "-t", "--tail", "1", &name]).out();
        assert!(times.len() == 34 && times.ends_with("Z end"), "{times:?}");
        let plain = daemon.run(&["logs", &name]);
        let lengths: Vec<usize> = plain.out().lines().map(str::len).collect();
        assert_eq!((plain.err().as_str(), lengths), ("two\n", vec![3, 20_000, 3]), "{driver}");
        let since = daemon.api("GET", &format!("/v1.54/containers/{name}/logs?stdout=1&format=json&tail=2"), None);
        assert_eq!(since.header("content-type"), Some("application/x-ndjson"));
        let last: serde_json::Value =
            serde_json::from_slice(since.body.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
        assert_eq!((last["Line"].as_str(), last["Source"].as_str()), (Some("end"), Some("stdout")));
        assert_eq!(last["MetaData"]["Ordinal"].as_u64(), (driver == "local").then_some(1));
    }
    assert!(daemon.inspect("box-json-file", "{{.LogPath}}").ends_with("-json.log"));
    assert_eq!(daemon.inspect("box-local", "{{.LogPath}}"), "");
}

#[test]
fn local_logs_turn_over_compressed() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let options = ["--log-driver", "local", "--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
    let run = [&["run", "--name", "box"][..], &options, &["busybox", "seq", "20000"]].concat();
    let _ = daemon.run(&run).ok();
    let id = daemon.inspect("box", "{{.Id}}");
    let folder = daemon.sandbox().host_path(daemon.data_root().join("containers").join(&id).join("local-logs"));
    until("the rotated files to be compressed", || {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names == ["container.log", "container.log.1.gz", "container.log.2.gz"]
    });
    let lines: Vec<u32> = daemon.run(&["logs", "box"]).ok().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.last(), Some(&20_000));
    assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is missing in what was kept");
    assert_eq!(daemon.run(&["logs", "-n", "2", "box"]).ok(), "19999\n20000");
}

#[test]
fn log_options_are_checked_before_anything_is_made() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let prefix = "failed to create task for container: failed to initialize logging driver: ";
    for (driver, option, expected) in [
        ("nope", "x=1", "error looking up logging plugin nope: plugin \"nope\" not found".to_owned()),
        ("json-file", "x=1", "unknown log opt 'x' for json-file log driver".to_owned()),
        ("json-file", "mode=x", "logger: logging mode not supported: x".to_owned()),
        ("json-file", "max-size=x", format!("{prefix}invalid size: 'x'")),
        ("json-file", "max-file=0", format!("{prefix}max-file cannot be less than 1")),
        (
            "local",
            "compress=x",
            format!("{prefix}invalid boolean value for compress: strconv.ParseBool: parsing \"x\": invalid syntax"),
        ),
        ("syslog", "syslog-address=http://h", "unsupported scheme: 'http'".to_owned()),
        ("gelf", "gelf-address=udp://h", "gelf: please provide gelf-address as proto://host:port".to_owned()),
        ("json-file", "tag={{.Nope}}", String::new()),
    ] {
        let outcome = daemon.run(&["create", "--log-driver", driver, "--log-opt", option, "busybox"]);
        let text = outcome.fails_with(1);
        assert!(text.contains(&format!("Error response from daemon: {expected}")), "{driver} {option}: {text}");
    }
    assert_eq!(daemon.run(&["ps", "-aq"]).ok(), "");
    let info = daemon.run(&["info", "--format", "{{json .Plugins.Log}}"]).ok();
    assert_eq!(info, r#"["fluentd","gelf","journald","json-file","local","syslog"]"#);
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
    // The container may end before the program that lets it.
    let _ = daemon.run(&["exec", "box", "touch", "/go"]);
    assert_eq!(running.finish(LIMIT).unwrap().ok(), "first\nlast");
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
