//! Commands on images.

pub(super) mod explore;
pub(super) mod history;
pub(super) mod import;
pub(in crate::commands) mod list;
pub(super) mod load;
pub(super) mod prune;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod remove;
pub(super) mod save;
pub(super) mod tag;
mod tree;

use std::io;

use bytes::Bytes;
use ferry_api::image::RegistryAccess;
use ferry_api::stream::JsonMessage;
use ferry_client::ByteStream;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::{stderr_is_terminal, stderr_size, stdout_is_terminal, stdout_size};
use crate::progress::Display;

const CHUNK: usize = 256 * 1024;

/// Reads the flags that say how a registry is reached.
fn registry_access(parsed: &Parsed) -> Result<RegistryAccess> {
    let plain_http = parsed.on("plain-http");
    let path = parsed.text_or_empty("tls-ca");
    if plain_http && !path.is_empty() {
        return Err(Failure::new("conflicting options: `--plain-http` and `--tls-ca` cannot be used together"));
    }
    let authorities = match path {
        "" => String::new(),
        path => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read the CA certificate {path}: {error}")))?,
    };
    Ok(RegistryAccess { plain_http, authorities })
}

/// Shows a progress stream on standard output.
pub(super) async fn show(stream: ByteStream) -> Result<()> {
    let width = stdout_is_terminal().then(|| stdout_size().map_or(200, |(_, columns)| usize::from(columns)));
    Display::new(&mut io::stdout(), width).show(stream).await
}

/// Shows a progress stream on standard output, and hands what is said for programs to `aux`.
async fn show_with(stream: ByteStream, aux: &mut dyn FnMut(&JsonMessage)) -> Result<()> {
    let width = stdout_is_terminal().then(|| stdout_size().map_or(200, |(_, columns)| usize::from(columns)));
    Display::new(&mut io::stdout(), width).show_with(stream, aux).await
}

/// Reads a progress stream for its errors and for what is said for programs.
async fn show_nothing_with(stream: ByteStream, aux: &mut dyn FnMut(&JsonMessage)) -> Result<()> {
    Display::new(&mut io::sink(), None).show_with(stream, aux).await
}

/// Shows a progress stream on standard error.
pub(in crate::commands) async fn show_on_stderr(stream: ByteStream) -> Result<()> {
    let width = stderr_is_terminal().then(|| stderr_size().map_or(200, |(_, columns)| usize::from(columns)));
    Display::new(&mut io::stderr(), width).show(stream).await
}

/// Reads a progress stream for its errors alone.
async fn show_nothing(stream: ByteStream) -> Result<()> {
    Display::new(&mut io::sink(), None).show(stream).await
}

/// Opens a file, or standard input for `-`, as a stream of pieces.
pub(super) async fn open(path: &str) -> Result<std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>> {
    if path == "-" {
        return Ok(Box::pin(pieces(tokio::io::stdin())));
    }
    let file = tokio::fs::File::open(path).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(format!("open {path}: {reason}"))
    })?;
    Ok(Box::pin(pieces(file)))
}

fn pieces(reader: impl AsyncRead + Send + Unpin + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
        let count = reader.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (buffer.freeze(), reader)))
    })
}
