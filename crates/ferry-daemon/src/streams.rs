//! Connections that become streams: attach and exec.
//!
//! The engine hands over a socket that speaks Docker's frames already; the bytes are carried both ways, each direction ending by
//! itself, and the session ends when the output does, the client is gone, or the detach keys were typed.

use std::sync::Arc;

use bytes::Bytes;
use ferry_api::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use ferry_api::version::ApiVersion;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::http::body::{Body, BodySender, Gone, RequestBody};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply;
use crate::server::socket::Peer;

mod keys;
pub(crate) mod websocket;

pub(crate) use keys::{DetachKeys, KeyWatch};

/// Bytes carried at once in each direction.
const CHUNK: usize = 16 << 10;

/// A process's side of a stream.
pub(crate) struct Session {
    /// Bytes are raw, not in frames.
    pub(crate) tty: bool,
    /// Sent first.
    pub(crate) replay: Option<mpsc::Receiver<Bytes>>,
    /// Output comes out, stdin goes in; a half-close is the end of stdin.
    pub(crate) stream: Option<UnixStream>,
    /// Keys that end the session; only where stdin comes from a terminal.
    pub(crate) keys: Option<DetachKeys>,
    /// Told when they were typed.
    pub(crate) on_detach: Box<dyn FnOnce() + Send>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Output,
    Gone,
    Detached,
}

/// Returns the content type of a stream for a version.
pub(crate) fn content_type(tty: bool, version: ApiVersion) -> HeaderValue {
    let multiplexed = !tty && version >= ApiVersion::new(1, 42);
    HeaderValue::from_static(if multiplexed { MULTIPLEXED_STREAM } else { RAW_STREAM })
}

/// Answers a request by turning its connection into a stream. `session` is only asked for once the request is known to be one.
pub(crate) fn respond(mut call: Call, session: Session) -> Response<Body> {
    if !call.wants_upgrade() {
        return respond_without_upgrade(call, session);
    }
    let mut response = reply::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(session.tty, call.version));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    call.peer.guard.over();
    let upgrade = hyper::upgrade::on(&mut call.request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                call.peer.has_read().await;
                let (input, output) = tokio::io::split(TokioIo::new(connection));
                run(&call.peer, input, output, session).await;
            }
            Err(error) => tracing::debug!(%error, "client left before its connection became a stream"),
        }
    });
    response
}

/// Old clients do not ask for an upgrade: output is the body of the answer, stdin that of the request.
fn respond_without_upgrade(call: Call, session: Session) -> Response<Body> {
    let (sender, body) = Body::stream();
    let peer = Arc::clone(&call.peer);
    let request_body = call.request.into_body();
    tokio::spawn(async move {
        let (ours, theirs) = tokio::io::duplex(CHUNK);
        let (input, output) = tokio::io::split(theirs);
        let (out, into) = tokio::io::split(ours);
        // What the session has said last is still on its way when it ends.
        let answer = async { tokio::join!(run(&peer, input, output, session), carry_response_body(out, sender)) };
        tokio::select! {
            _ = answer => {}
            () = carry_request_body(request_body, into) => {}
        }
    });
    reply::with_type(HeaderValue::from_static(RAW_STREAM), body)
}

/// Carries stdin; never ends, because its end is not the end of the session.
async fn carry_request_body(mut body: RequestBody, mut into: impl AsyncWrite + Unpin) {
    // No body at all says nothing about stdin.
    let has_input = !body.is_end_stream();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(bytes) = frame.data_ref() else { continue };
        if into.write_all(bytes).await.is_err() {
            break;
        }
    }
    if has_input {
        // The session may have ended before.
        let _ = into.shutdown().await;
    }
    std::future::pending().await
}

async fn carry_response_body(mut out: impl AsyncRead + Unpin, sender: BodySender) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = out.read(&mut buffer).await {
        if sender.send(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
            return;
        }
    }
}

/// Carries a session to its end.
async fn run(peer: &Peer, input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin, session: Session) {
    let Session { replay, stream, keys, on_detach, .. } = session;
    if let Some(replay) = replay
        && send_replay(replay, &mut output).await.is_err()
    {
        return;
    }
    let end = match stream {
        Some(mut stream) => {
            let (from_process, to_process) = stream.split();
            let watch = keys.map(KeyWatch::new);
            tokio::select! {
                end = carry_output(from_process, &mut output) => end,
                () = carry_input(input, to_process, watch) => End::Detached,
                () = peer.gone() => End::Gone,
            }
        }
        None => End::Output,
    };
    tracing::debug!(?end, "stream ended");
    if end == End::Detached {
        on_detach();
    }
    // The client reads to the end of the stream; it may be gone already.
    let _ = output.shutdown().await;
}

async fn send_replay(mut replay: mpsc::Receiver<Bytes>, output: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    while let Some(piece) = replay.recv().await {
        output.write_all(&piece).await?;
    }
    output.flush().await
}

async fn carry_output(mut from: impl AsyncRead + Unpin, output: &mut (impl AsyncWrite + Unpin)) -> End {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return End::Output,
            Ok(read) => {
                if output.write_all(&buffer[..read]).await.is_err() || output.flush().await.is_err() {
                    return End::Gone;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read the output of a process");
                return End::Output;
            }
        }
    }
}

