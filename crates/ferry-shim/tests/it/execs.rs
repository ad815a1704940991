//! More processes in a running container.

use std::io::Write;
use std::net::Shutdown;

use ferry_shim::protocol::{Event, Exec, Reply, Request, ShimErrorKind, Target};

use crate::harness::{ALL, BOTH, Engine, Folders, pair, process, read_frames, read_raw, read_until, ready};

fn exec(id: &str, args: &[&str], open_stdin: bool, terminal: bool) -> Exec {
    let mut process = process(args);
    process.terminal = terminal;
    Exec { exec_id: id.into(), process, open_stdin, attached: Vec::new() }
}

fn sleeping(folders: &Folders) -> Engine {
    let mut engine = Engine::spawn();
    engine.start(folders, folders.start(&["sleep", "1000"]), Vec::new());
    engine
}

fn end(mut engine: Engine, folders: &Folders) {
    engine.kill(9);
    engine.wait_exit();
    engine.shut_down(folders);
}

#[test]
fn execs_run_side_by_side_with_their_own_streams_and_codes() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    let mut clients = Vec::new();
    for number in 0..5 {
        let (client, theirs) = pair();
        let script = format!("cat; echo {number} >&2; exit {number}");
        match engine.exec(exec(&format!("e{number}"), &["sh", "-c", &script], true, false), vec![(theirs, ALL)]) {
            Reply::Started { pid } => assert!(pid > 0),
            other => panic!("{other:?}"),
        }
        clients.push(client);
    }
    match engine.call(Request::State, &[]) {
        Reply::State(state) => assert_eq!(state.execs.len(), 5),
        other => panic!("{other:?}"),
    }
    for (number, client) in clients.iter().enumerate() {
        let mut writer = client;
        writer.write_all(format!("to {number}").as_bytes()).expect("write");
        client.shutdown(Shutdown::Write).expect("half-close");
        assert_eq!(read_frames(client), (format!("to {number}").into_bytes(), format!("{number}\n").into_bytes()));
        assert!(engine.has_event(), "the stream has ended before the end was told");
        match engine.event() {
            Event::ExecExited { exec_id, code } => {
                assert_eq!((exec_id, usize::try_from(code)), (format!("e{number}"), Ok(number)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(folders.log().is_empty(), "what execs print is not the container's log");
    end(engine, &folders);
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    let (client, theirs) = pair();
    let script = ["sh", "-c", "read line; stty size"];
    assert!(matches!(engine.exec(exec("t", &script, true, true), vec![(theirs, ALL)]), Reply::Started { .. }));
    engine.ok(Request::Resize { target: Target::Exec("t".into()), height: 5, width: 7 });
    (&client).write_all(b"\n").expect("write");
    assert!(String::from_utf8(read_raw(&client)).expect("text").ends_with("5 7\r\n"));
    assert!(matches!(engine.event(), Event::ExecExited { code: 0, .. }));
    end(engine, &folders);
}

#[test]
fn an_exec_that_cannot_run_says_why() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    for (program, kind) in
        [("nosuchthing", ShimErrorKind::CommandNotFound), ("/etc", ShimErrorKind::CommandNotExecutable)]
    {
        match engine.exec(exec("x", &[program], false, false), Vec::new()) {
            Reply::Error(error) => assert_eq!(error.kind, kind, "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
    engine.ok(Request::Pause);
    assert!(matches!(engine.exec(exec("x", &["true"], false, false), Vec::new()), Reply::Error(_)));
    engine.ok(Request::Resume);
    end(engine, &folders);
}

#[test]
fn what_an_exec_leaves_in_the_background_does_not_hide_its_end() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    let (client, theirs) = pair();
    let script = ["sh", "-c", "sleep 1000 & echo begun"];
    assert!(matches!(engine.exec(exec("b", &script, false, false), vec![(theirs, BOTH)]), Reply::Started { .. }));
    assert_eq!(read_frames(&client).0, b"begun\n");
    assert!(matches!(engine.event(), Event::ExecExited { code: 0, .. }));
    end(engine, &folders);
}

#[test]
fn an_exec_can_be_killed_and_attached_to() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    assert!(matches!(engine.exec(exec("k", &["cat"], true, false), Vec::new()), Reply::Started { .. }));
    let client = engine.attach(Target::Exec("k".into()), ALL);
    (&client).write_all(b"hello\n").expect("write");
    read_until(&client, "hello");
    engine.ok(Request::Kill { target: Target::Exec("k".into()), signal: 15, all: false });
    assert!(matches!(engine.event(), Event::ExecExited { code: 143, .. }));
    assert_eq!(
        engine.error(Request::Kill { target: Target::Exec("k".into()), signal: 15, all: false }).kind,
        ShimErrorKind::NotRunning
    );
    end(engine, &folders);
}

#[test]
fn execs_end_with_their_container() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = sleeping(&folders);
    assert!(matches!(engine.exec(exec("e", &["sleep", "1000"], false, false), Vec::new()), Reply::Started { .. }));
    engine.kill(9);
    let (mut exec_ended, mut container_ended) = (false, false);
    while !(exec_ended && container_ended) {
        match engine.event() {
            Event::ExecExited { code, .. } => exec_ended = code == 137,
            Event::Exited(exit) => container_ended = exit.code == 137,
            Event::Oom | Event::LogTrouble { .. } => panic!("no limit is set, and no server"),
        }
    }
    engine.shut_down(&folders);
}
