//! Streams: attached runs, half-closed input, closed pipes, signals and a daemon that dies.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How the fake daemon ends the container.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// Input is sent back; the exit code is 3.
    EchoThenExit,
    /// The connections close without an exit code.
    Death,
    /// Output without end.
    Flood,
}

fn head(reader: &mut BufReader<UnixStream>) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(first)
}

fn json(writer: &mut UnixStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nApi-Version: 1.48\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // A client may leave at any time.
    let _ = writer.write_all(text.as_bytes());
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn serve(
    stream: UnixStream,
    ending: Ending,
    ended: &std::sync::mpsc::Sender<()>,
    wait: &std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(line) = head(&mut reader) {
        if line.contains("/_ping") {
            json(&mut writer, "200 OK", "");
        } else if line.contains("/containers/create") {
            json(&mut writer, "201 Created", r#"{"Id":"abc","Warnings":[]}"#);
        } else if line.contains("/start") {
            json(&mut writer, "204 No Content", "");
        } else if line.contains("/wait") {
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let exit = wait.lock().unwrap().recv();
            if exit.is_err() || ending != Ending::EchoThenExit {
                return;
            }
            let body = r#"{"StatusCode":3}"#;
            let _ = writer.write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
        } else if line.contains("/attach") {
            let _ = writer.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            match ending {
                Ending::EchoThenExit => {
                    let mut input = Vec::new();
                    reader.read_to_end(&mut input).unwrap();
                    for piece in input.chunks(40_000) {
                        let _ = writer.write_all(&frame(piece));
                    }
                }
                Ending::Death => {
                    let _ = writer.write_all(&frame(b"last words\n"));
                }
                Ending::Flood => while writer.write_all(&frame(&[b'y'; 1000])).is_ok() {},
            }
            let _ = ended.send(());
            return;
        } else {
            json(&mut writer, "404 Not Found", r#"{"message":"page not found"}"#);
        }
    }
}

fn listen(socket: &Path, ending: Ending) {
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            std::thread::spawn(move || serve(stream, ending, &sender, &receiver));
        }
    });
}

fn ferry(ending: Ending, words: &[&str], input: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("d.sock");
    listen(&socket, ending);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(words)
        .env("HOME", folder.path())
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A client that ends early reads no more.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[test]
fn binary_input_comes_back_whole_and_its_end_is_passed_on() {
    let input: Vec<u8> =
        (0..1_048_576_u32).map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let output = ferry(Ending::EchoThenExit, &["run", "-i", "x", "cat"], &input);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

#[test]
fn a_daemon_that_dies_is_told_with_exit_code_125() {
    let output = ferry(Ending::Death, &["run", "x"], b"");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(output.stdout, b"last words\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("level=error msg=\"error waiting for container: unexpected EOF\""), "{text}");
}

#[test]
fn a_reader_that_leaves_ends_the_client_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("d.sock");
    listen(&socket, Ending::Flood);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(["run", "x"])
        .env("HOME", folder.path())
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn an_explicit_host_starts_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none.sock", folder.path().display());
    let output = Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(["-H", &host, "ps"])
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?\n"));
}