/// Carries stdin; returns only when the detach keys were typed.
async fn carry_input(mut from: impl AsyncRead + Unpin, mut into: impl AsyncWrite + Unpin, mut watch: Option<KeyWatch>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let typed = &buffer[..read];
        let (bytes, detached) = match &mut watch {
            Some(watch) => watch.pass(typed),
            None => (typed.into(), false),
        };
        if into.write_all(&bytes).await.is_err() {
            // The process closed its stdin; its output goes on.
            break;
        }
        if detached {
            return;
        }
    }
    // End of input is the end of stdin, whether the process still reads it or not.
    let _ = into.shutdown().await;
    std::future::pending().await
}

/// Answers with a stream that a task feeds; the task is dropped when the client goes.
pub(crate) fn stream_body<F, R>(peer: Arc<Peer>, content_type: HeaderValue, feed: F) -> Response<Body>
where
    F: FnOnce(BodySender) -> R,
    R: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, body) = Body::stream();
    let watch = sender.clone();
    let feeding = feed(sender);
    tokio::spawn(async move {
        tokio::select! {
            // Either way there is nothing more to do.
            _ = feeding => {}
            () = watch.closed() => {}
            () = peer.gone() => {}
        }
    });
    reply::with_type(content_type, body)
}

/// Reads the `detachKeys` of a request; none given are Docker's own.
pub(crate) fn detach_keys(text: &str) -> Result<DetachKeys, ApiError> {
    DetachKeys::parse(text).ok_or_else(|| ApiError::invalid(format!("Invalid detach keys ({text}) provided")))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::server::socket::{Socket, Transport};

    /// A client and a process with a session between them.
    struct Fixture {
        client: UnixStream,
        process: UnixStream,
        detached: Arc<Mutex<bool>>,
        session: JoinHandle<()>,
    }

    fn fixture(keys: Option<&str>) -> Fixture {
        let (client, server) = UnixStream::pair().unwrap();
        let (process, stream) = UnixStream::pair().unwrap();
        let peer = Peer::new(Socket::Unix(server));
        peer.guard.over();
        let detached = Arc::new(Mutex::new(false));
        let told = Arc::clone(&detached);
        let session = Session {
            tty: keys.is_some(),
            replay: None,
            stream: Some(stream),
            keys: keys.map(|keys| DetachKeys::parse(keys).unwrap()),
            on_detach: Box::new(move || *told.lock().unwrap() = true),
        };
        let session = tokio::spawn(async move {
            let (input, output) = tokio::io::split(Transport::new(Arc::clone(&peer)));
            run(&peer, input, output, session).await;
        });
        Fixture { client, process, detached, session }
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_and_a_half_close_ends_stdin_alone() {
        let Fixture { client, process, session, .. } = fixture(None);
        let sent: Vec<u8> = (0..1_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let echo = tokio::spawn(async move {
            let (mut from, mut into) = process.into_split();
            tokio::io::copy(&mut from, &mut into).await.unwrap();
            into.write_all(b"after the end of stdin").await.unwrap();
        });
        let (mut from, mut into) = client.into_split();
        let bytes = sent.clone();
        let writer = tokio::spawn(async move {
            into.write_all(&bytes).await.unwrap();
            into.shutdown().await.unwrap();
            into
        });
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.split_off(sent.len()), b"after the end of stdin");
        assert!(received == sent, "the bytes differ");
        echo.await.unwrap();
        session.await.unwrap();
        drop(writer.await.unwrap());
    }

    #[tokio::test]
    async fn the_end_of_output_ends_the_session() {
        let Fixture { mut client, mut process, session, detached } = fixture(None);
        process.write_all(b"last").await.unwrap();
        drop(process);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        session.await.unwrap();
        assert!(!*detached.lock().unwrap());
    }

    #[tokio::test]
    async fn detach_keys_end_the_session_and_do_not_reach_the_process() {
        let Fixture { mut client, mut process, session, detached } = fixture(Some(""));
        client.write_all(b"ls\x10").await.unwrap();
        let mut typed = [0; 2];
        process.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"ls");
        client.write_all(b"\x11").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        process.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
        session.await.unwrap();
        assert!(*detached.lock().unwrap());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_session() {
        let Fixture { client, mut process, session, detached } = fixture(None);
        drop(client);
        // The process says nothing, so no write can fail.
        session.await.unwrap();
        let mut rest = Vec::new();
        process.read_to_end(&mut rest).await.unwrap();
        assert!(!*detached.lock().unwrap());
    }

    #[tokio::test]
    async fn a_client_that_read_everything_is_not_waited_for() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let peer = Peer::new(Socket::Unix(server));
        let Socket::Unix(stream) = &peer.socket else { unreachable!("made so") };
        stream.try_write(b"head").unwrap();
        let waiting = tokio::spawn({
            let peer = Arc::clone(&peer);
            async move { peer.has_read().await }
        });
        let mut head = [0; 4];
        client.read_exact(&mut head).await.unwrap();
        waiting.await.unwrap();
        assert_eq!(ferry_sys::socket::unread_by_peer(stream).unwrap(), 0);
    }
}
