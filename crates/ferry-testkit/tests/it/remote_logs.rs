//! Log drivers that send lines elsewhere, against small servers in the test itself.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

use ferry_testkit::command::LIMIT;
use ferry_testkit::{Daemon, programs};

use crate::{promptly, until, verbs_answer};

fn udp(daemon: &Daemon) -> (UdpSocket, String) {
    let socket = daemon.sandbox().udp("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    (socket, address)
}

fn tcp(daemon: &Daemon) -> (TcpListener, String) {
    let listener = daemon.sandbox().listen("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let accepted = ferry_testkit::wait::until("a connection", LIMIT, || listener.accept().ok());
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    let count = socket.recv(&mut buffer).expect("a datagram comes");
    buffer[..count].to_vec()
}

/// Reads until `text` has come; returns all.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&read).contains(text) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => panic!("no `{text}` in {:?}", String::from_utf8_lossy(&read)),
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[test]
fn syslog_gets_messages_and_logs_still_work() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let (socket, address) = udp(&daemon);
    let (address, script) = (format!("syslog-address={address}"), "echo said; echo failed >&2");
    let common = ["--log-driver", "syslog", "--log-opt", &address];
    let run = |more: &[&str]| {
        let head = [&["run", "--name", "box"][..], &common, more].concat();
        daemon.run(&[&head[..], &["busybox", "sh", "-c", script]].concat())
    };
    let more = ["--log-opt", "syslog-facility=local3", "--log-opt", "syslog-format=rfc5424micro"];
    let tag = ["--log-opt", "tag={{.Name}}/{{.ImageName}}"];
    assert_eq!(run(&[&more[..], &tag].concat()).out(), "said\n");
    let mut messages = [datagram(&socket), datagram(&socket)].map(|bytes| String::from_utf8(bytes).unwrap());
    messages.sort();
    assert!(messages[0].starts_with("<155>1 2") && messages[0].ends_with(" box/busybox - failed\n"), "{messages:?}");
    assert!(messages[1].starts_with("<158>1 2") && messages[1].ends_with(" box/busybox - said\n"), "{messages:?}");
    let logs = daemon.run(&["logs", "box"]);
    assert_eq!((logs.out(), logs.err()), ("said\n".to_owned(), "failed\n".to_owned()));
    assert_eq!(daemon.inspect("box", "{{.LogPath}}"), "");

    let _ = daemon.run(&["rm", "box"]).ok();
    assert_eq!(run(&["--log-opt", "cache-disabled=true"]).out(), "said\n");
    let texts = [datagram(&socket), datagram(&socket)].map(|bytes| String::from_utf8(bytes).unwrap());
    let id = daemon.inspect("box", "{{.Id}}");
    assert!(texts.iter().all(|text| text.contains(&format!(" {}[", &id[..12]))), "{texts:?}");
    let refused = daemon.run(&["logs", "box"]).fails_with(1);
    assert_eq!(refused, "Error response from daemon: configured logging driver does not support reading");
}

#[test]
fn fluentd_gets_messages_while_the_daemon_is_dead() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let (listener, address) = tcp(&daemon);
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last; exec sleep 1000";
    let address = format!("fluentd-address={address}");
    let id = daemon
        .run(&[
            "run",
            "-d",
            "--name",
            "box",
            "-e",
            "COLOR=red",
            "-l",
            "com.x=label",
            "--log-driver",
            "fluentd",
            "--log-opt",
            &address,
            "--log-opt",
            "env=COLOR",
            "--log-opt",
            "labels-regex=^com",
            "--log-opt",
            "fluentd-sub-second-precision=true",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let mut stream = accept(&listener);
    let first = read_until(&mut stream, "first");
    for part in [&id[..12], "container_id", &id, "/box", "stdout", "COLOR", "red", "com.x", "label"] {
        assert!(first.contains(part), "no {part} in {first:?}");
    }
    let root = daemon.inspect("box", "{{.State.Pid}}");
    daemon.kill().unwrap();
    let go = daemon.sandbox().sh(&format!("touch /proc/{root}/root/go"));
    assert_eq!(go.code, 0, "{go}");
    let _ = read_until(&mut stream, "last");
    // The server goes and comes back: the next line is sent anew.
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["logs", "box"]).ok(), "first\nlast");
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
}

