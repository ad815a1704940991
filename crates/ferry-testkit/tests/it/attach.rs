//! `attach`: output from now on, input, and the exit code.

use std::io::{Read, Write};

use ferry_testkit::command::LIMIT;
use ferry_testkit::strip::Strip;
use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, programs};

use crate::until;

#[test]
fn attach_gives_output_and_the_exit_code() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo said; exit 6";
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let running = daemon.spawn(&["attach", "box"]);
    crate::attached(&daemon, 1);
    // The container may end before the program that lets it.
    let _ = daemon.run(&["exec", "box", "touch", "/go"]);
    let outcome = running.finish(LIMIT).unwrap();
    assert_eq!((outcome.code, outcome.out().as_str()), (6, "said\n"), "{outcome}");
}

#[test]
fn start_attached_gives_output_and_the_exit_code() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["create", "--name", "box", "-i", "busybox", "sh", "-c", "cat; exit 2"]).ok();
    let outcome = daemon.run_with_input(&["start", "-a", "-i", "box"], b"typed\n");
    assert_eq!((outcome.code, outcome.out().as_str()), (2, "typed\n"), "{outcome}");
}

#[test]
fn two_attached_clients_see_the_same_and_one_may_leave() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "-i", "-t", "--name", "box", "busybox", "sh"]).ok();
    let mut attach = daemon.client(programs::binary("ferry").unwrap());
    attach.args(["attach", "box"]);
    let mut first = Terminal::start(&attach).unwrap();
    let mut second = Terminal::start(&attach).unwrap();
    crate::attached(&daemon, 2);
    first.keys("echo to-$((40+2))\n").unwrap();
    first.expect("to-42").unwrap();
    second.expect("to-42").unwrap();
    first.keys("\u{10}\u{11}").unwrap();
    first.expect("read escape sequence").unwrap();
    assert_eq!(first.finish().unwrap(), 1, "detached");
    second.keys("exit 3\n").unwrap();
    assert_eq!(second.finish().unwrap(), 3);
}

/// A WebSocket by hand: what it takes to be a web page.
struct WebSocket {
    stream: std::os::unix::net::UnixStream,
}

impl WebSocket {
    fn open(daemon: &Daemon, query: &str) -> Self {
        let target = format!("/v1.55/containers/box/attach/ws?{query}");
        let strip = Strip::asked();
        assert!(!strip.as_ref().is_some_and(|strip| strip.is_endpoint("GET", &target)), "the endpoint is ignored");
        let target = strip.map_or_else(|| target.clone(), |strip| strip.target("GET", &target));
        let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = "Host: ferry\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(stream, "GET {target} HTTP/1.1\r\n{head}\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        Self { stream }
    }

    fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        let masked: Vec<u8> = text.bytes().map(|byte| byte ^ 0x55).collect();
        self.stream.write_all(&[&[0x81, 0x80 | length, 0x55, 0x55, 0x55, 0x55][..], &masked].concat()).unwrap();
    }

    /// Reads messages to the close of the other side.
    fn rest(&mut self) -> String {
        let mut text = Vec::new();
        loop {
            let (kind, payload) = self.message();
            if kind == 0x88 {
                return String::from_utf8(text).unwrap();
            }
            assert_eq!(kind, 0x82, "a binary message");
            text.extend(payload);
        }
    }

    /// One message: its first byte and what it holds.
    fn message(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.stream.read_exact(&mut long).unwrap();
            length = usize::from(u16::from_be_bytes(long));
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }
}

#[test]
fn a_web_page_attaches_by_websocket() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let make = |script: &str| {
        let _ = daemon.run(&["rm", "-f", "box"]);
        let _ = daemon.run(&["run", "-di", "--name", "box", "busybox", "sh", "-c", script]).ok();
    };
    let said = "read a; echo out-$a; sleep 0.2; echo err-$a >&2; read b; exit 3";
    make(said);
    let mut socket = WebSocket::open(&daemon, "stream=1&stdin=1&stdout=1&stderr=1");
    socket.send("typed\n");
    until("both lines", || {
        let logs = daemon.run(&["logs", "box"]);
        (logs.out(), logs.err()) == ("out-typed\n".to_owned(), "err-typed\n".to_owned())
    });
    socket.send("done\n");
    assert_eq!(socket.rest(), "out-typed\nerr-typed\n");
    let mut replayed = WebSocket::open(&daemon, "logs=1&stdout=1&stderr=1");
    assert_eq!(replayed.rest(), "out-typed\nerr-typed\n");
    assert_eq!(WebSocket::open(&daemon, "logs=1&stderr=1").rest(), "err-typed\n");
    // Without `stream` there is nothing but what was logged.
    assert_eq!(WebSocket::open(&daemon, "stdout=1").rest(), "");
    let answer = daemon.api("GET", "/containers/box/attach/ws?stream=1", None);
    assert_eq!(answer.status, 400, "{answer:?}");
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
    let _ = daemon.run(&["run", "-dit", "--name", "box", "busybox", "sh"]).ok();
    let mut socket = WebSocket::open(&daemon, "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x");
    socket.send("\u{1}x");
    let _ = socket.rest();
    let mut rest = Vec::new();
    socket.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "nothing follows a close");
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
}
