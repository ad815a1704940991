//! A session carried by a WebSocket, for clients that have nothing else: web pages.
//!
//! Everything the process writes is sent in binary messages, both outputs alike and without frames of their own, as the
//! protocol has messages already. Everything the client sends is input, whatever type its messages have.
//!
//! One writer owns what goes to the client, and only its own end stops it: whatever ends a session, each message is whole and a
//! close comes last, unless the client has gone.
//!
//! Spec: RFC 6455.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::{CHUNK, Session, run};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::server::socket::Peer;

/// Follows the client's key in what is hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Most bytes of one message's piece: a keyboard sends few, and a page that sends files may cut them.
const FRAME_LIMIT: u64 = 16 << 20;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The last piece of a message.
const FINAL: u8 = 0x80;
/// A close that says that all went well.
const CLOSE_NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
/// A close that says that the client did not keep to the protocol.
const CLOSE_PROTOCOL: [u8; 2] = 1002_u16.to_be_bytes();
/// Most bytes that a control message holds.
const CONTROL_LIMIT: u64 = 125;
/// How long a client may take to close its side after ours: a connection that is dropped with bytes unread may take with it what
/// was sent last.
const LINGER: Duration = Duration::from_secs(2);

/// A control message that the reader asks the writer for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Pong(Vec<u8>),
    /// The last of all.
    Close(Vec<u8>),
}

/// Checks that a request opens a WebSocket, before anything is done for it, and returns its answer's key.
pub(crate) fn accept(call: &Call) -> Result<HeaderValue, ApiError> {
    let asks = call.header("upgrade").eq_ignore_ascii_case("websocket")
        && call.header("connection").to_ascii_lowercase().contains("upgrade");
    if !asks {
        return Err(ApiError::invalid("not websocket protocol"));
    }
    if call.header("sec-websocket-version") != "13" {
        return Err(ApiError::invalid("missing or bad WebSocket Version"));
    }
    let key = call.header("sec-websocket-key");
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(ApiError::invalid("challenge/response error: the key of a WebSocket is 16 bytes in base64"));
    }
    HeaderValue::from_str(&accept_key(key)).map_err(|_| ApiError::invalid("challenge/response error"))
}

fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

/// Answers a request whose key was accepted by turning its connection into a session.
pub(crate) fn respond(mut call: Call, accepted: HeaderValue, session: Session) -> Outcome {
    let mut response: Response<Body> = reply::status(hyper::StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    let protocol: HeaderName = SEC_WEBSOCKET_PROTOCOL;
    if let Some(asked) = call.request.headers().get(&protocol).filter(|asked| !asked.as_bytes().contains(&b',')) {
        headers.insert(protocol, asked.clone());
    }
    call.peer.guard.over();
    let upgrade = hyper::upgrade::on(&mut call.request);
    tokio::spawn(async move {
        let connection = match upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => {
                tracing::debug!(%error, "client left before its connection became a stream");
                return;
            }
        };
        call.peer.has_read().await;
        carry(&call.peer, connection, session).await;
    });
    Ok(response)
}

/// Carries a session over a connection to its end.
async fn carry(peer: &Peer, connection: impl AsyncRead + AsyncWrite, session: Session) {
    let framed = !session.tty;
    let (ours, theirs) = tokio::io::duplex(CHUNK);
    let (input, output) = tokio::io::split(theirs);
    let (from_process, to_process) = tokio::io::split(ours);
    let (from_client, to_client) = tokio::io::split(connection);
    let (answers, asked) = mpsc::channel(8);
    let all_said = Notify::new();
    let speaking = async {
        tokio::select! {
            () = carry_output(from_process, to_client, framed, asked) => {}
            // Its end reaches the client as the end of its output.
            () = async { run(peer, input, output, session).await; std::future::pending().await } => {}
        }
        all_said.notify_one();
    };
    let hearing = carry_input(from_client, to_process, answers);
    let patience = async {
        all_said.notified().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        _ = async { tokio::join!(speaking, hearing) } => {}
        () = patience => {}
    }
}