#[test]
fn gelf_goes_in_chunks_and_compressed() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let (socket, address) = udp(&daemon);
    let address = format!("gelf-address={address}");
    let run = |kind: &str, script: &str| {
        let kind = format!("gelf-compression-type={kind}");
        let options = ["--log-driver", "gelf", "--log-opt", &address, "--log-opt", &kind];
        let _ = daemon.run(&[&["run", "--rm"][..], &options, &["busybox", "sh", "-c", script]].concat()).ok();
    };
    run("none", "head -c 3000 /dev/zero | tr '\\0' x; echo");
    let chunks = [datagram(&socket), datagram(&socket), datagram(&socket)];
    assert!(chunks.iter().all(|chunk| chunk.starts_with(&[0x1e, 0x0f]) && chunk[11] == 3), "three chunks");
    let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect();
    let document: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(document["short_message"].as_str().map(str::len), Some(3000));
    run("gzip", "echo packed >&2");
    let packed = datagram(&socket);
    let document: serde_json::Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..])).expect("a document");
    let field = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (field("version"), field("short_message"), field("_image_name")),
        ("1.1".into(), "packed".into(), "busybox".into())
    );
    assert_eq!(document["level"], 3);
    run("zlib", "echo packed");
    let document: serde_json::Value =
        serde_json::from_reader(flate2::read::ZlibDecoder::new(&datagram(&socket)[..])).expect("a document");
    assert_eq!(document["short_message"], "packed");
}

#[test]
fn journald_gets_fields() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let options = ["--log-driver", "journald", "--log-opt", "tag=web", "--log-opt", "env=COLOR"];
    let run = || {
        let head = [&["run", "--rm", "--name", "box", "-e", "COLOR=red"][..], &options].concat();
        daemon.run(&[&head[..], &["busybox", "echo", "said"]].concat())
    };
    let refused = run().fails_with(125);
    assert!(refused.contains("failed to initialize logging driver: journald is not enabled on this host"), "{refused}");
    let folder = daemon.sandbox().host_path("/run/systemd/journal");
    std::fs::create_dir_all(&folder).unwrap();
    let journal = UnixDatagram::bind(folder.join("socket")).unwrap();
    journal.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = run().ok();
    let mut buffer = [0; 8192];
    // The first connection of a start only looks whether somebody is there.
    let count = journal.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    for field in ["PRIORITY=6\n", "MESSAGE=said\n", "CONTAINER_NAME=box\n", "CONTAINER_TAG=web\n", "COLOR=red\n"] {
        assert!(text.contains(field), "no {field} in {text}");
    }
}

#[test]
fn a_server_that_is_gone_blocks_nobody_but_the_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let (listener, address) = tcp(&daemon);
    let address = format!("fluentd-address={address}");
    let run = |name: &str, more: &[&str], script: &str| {
        let options = ["--log-driver", "fluentd", "--log-opt", &address];
        let head = [&["run", "-d", "--name", name][..], &options, more].concat();
        let _ = daemon.run(&[&head[..], &["busybox", "sh", "-c", script]].concat()).ok();
    };
    // Nobody reads: a writer is held up once pipes and sockets are full.
    run("stuck", &[], "yes held-up");
    // With non-blocking it goes on, and loses lines of the server's, none of its own.
    run("free", &["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"], "seq 400000; echo end");
    until("the container that may lose lines to end", || daemon.inspect("free", "{{.State.Running}}") == "false");
    assert_eq!(daemon.run(&["logs", "--tail", "1", "free"]).ok(), "end");
    let logged = || daemon.run(&["logs", "stuck"]).stdout.len();
    let mut seen = logged();
    until("the writer to be held up", || {
        let now = logged();
        now > 0 && now == std::mem::replace(&mut seen, now)
    });
    verbs_answer(&daemon, "stuck");
    let _ = promptly(&daemon, &["rm", "-f", "free"]).ok();
    drop(listener);
    let refused =
        daemon.run(&["run", "--name", "none", "--log-driver", "fluentd", "--log-opt", &address, "busybox", "true"]);
    let text = refused.fails_with(125);
    assert!(text.contains("failed to initialize logging driver: dial tcp 127.0.0.1:"), "{text}");
    assert!(text.contains("connection refused"), "{text}");
    assert_eq!(daemon.inspect("none", "{{.State.Status}} {{.State.Running}}"), "created false");
    // An async one starts without its server.
    run("async", &["--log-opt", "fluentd-async=true"], "echo said");
    until("the container without a server to end", || daemon.inspect("async", "{{.State.Running}}") == "false");
    assert_eq!(daemon.run(&["logs", "async"]).ok(), "said");
}
