//! A session carried by a WebSocket, for clients that have nothing else: web pages.
//!
//! Everything the process writes is sent in binary messages, both outputs alike and without frames of their own, as the
//! protocol has messages already. Everything the client sends is input, whatever type its messages have.
//!
//! Spec: RFC 6455.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{CHUNK, Session, run};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};

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
        let framed = !session.tty;
        let (ours, theirs) = tokio::io::duplex(CHUNK);
        let (input, output) = tokio::io::split(theirs);
        let (from_process, to_process) = tokio::io::split(ours);
        let (from_client, to_client) = tokio::io::split(connection);
        let (replies, asked) = mpsc::channel(8);
        tokio::select! {
            // The output is read to its end after the session has ended.
            () = async {
                tokio::join!(run(&call.peer, input, output, session), carry_output(from_process, to_client, framed, asked));
            } => {}
            () = carry_input(from_client, to_process, replies) => {}
        }
    });
    Ok(response)
}

/// Sends what the process writes, and what answers the client's own control messages.
async fn carry_output(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    framed: bool,
    mut asked: mpsc::Receiver<(u8, Vec<u8>)>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut frames = framed.then(Frames::default);
    loop {
        let (kind, payload) = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(read @ 1..) => (BINARY, frames.as_mut().map_or_else(|| buffer[..read].to_vec(), |frames| frames.open(&buffer[..read]))),
                _ => break,
            },
            Some(answer) = asked.recv() => answer,
        };
        let nothing = kind == BINARY && payload.is_empty();
        if !nothing && send(&mut into, kind, &payload).await.is_err() {
            return;
        }
    }
    // The client may be gone already.
    let _ = send(&mut into, CLOSE, &CLOSE_NORMAL).await;
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
    // In one piece: a session that ends between two would leave a message without its end.
    head.extend_from_slice(payload);
    into.write_all(&head).await?;
    into.flush().await
}

/// Carries what the client sends to the process; returns only when the client has left.
async fn carry_input(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    replies: mpsc::Sender<(u8, Vec<u8>)>,
) {
    let mut open = true;
    while let Ok(Some((kind, payload))) = receive(&mut from).await {
        match kind {
            CLOSE => return,
            PING => drop(replies.send((PONG, payload)).await),
            PONG => {}
            // The process may have closed its stdin; its output goes on.
            _ if open => open = into.write_all(&payload).await.is_ok(),
            _ => {}
        }
    }
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
    if !masked || length > FRAME_LIMIT {
        return Ok(None);
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    from.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some((head[0] & 0x0f, payload)))
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
    use super::*;

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
        let mut long = vec![FINAL | BINARY, 0x80 | 127];
        long.extend((FRAME_LIMIT + 1).to_be_bytes());
        assert_eq!(receive(&mut long.as_slice()).await.unwrap(), None);
    }
}