/// Sends what the process writes, and what answers the client's own control messages; a close is the last.
async fn carry_output(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    framed: bool,
    mut asked: mpsc::Receiver<Answer>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut frames = framed.then(Frames::default);
    let close = loop {
        let (kind, payload) = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(read @ 1..) => (BINARY, frames.as_mut().map_or_else(|| buffer[..read].to_vec(), |frames| frames.open(&buffer[..read]))),
                _ => break CLOSE_NORMAL.to_vec(),
            },
            Some(answer) = asked.recv() => match answer {
                Answer::Pong(payload) => (PONG, payload),
                Answer::Close(status) => break status,
            },
        };
        let nothing = kind == BINARY && payload.is_empty();
        if !nothing && send(&mut into, kind, &payload).await.is_err() {
            return;
        }
    };
    // The client may be gone already.
    let _ = send(&mut into, CLOSE, &close).await;
    let _ = into.shutdown().await;
}

async fn send(into: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut head = vec![FINAL | kind];
    match payload.len() {
        length @ 0..126 => head.push(u8::try_from(length).unwrap_or(u8::MAX)),
        length => match u16::try_from(length) {
            Ok(short) => {
                head.push(126);
                head.extend(short.to_be_bytes());
            }
            Err(_) => {
                head.push(127);
                head.extend((length as u64).to_be_bytes());
            }
        },
    }
    head.extend_from_slice(payload);
    into.write_all(&head).await?;
    into.flush().await
}

/// Carries what the client sends to the process; returns only when the client has closed its side.
async fn carry_input(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    answers: mpsc::Sender<Answer>,
) {
    let mut open = true;
    let status = loop {
        match receive(&mut from).await {
            Ok(Some((CLOSE, payload))) => break payload.get(..2).unwrap_or_default().to_vec(),
            // Nobody to answer when all is said; what the client still sends is read all the same.
            Ok(Some((PING, payload))) => drop(answers.send(Answer::Pong(payload)).await),
            Ok(Some((PONG, _))) => {}
            // The process may have closed its stdin; its output goes on.
            Ok(Some((_, payload))) if open => open = into.write_all(&payload).await.is_ok(),
            Ok(Some(_)) => {}
            Ok(None) => break CLOSE_PROTOCOL.to_vec(),
            Err(_) => break CLOSE_NORMAL.to_vec(),
        }
    };
    drop(answers.send(Answer::Close(status)).await);
    drop(tokio::io::copy(&mut from, &mut tokio::io::sink()).await);
}

/// Reads one frame; none when it is none that a client may send.
async fn receive(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 2];
    from.read_exact(&mut head).await?;
    let length = match head[1] & 0x7f {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    let masked = head[1] & 0x80 != 0;
    let kind = head[0] & 0x0f;
    if !masked || length > FRAME_LIMIT || (kind >= CLOSE && length > CONTROL_LIMIT) {
        return Ok(None);
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    from.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some((kind, payload)))
}

/// Takes Docker's own frames off a stream that arrives in pieces.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    left: usize,
}

