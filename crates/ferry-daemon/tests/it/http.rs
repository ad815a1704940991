//! The protocol: versions, errors, hostile requests.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, can_start};

/// One daemon for the tests that change nothing in it; it ends with the last of them.
fn shared() -> Option<Arc<Daemon>> {
    static SHARED: OnceLock<std::sync::Mutex<Weak<Daemon>>> = OnceLock::new();
    if !can_start() {
        return None;
    }
    let mut slot =
        SHARED.get_or_init(std::sync::Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Some(slot.upgrade().unwrap_or_else(|| {
        let daemon = Arc::new(Daemon::start(&[]));
        *slot = Arc::downgrade(&daemon);
        daemon
    }))
}

#[test]
fn ping_says_who_answers() {
    let Some(daemon) = shared() else { return };
    let answer = daemon.get("/_ping");
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    for (name, value) in [
        ("Api-Version", "1.56"),
        ("Docker-Experimental", "false"),
        ("Ostype", "linux"),
        ("Server", "Docker/29.7.2 (linux)"),
        ("Builder-Version", "2"),
        ("Swarm", "inactive"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let head = daemon.exchange(b"HEAD /v1.24/_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.header("Swarm"), head.body.as_str()), (200, "inactive", ""));
}

#[test]
fn version_and_info_are_docker_like() {
    let Some(daemon) = shared() else { return };
    let version = daemon.get("/version").json();
    assert_eq!(version["ApiVersion"], "1.56");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Platform"]["Name"], "ferry");
    assert_eq!(
        (&version["Components"][0]["Name"], &version["Components"][1]["Name"]),
        (&"Engine".into(), &"ferry".into())
    );
    let info = daemon.get("/v1.56/info").json();
    assert_eq!((&info["LiveRestoreEnabled"], &info["Debug"]), (&true.into(), &true.into()));
    assert!(info.get("BridgeNfIptables").is_none() && info["RuncCommit"].get("Expected").is_none());
    let old = daemon.get("/v1.43/info").json();
    assert_eq!(old["BridgeNfIptables"], false);
    assert!(old["RuncCommit"].get("Expected").is_some() && old.get("FirewallBackend").is_none());
}

#[test]
fn errors_are_docker_s() {
    let Some(daemon) = shared() else { return };
    let message = |method: &str, path: &str, body: &str| {
        let answer = daemon.call(method, path, body);
        (answer.status, answer.message())
    };
    assert_eq!(message("GET", "/nope", ""), (404, "page not found".to_owned()));
    assert_eq!(message("PUT", "/info", ""), (404, "page not found".to_owned()));
    assert_eq!(message("POST", "/swarm/init", ""), (501, "not implemented: POST /swarm/init".to_owned()));
    assert_eq!(message("GET", "/containers/nope/json", ""), (404, "No such container: nope".to_owned()));
    assert_eq!(
        message("GET", "/v1.99/info", ""),
        (400, "client version 1.99 is too new. Maximum supported API version is 1.56".to_owned())
    );
    assert_eq!(message("GET", "/containers/json?filters=x", "").0, 400);
    assert_eq!(
        message("GET", "/containers/json?limit=x", ""),
        (400, "strconv.Atoi: parsing \"x\": invalid syntax".to_owned())
    );
    assert_eq!(message("POST", "/containers/create", "{}").1, "config cannot be empty in order to create a container");
    assert_eq!(message("POST", "/containers/create", "").1, "invalid JSON: got EOF while reading request body");
    assert_eq!(
        message("POST", "/containers/create", r#"{"HostConfig":{"memory":"1m"}}"#),
        (400, "invalid JSON: HostConfig.Memory: invalid type: string \"1m\", expected i64".to_owned())
    );
    assert_eq!(message("GET", "/containers/x/logs", "").1, "must specify at least one of 'stdout' or 'stderr'");
    assert_eq!(message("POST", "/containers/x/resize?h=1", "").1, "invalid resize width \"\": invalid syntax");
    assert_eq!(
        message("POST", "/containers/x/attach?detachKeys=ctrl-1", "").1,
        "Invalid detach keys (ctrl-1) provided"
    );
    assert_eq!(message("GET", "/plugins/x/json", ""), (404, "plugin \"x\" not found".to_owned()));
    let old = daemon.get("/v1.10/info");
    assert_eq!((old.status, old.header("Content-Type")), (400, "text/plain; charset=utf-8"));
    assert!(old.body.starts_with("client version 1.10 is too old. Minimum supported API version is 1.24, "));
}

#[test]
fn hostile_names_are_refused_and_never_a_failure() {
    let Some(daemon) = shared() else { return };
    let long = "a".repeat(300);
    for name in ["..%2F..%2Fx", ".", "a%0Ab", "%1B[31m", "%00", &long, "%ff", "a%20b"] {
        for (method, path) in [
            ("GET", format!("/containers/{name}/json")),
            ("POST", format!("/containers/{name}/start")),
            ("DELETE", format!("/containers/{name}")),
            ("GET", format!("/volumes/{name}")),
            ("DELETE", format!("/volumes/{name}")),
            ("GET", format!("/networks/{name}")),
            ("GET", format!("/images/{name}/json")),
            ("DELETE", format!("/images/{name}")),
            ("GET", format!("/exec/{name}/json")),
        ] {
            let answer = daemon.call(method, &path, "");
            assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
    // The control: a name that is fine.
    let created = daemon.call("POST", "/volumes/create", r#"{"Name":"fine"}"#);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"Name":"../../x"}"#).status, 400);
    assert_eq!(daemon.call("DELETE", "/volumes/fine", "").status, 204);
}

#[test]
fn bodies_must_say_that_they_are_json() {
    let Some(daemon) = shared() else { return };
    let answer = daemon.exchange(
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    );
    assert_eq!(answer.status, 400);
    assert_eq!(answer.message(), "unsupported Content-Type header (text/plain): must be 'application/json'");
}

#[test]
fn ambiguous_requests_end_their_connection() {
    let Some(daemon) = shared() else { return };
    let post = "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n";
    let smuggled = "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n";
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "Content-Length : 4\r\n\r\n",
    ] {
        let answer = daemon.exchange(format!("{post}{lengths}0\r\n\r\n{smuggled}").as_bytes());
        assert_eq!(answer.status, 400, "{lengths:?}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1 200"), "{answer:?}");
    }
    // The control: one length, and the next request on the same connection.
    let one = format!("{post}Content-Length: 2\r\n\r\n[]GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
    let answer = daemon.exchange(one.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("HTTP/1.1 200 OK"), "{answer:?}");
}

/// Clients of Go's complain of a broken body beside the answer when it comes before they have sent all.
#[test]
fn who_is_refused_early_is_heard_out() {
    let Some(daemon) = shared() else { return };
    let next = "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let ask = |more: &str, size: usize| {
        let body = " ".repeat(size);
        let head = format!("POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\n{more}");
        daemon.exchange(format!("{head}Content-Length: {size}\r\n\r\n{body}{next}").as_bytes())
    };
    let answer = ask("", 100_000);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("HTTP/1.1 200 OK"), "the next request is answered: {answer:?}");
    // But not for ever, and not who has been told to wait with it.
    for answer in [ask("", 3_000_000), ask("Expect: 100-continue\r\n", 10)] {
        assert_eq!(answer.status, 400);
        assert!(!answer.body.contains("HTTP/1.1"), "{answer:?}");
    }
}

#[test]
fn bodies_are_bounded() {
    let Some(daemon) = shared() else { return };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let mut stream = daemon.connect();
    let head = "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 629145600\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let blank = vec![b' '; 1 << 20];
    let sent = (0..600).take_while(|_| stream.write_all(&blank).is_ok()).count();
    assert!(sent < 600, "the daemon hangs up on a body that never ends");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
    assert!(resident() < before + (32 << 10), "{before} kB before, {} kB after", resident());
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let Some(daemon) = shared() else { return };
    let mut stream = daemon.connect();
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n").unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(8) && waited < Duration::from_secs(40), "{waited:?}");
}

#[test]
fn events_answer_at_once_and_follow() {
    let Some(daemon) = shared() else { return };
    let mut stream = daemon.connect();
    stream.write_all(b"GET /v1.51/events?filters={%22volume%22:[%22seen%22]} HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    // A client that sends no more is still there.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\r\n\r\n") {
        let read = stream.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(text.contains("Content-Type: application/json"), "{text}");
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"name":"seen"}"#).status, 201);
    while !text.contains("\"Action\":\"create\"") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert_eq!(daemon.call("DELETE", "/volumes/seen", "").status, 204);
    assert_eq!(daemon.get("/events?since=2&until=1").message(), "`since` time (2) cannot be after `until` time (1)");
}

#[test]
fn streams_end_with_their_client() {
    let Some(daemon) = shared() else { return };
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = descriptors();
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = daemon.connect();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
            let mut first = [0; 15];
            stream.read_exact(&mut first).unwrap();
            stream
        })
        .collect();
    assert!(descriptors() >= before + 40);
    drop(clients);
    daemon.until("the sockets of clients that left are closed", || descriptors() < before + 20);
}
