//! Agreeing on an API version.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use ferry_client::{Client, Endpoint};

type Seen = Arc<Mutex<Vec<String>>>;

/// A daemon that speaks `newest` and writes down the request lines.
fn listen(newest: &'static str) -> (tempfile::TempDir, Client, Seen) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("d.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = Seen::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = log.clone();
            std::thread::spawn(move || serve(stream, newest, &log));
        }
    });
    let client = Client::new(Endpoint::Unix(socket.clone()), format!("unix://{}", socket.display()), "test");
    (folder, client, seen)
}

fn serve(mut stream: UnixStream, newest: &str, log: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut header = line.clone();
        while !header.trim().is_empty() {
            header.clear();
            reader.read_line(&mut header).unwrap();
        }
        log.lock().unwrap().push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        let (status, body) = if line.contains("/_ping") {
            (200, "")
        } else if line.contains(&format!("/v{newest}/")) {
            (200, "[]")
        } else {
            (400, r#"{"message":"client version 1.56 is too new. Maximum supported API version is 1.41"}"#)
        };
        let text =
            format!("HTTP/1.1 {status} X\r\nApi-Version: {newest}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).unwrap();
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_daemon_of_the_newest_version_is_not_asked() {
    let (_folder, client, seen) = listen("1.56");
    run(async { client.network_list(&Default::default()).await }).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["GET /v1.56/networks"]);
}

#[test]
fn an_older_daemon_is_asked_and_the_request_sent_again() {
    let (_folder, client, seen) = listen("1.41");
    run(async {
        client.network_list(&Default::default()).await.unwrap();
        client.network_list(&Default::default()).await.unwrap();
    });
    let expected = ["GET /v1.56/networks", "HEAD /_ping", "GET /v1.41/networks", "GET /v1.41/networks"];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(client.version().unwrap().to_string(), "1.41");
}

#[test]
fn a_pinned_version_is_kept() {
    let (_folder, client, seen) = listen("1.41");
    client.pin_version("1.41".parse().unwrap());
    run(async { client.network_list(&Default::default()).await }).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["GET /v1.41/networks"]);
}
