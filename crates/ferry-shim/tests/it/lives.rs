//! The engine dies and comes again; the container does not notice.

use std::io::Write;

use ferry_shim::protocol::{Event, Reply, Request, Target};

use crate::harness::{ALL, BOTH, Engine, Folders, eventually, pair, read_frames, read_until, ready};

#[test]
fn a_container_outlives_its_engine_and_the_next_one_gets_its_true_end() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let mut start = folders.start(&["sh", "-c", "i=0; while read line; do echo $line; done; exit 42"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    engine.start(&folders, start, vec![(theirs, ALL)]);
    (&client).write_all(b"one\n").expect("write");
    read_until(&client, "one");
    // The engine's descriptors close in any order.
    drop(client);
    let shim = engine.die();
    let mut engine = Engine::connect(&folders);
    match engine.call(Request::State, &[]) {
        Reply::State(state) => assert!(state.exit.is_none(), "stdin was closed by the engine's death"),
        other => panic!("{other:?}"),
    }
    let client = engine.attach(Target::Init, ALL);
    (&client).write_all(b"two\n").expect("write");
    read_until(&client, "two");
    client.shutdown(std::net::Shutdown::Write).expect("half-close");
    assert_eq!(engine.wait_exit().code, 42);
    assert_eq!(folders.log(), [("stdout", "one\n".to_owned()), ("stdout", "two\n".to_owned())]);
    engine.shut_down(&folders);
    shim.wait().expect("ends");
}

#[test]
fn an_end_that_nobody_sees_is_on_disk_and_nothing_else_is_left() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let fifo = folders.base.join("rootfs/tmp/go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    engine.start(&folders, folders.start(&["sh", "-c", "read go < /tmp/go; echo bye; exit 9"]), Vec::new());
    let shim = engine.die();
    std::fs::write(&fifo, "go\n").expect("go");
    shim.wait().expect("the shim ends by itself");
    assert_eq!(folders.exit().expect("exit.json").code, 9);
    assert_eq!(folders.log(), [("stdout", "bye\n".to_owned())]);
    folders.assert_clean();
}

#[test]
fn numbered_lines_stay_whole_over_reconnects_and_rotations() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["sh", "-c", "seq 1 200000; exit 5"]);
    let ferry_shim::protocol::LogOptions::JsonFile { max_size_bytes, max_files, compress, .. } = &mut start.log else {
        panic!("json-file");
    };
    (*max_size_bytes, *max_files, *compress) = (Some(1 << 20), 100, true);
    engine.start(&folders, start, Vec::new());
    let shim = engine.die();
    let mut reader =
        ferry_shim::log::Reader::open(&folders.data(), &folders.log_name(), Default::default(), Default::default())
            .expect("log");
    let mut next = 1_u32;
    eventually("all lines", || {
        // Each round is an engine of its own, as long as there is a shim.
        let _ = ferry_shim::client::connect(&folders.run());
        loop {
            while let Some(entry) = reader.next_entry().expect("entry") {
                assert_eq!(entry.line, format!("{next}\n").as_bytes());
                next += 1;
            }
            if !reader.poll_more().expect("poll") {
                return next == 200_001;
            }
        }
    });
    assert_eq!(reader.damaged(), 0);
    shim.wait().expect("ends");
    assert_eq!(folders.exit().expect("exit.json").code, 5);
    assert_eq!(folders.log().len(), 200_000);
    let compressed = std::fs::read_dir(folders.data()).expect("data");
    let compressed =
        compressed.filter(|entry| entry.as_ref().expect("entry").path().extension().is_some_and(|end| end == "gz"));
    assert!(compressed.count() > 5);
}

#[test]
fn every_engine_that_is_connected_hears_of_the_end() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut first = Engine::spawn();
    first.start(&folders, folders.start(&["cat", "/dev/stdin"]), Vec::new());
    first.wait_exit();
    // Connected only after the end: the state tells.
    let mut second = Engine::connect(&folders);
    match second.call(Request::State, &[]) {
        Reply::State(state) => assert_eq!(state.exit.expect("ended").code, 0),
        other => panic!("{other:?}"),
    }
    drop(second);
    first.shut_down(&folders);

    let folders = Folders::new();
    let mut first = Engine::spawn();
    first.start(&folders, folders.start(&["sleep", "1000"]), Vec::new());
    let mut second = Engine::connect(&folders);
    second.kill(9);
    assert!(matches!(first.event(), Event::Exited(_)));
    assert!(matches!(second.event(), Event::Exited(_)));
    first.shut_down(&folders);
}

#[test]
fn output_is_not_lost_to_clients_when_the_engine_attaches_late() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["sh", "-c", "read a; echo got $a"]);
    start.open_stdin = true;
    engine.start(&folders, start, Vec::new());
    let shim = engine.die();
    let mut engine = Engine::connect(&folders);
    let output = engine.attach(Target::Init, BOTH);
    let input = engine.attach(Target::Init, ALL);
    (&input).write_all(b"it\n").expect("write");
    assert_eq!(read_frames(&output).0, b"got it\n");
    assert_eq!(engine.wait_exit().code, 0);
    engine.shut_down(&folders);
    shim.wait().expect("ends");
}
