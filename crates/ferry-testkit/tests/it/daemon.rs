//! The daemon: its sockets, versions, flags and the end of it.

use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, Sandbox, programs};

#[test]
fn every_api_version_is_answered_and_others_are_refused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let ping = daemon.api("GET", "/_ping", None);
    assert_eq!((ping.status, ping.body.as_slice()), (200, &b"OK"[..]));
    let newest = ping.header("api-version").unwrap_or_default().to_owned();
    assert_eq!(newest, "1.56");
    assert_eq!(ping.header("ostype"), Some("linux"));
    for version in ["", "/v1.24", "/v1.41", "/v1.56"] {
        assert_eq!(daemon.api("GET", &format!("{version}/version"), None).status, 200, "{version}");
    }
    assert_eq!(daemon.api("GET", "/v1.99/version", None).status, 400);
    assert_eq!(daemon.api("GET", "/v1.23/version", None).status, 400);
    let missing = daemon.api("GET", "/v1.50/no/such/page", None);
    assert_eq!((missing.status, missing.json()["message"].as_str()), (404, Some("page not found")));
    let version = daemon.api("GET", "/version", None).json();
    assert!(version["Version"].as_str().is_some_and(|text| text.starts_with("29.")), "{version}");
    let components = version["Components"].to_string();
    assert!(components.to_lowercase().contains("ferry"), "{components}");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let body = serde_json::json!({"Image": "busybox", "HostConfig": {"CpuRealtimeRuntime": 1000, "DeviceCgroupRules": ["c 1:3 r"]}});
    let answer = daemon.api("POST", "/v1.50/containers/create", Some(&body));
    assert!(matches!(answer.status, 201 | 501), "a field is either served or refused: {answer:?}");
    for path in ["/swarm", "/nodes", "/services", "/secrets", "/plugins"] {
        let answer = daemon.api("GET", &format!("/v1.50{path}"), None);
        assert!(matches!(answer.status, 501 | 503 | 200), "{path}: {answer:?}");
        if answer.status >= 500 {
            assert!(answer.json()["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
        }
    }
}

#[test]
fn broken_requests_are_answered_in_words() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for (path, body) in [
        ("/v1.50/containers/create", serde_json::json!("text")),
        ("/v1.50/containers/create", serde_json::json!({"Image": 7})),
        ("/v1.50/containers/create", serde_json::json!({})),
    ] {
        let answer = daemon.api("POST", path, Some(&body));
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.json()["message"].is_string(), "{answer:?}");
    }
}

#[test]
fn a_client_that_is_refused_in_the_middle_of_its_body_learns_why() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let body = vec![0; 8 << 20];
    let head = format!(
        "POST /v1.999/images/load HTTP/1.1\r\nHost: ferry\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // The body is written to its end before a byte of the answer is read.
    let answer = ferry_testkit::api::raw(&daemon.socket(), &[head.as_bytes(), &body].concat()).unwrap();
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(
        answer.json()["message"].as_str().is_some_and(|text| text.contains("version 1.999 is too new")),
        "{answer:?}"
    );
}

#[test]
fn start_and_stop_leave_the_host_as_it_was() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let watch = Watch::begin(&sandbox, &["/run".into()]);
    let daemon = Daemon::ferry(&sandbox, "a");
    daemon.start().unwrap();
    assert_eq!(daemon.stop().unwrap(), 0, "{}", daemon.log());
    let report =
        watch.end_within(std::time::Duration::from_secs(5)).err().map(|error| error.to_string()).unwrap_or_default();
    let gone = |line: &&str| {
        line.starts_with("+ process")
            || line.starts_with("+ mount")
            || line.contains("a.sock")
            || line.contains("a.pid")
    };
    assert_eq!(report.lines().find(gone), None, "{report}");
}

#[test]
fn wrong_configuration_is_named() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let outcome = sandbox.sh("ferryd --no-such-flag");
    assert!(outcome.code != 0 && outcome.err().contains("--no-such-flag"), "{outcome}");
    let outcome =
        sandbox.sh("echo '{\"registry-mirorrs\": []}' >/run/d.json; ferryd --config-file /run/d.json --validate");
    assert!(outcome.code != 0, "{outcome}");
    assert!(outcome.err().contains("registry-mirorrs") && outcome.err().contains("registry-mirrors"), "{outcome}");
    let outcome = sandbox.sh("echo '{\"debug\": true, \"registry-mirrors\": [\"http://127.0.0.1:5000\"]}' >/run/d.json; ferryd --config-file /run/d.json --validate");
    assert_eq!(outcome.code, 0, "{outcome}");
    let outcome = sandbox.sh("echo '{' >/run/d.json; ferryd --config-file /run/d.json --validate");
    assert!(outcome.code != 0 && outcome.err().contains("/run/d.json"), "{outcome}");
}

#[test]
fn who_makes_cgroups_is_said_and_refused_as_in_docker() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let no_slice = "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"";
    for (words, text) in [
        ("native.cgroupdriver=foo", "native.cgroupdriver option foo not supported"),
        ("native.cgroupdriver", "invalid exec-opt (native.cgroupdriver): must be formatted 'opt=value'"),
        ("isolation=process", "invalid exec-opt (isolation=process): unknown option: 'isolation'"),
        ("native.cgroupdriver=systemd --cgroup-parent /x", no_slice),
    ] {
        let outcome = sandbox.sh(&format!("ferryd --exec-opt {words}"));
        assert!(outcome.code != 0 && outcome.err().contains(text), "{outcome}");
    }
    // No systemd runs in here; the rest is seen in the virtual machine.
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--exec-opt", "native.cgroupdriver=systemd"]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    assert_eq!(daemon.run(&["info", "-f", "{{.CgroupDriver}}"]).ok(), "systemd");
    // What is made once is there then, though nothing can run.
    assert_eq!(daemon.run(&["run", "--rm", "busybox", "true"]).code, 125);
    let watch = Watch::begin(daemon.sandbox(), &[daemon.data_root(), daemon.exec_root()]);
    for (parent, text) in [
        ("/x", no_slice),
        ("a--b.slice", "invalid slice name: a--b.slice"),
        ("x.slice", "runc create failed: systemd not running on this host, cannot use systemd cgroups manager"),
    ] {
        let outcome = daemon.run(&["run", "--rm", "--cgroup-parent", parent, "busybox", "true"]);
        assert!(outcome.code == 125 && outcome.err().contains(text), "{outcome}");
    }
    watch.end().unwrap();
}

#[test]
fn a_tcp_listener_serves_the_same_api() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["-H", "tcp://127.0.0.1:2375", "--insecure-tcp"]);
    daemon.start().unwrap();
    let answer = sandbox.http_get("127.0.0.1:2375", "/_ping").unwrap();
    assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 ") && answer.ends_with("OK"), "{answer}");
    assert!(sandbox.sh("ferry -H tcp://127.0.0.1:2375 version").ok().contains("29."));
}
