//! Copies between the client's streams and a hijacked connection.

use std::io::Write;

use ferry_client::{Hijacked, ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::detach::DetachKeys;
use super::frames::{Demultiplexer, write};
use super::terminal::RawTerminal;
use crate::failure::Result;
use crate::output::Printer;

/// What is copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copying {
    /// Standard input goes to the container.
    pub(crate) stdin: bool,
    /// Output comes back.
    pub(crate) output: bool,
    /// The container has a terminal: one raw stream, keys that detach.
    pub(crate) tty: bool,
    /// Keys that detach, empty for the default.
    pub(crate) detach_keys: String,
}

/// How copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All output is there.
    Output,
    /// The user detached.
    Detached,
}

const CHUNK: usize = 32 * 1024;

/// Copies both ways until output ends or the user detaches. Raw mode lasts as long as this.
pub(crate) async fn copy(connection: Hijacked, copying: &Copying, printer: &Printer) -> Result<End> {
    let _raw = if copying.stdin && copying.tty { RawTerminal::enter()? } else { None };
    let Hijacked { output, input, .. } = connection;
    let receive = receive(output, copying, printer);
    let send = send(input, copying, printer);
    tokio::pin!(receive, send);
    tokio::select! {
        ended = &mut receive => ended.map(|()| End::Output),
        sent = &mut send => match sent {
            End::Detached => Ok(End::Detached),
            // Input is over; output may take longer.
            End::Output => receive.await.map(|()| End::Output),
        },
    }
}

async fn receive(mut output: ReadHalf, copying: &Copying, printer: &Printer) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut demultiplexer = Demultiplexer::default();
    loop {
        let count = match output.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // A daemon that went away looks like the end; the exit code tells the difference.
            Err(_) => return Ok(()),
        };
        if !copying.output {
            continue;
        }
        let bytes = &buffer[..count];
        if copying.tty {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()?;
        } else {
            write(&mut demultiplexer, printer, bytes)?;
        }
    }
}

/// Sends standard input; ends it on the daemon's side when it ends here.
async fn send(mut input: WriteHalf, copying: &Copying, printer: &Printer) -> End {
    if !copying.stdin {
        // Nothing to send: tell the daemon so, but keep the connection for output.
        let _ = input.shutdown().await;
        return std::future::pending().await;
    }
    let mut keys = if copying.tty { detach_keys(&copying.detach_keys, printer) } else { None };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stdin.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            let _ = input.shutdown().await;
            return End::Output;
        }
        let sent = match &mut keys {
            None => input.write_all(&buffer[..count]).await,
            Some(keys) => {
                let (bytes, detached) = keys.filter(&buffer[..count]);
                let sent = input.write_all(&bytes).await;
                if detached {
                    return End::Detached;
                }
                sent
            }
        };
        if sent.is_err() {
            // The container does not read any more; its output is still wanted.
            return End::Output;
        }
    }
}

fn detach_keys(text: &str, printer: &Printer) -> Option<DetachKeys> {
    DetachKeys::new(text)
        .or_else(|error| {
            printer.log("warning", &format!("invalid detach escape keys, using default: {error}"));
            DetachKeys::new("")
        })
        .ok()
}
