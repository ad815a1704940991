//! Bytes in, bytes out: nothing lost, nobody held up.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;

use ferry_shim::protocol::{Request, Streams, Target};

use crate::harness::{ALL, BOTH, Engine, Folders, pair, read_frames, read_raw, read_until, ready};

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_mebibyte_of_binary_goes_through_and_half_close_ends_it() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let mut start = folders.start(&["cat"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    engine.start(&folders, start, vec![(theirs, ALL)]);
    let bytes = noise(1 << 20);
    let writer = client.try_clone().expect("clone");
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        (&writer).write_all(&sent).expect("write");
        writer.shutdown(Shutdown::Write).expect("half-close");
    });
    let (out, err) = read_frames(&client);
    writing.join().expect("writer");
    assert!(out == bytes, "{} of {} bytes came back", out.len(), bytes.len());
    assert!(err.is_empty());
    assert_eq!(engine.wait_exit().code, 0);
    engine.shut_down(&folders);
}

#[test]
fn input_waits_for_a_process_that_is_slow_to_read() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let mut start = folders.start(&["sh", "-c", "read go < /tmp/go; wc -c"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    let fifo = folders.base.join("rootfs/tmp/go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    engine.start(&folders, start, vec![(theirs, ALL)]);
    let writer = client.try_clone().expect("clone");
    let writing = std::thread::spawn(move || {
        (&writer).write_all(&noise(3 << 20)).expect("write");
        writer.shutdown(Shutdown::Both).expect("close");
    });
    std::fs::write(&fifo, "go\n").expect("go");
    writing.join().expect("writer");
    assert_eq!(engine.wait_exit().code, 0);
    assert_eq!(folders.log(), [("stdout", format!("{}\n", 3 << 20))]);
    engine.shut_down(&folders);
}

#[test]
fn without_open_stdin_there_is_none() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    engine.start(&folders, folders.start(&["sh", "-c", "cat; echo end"]), vec![(theirs, ALL)]);
    assert_eq!(read_frames(&client).0, b"end\n");
    engine.wait_exit();
    engine.shut_down(&folders);
}

#[test]
fn stdin_stays_open_for_the_next_client_unless_it_is_meant_for_one() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["cat"]);
    start.open_stdin = true;
    engine.start(&folders, start, Vec::new());
    for line in ["first\n", "second\n"] {
        let client = engine.attach(Target::Init, ALL);
        (&client).write_all(line.as_bytes()).expect("write");
        read_until(&client, line.trim_end());
        client.shutdown(Shutdown::Write).expect("half-close");
        // Docker lets go of a client whose input has ended while the container's goes on.
        assert!(read_raw(&client).is_empty());
    }
    engine.kill(9);
    engine.wait_exit();
    assert_eq!(folders.log(), [("stdout", "first\n".to_owned()), ("stdout", "second\n".to_owned())]);
    engine.shut_down(&folders);
}

#[test]
fn stdin_closes_with_the_one_client_even_if_it_just_vanishes() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let mut start = folders.start(&["cat"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    engine.start(&folders, start, vec![(theirs, ALL)]);
    (&client).write_all(b"last words").expect("write");
    drop(client);
    assert_eq!(engine.wait_exit().code, 0);
    assert_eq!(folders.log(), [("stdout", "last words".to_owned())]);
    engine.shut_down(&folders);
}

#[test]
fn a_terminal_is_one_stream_with_a_size() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let mut start = folders.start(&["sh", "-c", "while read line; do stty size; echo err >&2; done"]);
    start.open_stdin = true;
    start.spec.process.as_mut().expect("process").terminal = true;
    engine.start(&folders, start, vec![(theirs, ALL)]);
    engine.ok(Request::Resize { target: Target::Init, height: 43, width: 132 });
    (&client).write_all(b"go\n").expect("write");
    let text = read_until(&client, "err\r\n");
    assert_eq!(text, "go\r\n43 132\r\nerr\r\n");
    // Ctrl-D ends the input; the end of the program ends the stream.
    (&client).write_all(&[4]).expect("write");
    assert!(!String::from_utf8(read_raw(&client)).expect("text").contains("43"));
    assert_eq!(engine.wait_exit().code, 0);
    assert_eq!(folders.log()[1], ("stdout", "43 132\r\n".to_owned()));
    engine.shut_down(&folders);
}

#[test]
fn readers_who_do_not_read_hold_nobody_up() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (dead, theirs): (Vec<_>, Vec<_>) = (0..20).map(|_| pair()).unzip();
    let (alive, their_alive) = pair();
    let mut clients: Vec<_> = theirs.into_iter().map(|socket| (socket, BOTH)).collect();
    clients.push((their_alive, BOTH));
    engine.start(
        &folders,
        folders.start(&["sh", "-c", "yes 0123456789012345678901234567890123456789012345678 | head -c 5000000"]),
        clients,
    );
    let reading = std::thread::spawn(move || read_frames(&alive).0.len());
    assert_eq!(engine.wait_exit().code, 0);
    assert_eq!(reading.join().expect("reader"), 5_000_000);
    assert_eq!(folders.log().iter().map(|(_, line)| line.len()).sum::<usize>(), 5_000_000);
    // Whoever was only slow gets it all, even after the end.
    let late = read_frames(&dead[7]).0;
    assert_eq!(late.len(), 5_000_000);
    assert!(late.chunks(50).all(|line| line == b"0123456789012345678901234567890123456789012345678\n"));
    drop(dead);
    engine.shut_down(&folders);
}

#[test]
fn a_client_gets_only_the_streams_it_asked_for() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let only_err = Streams { stdin: false, stdout: false, stderr: true };
    engine.start(&folders, folders.start(&["sh", "-c", "echo out; echo err >&2"]), vec![(theirs, only_err)]);
    assert_eq!(read_frames(&client), (Vec::new(), b"err\n".to_vec()));
    engine.wait_exit();
    engine.shut_down(&folders);
}

#[test]
fn a_client_whose_input_nobody_reads_still_gets_a_clean_end() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (mut client, theirs) = pair();
    let mut start = folders.start(&["sh", "-c", "head -c 1 > /dev/null; echo done"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    engine.start(&folders, start, vec![(theirs, ALL)]);
    client.write_all(&noise(100_000)).expect("write");
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("an end, not a reset");
    assert!(bytes.ends_with(b"done\n"));
    engine.wait_exit();
    engine.shut_down(&folders);
}

#[test]
fn a_client_that_is_no_socket_harms_nobody() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["cat"]);
    start.open_stdin = true;
    engine.start(&folders, start, Vec::new());
    let file = std::fs::File::open("/etc/passwd").expect("a plain file");
    let _ = engine.call(Request::Attach { target: Target::Init, streams: ALL }, &[file.as_fd()]);
    let client = engine.attach(Target::Init, ALL);
    (&client).write_all(b"still here\n").expect("write");
    read_until(&client, "still here");
    engine.kill(9);
    assert_eq!(engine.wait_exit().code, 137);
    engine.shut_down(&folders);
}
