//! Telling HTTP/2 from HTTP/1 by the first bytes of a connection, and gRPC straight on the socket of the API.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use ferry_buildkit_proto::grpc::{self, Code, Status};
use futures_util::future::BoxFuture;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::socket::Transport;
use crate::app::App;

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which some was read already.
pub(super) struct Begun {
    read: Bytes,
    transport: Transport,
}

/// Reads as much as it takes to tell; the connection is whole again in what is returned. `true` for HTTP/2.
pub(super) async fn read(mut transport: Transport) -> io::Result<(Begun, bool)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        // Never more than the preface: what follows belongs to whoever takes the connection.
        let wanted = (PREFACE.len() - read.len()) as u64;
        if (&mut transport).take(wanted).read_buf(&mut read).await? == 0 {
            break;
        }
    }
    let is_http2 = read == PREFACE;
    Ok((Begun { read: read.freeze(), transport }, is_http2))
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.transport).poll_read(context, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..count]);
        self.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

/// The builder, for clients that speak gRPC straight away.
pub(super) struct Straight(pub(super) Arc<App>);

impl grpc::Service for Straight {
    fn call(self: Arc<Self>, call: grpc::Call) -> BoxFuture<'static, Result<(), Status>> {
        // Plugins judge requests of the API; what they are not shown must not pass them by.
        if !self.0.engine.live_settings().authorization_plugins.is_empty() {
            let text = "authorization plugins are not shown gRPC: connect through POST /grpc, which they are";
            return Box::pin(async move { Err(Status::new(Code::PermissionDenied, text)) });
        }
        Arc::clone(&self.0.buildkit).call(call)
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.0.buildkit.headers()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::server::socket::{Peer, Socket};

    #[tokio::test]
    async fn connections_are_told_apart_and_stay_whole() {
        for (sent, is_http2) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"[..], true),
            (b"POST /x HTTP/1.1\r\n\r\n", false),
            (b"PR", false),
            (b"", false),
        ] {
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let peer = Peer::new(Socket::Unix(server));
            let (mut begun, found) = read(Transport::new(Arc::clone(&peer))).await.unwrap();
            peer.guard.over();
            assert_eq!(found, is_http2);
            let mut all = Vec::new();
            begun.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
    }
}