impl Frames {
    fn open(&mut self, mut piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while !piece.is_empty() {
            if self.left > 0 {
                let (taken, rest) = piece.split_at(self.left.min(piece.len()));
                out.extend_from_slice(taken);
                self.left -= taken.len();
                piece = rest;
                continue;
            }
            let (taken, rest) = piece.split_at((8 - self.head.len()).min(piece.len()));
            self.head.extend_from_slice(taken);
            piece = rest;
            if let [_, _, _, _, size @ ..] = self.head.as_slice()
                && let Ok(size) = <[u8; 4]>::try_from(size)
            {
                self.left = u32::from_be_bytes(size) as usize;
                self.head.clear();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::UnixStream;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::server::socket::{Socket, Transport};
    use crate::streams::DetachKeys;

    /// A client and a process with a terminal, with a session between them.
    struct Fixture {
        client: UnixStream,
        process: UnixStream,
        session: JoinHandle<()>,
    }

    fn fixture() -> Fixture {
        let (client, server) = UnixStream::pair().unwrap();
        let (process, stream) = UnixStream::pair().unwrap();
        let peer = Peer::new(Socket::Unix(server));
        peer.guard.over();
        let session = Session {
            tty: true,
            replay: None,
            stream: Some(stream),
            keys: DetachKeys::parse(""),
            on_detach: Box::new(|| {}),
        };
        let session = tokio::spawn(async move { carry(&peer, Transport::new(Arc::clone(&peer)), session).await });
        Fixture { client, process, session }
    }

    /// What a client sends, masked with zeros.
    fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[FINAL | kind, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload].concat()
    }

    /// Reads one message of the daemon's: its kind and what it holds.
    async fn message(client: &mut UnixStream) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        let length = match head[1] {
            126 => usize::from(client.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        client.read_exact(&mut payload).await.unwrap();
        (head[0] & 0x0f, payload)
    }

    #[tokio::test]
    async fn a_detach_in_the_middle_of_output_closes_after_a_whole_message() {
        for round in 0..50_usize {
            let Fixture { mut client, mut process, session } = fixture();
            let writer = tokio::spawn(async move {
                let line = vec![b'y'; 1000 + round * 37];
                while process.write_all(&line).await.is_ok() {}
            });
            for _ in 0..round % 5 {
                assert_eq!(message(&mut client).await.0, BINARY);
            }
            client.write_all(&masked(0x1, b"\x10\x11")).await.unwrap();
            let status = loop {
                match message(&mut client).await {
                    (BINARY, payload) => assert!(payload.iter().all(|byte| *byte == b'y')),
                    (kind, payload) => break (kind, payload),
                }
            };
            assert_eq!(status, (CLOSE, CLOSE_NORMAL.to_vec()), "round {round}");
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "nothing follows a close");
            drop(client);
            session.await.unwrap();
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_close_is_answered_and_ends_the_session() {
        let Fixture { mut client, mut process, session } = fixture();
        client.write_all(&masked(PING, b"there?")).await.unwrap();
        assert_eq!(message(&mut client).await, (PONG, b"there?".to_vec()));
        client.write_all(&masked(CLOSE, &[&1001_u16.to_be_bytes()[..], b"leaving"].concat())).await.unwrap();
        assert_eq!(message(&mut client).await, (CLOSE, 1001_u16.to_be_bytes().to_vec()));
        let mut typed = Vec::new();
        process.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"");
        drop(client);
        session.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_by_a_close() {
        let Fixture { mut client, process, session } = fixture();
        client.write_all(&[FINAL | BINARY, 1, b'a']).await.unwrap();
        assert_eq!(message(&mut client).await, (CLOSE, CLOSE_PROTOCOL.to_vec()));
        drop((client, process));
        session.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_does_not_close_is_not_waited_for() {
        let Fixture { mut client, process, session } = fixture();
        drop(process);
        assert_eq!(message(&mut client).await, (CLOSE, CLOSE_NORMAL.to_vec()));
        session.await.unwrap();
        drop(client);
    }

    #[test]
    fn the_answer_to_the_example_of_the_standard() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_opened_however_they_are_cut() {
        let sent = [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"ab", &[2, 0, 0, 0, 0, 0, 0, 1], b"c"].concat();
        for size in 1..sent.len() {
            let mut frames = Frames::default();
            let opened: Vec<u8> = sent.chunks(size).flat_map(|piece| frames.open(piece)).collect();
            assert_eq!(opened, b"abc", "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn messages_keep_their_bytes_at_every_length() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let mut sent = Vec::new();
            send(&mut sent, BINARY, &payload).await.unwrap();
            // What a client sends is masked: with zeros the bytes stay the same.
            let body = sent.len() - length;
            sent[1] |= 0x80;
            sent.splice(body..body, [0; 4]);
            assert_eq!(receive(&mut sent.as_slice()).await.unwrap(), Some((BINARY, payload)));
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_not_masked_or_too_long_is_refused() {
        assert_eq!(receive(&mut &[FINAL | BINARY, 1, b'a'][..]).await.unwrap(), None);
        let ping = [&[FINAL | PING, 0x80 | 126, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
        assert_eq!(receive(&mut ping.as_slice()).await.unwrap(), None);
        let mut long = vec![FINAL | BINARY, 0x80 | 127];
        long.extend((FRAME_LIMIT + 1).to_be_bytes());
        assert_eq!(receive(&mut long.as_slice()).await.unwrap(), None);
    }
}
