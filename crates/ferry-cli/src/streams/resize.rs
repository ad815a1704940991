//! Keeps a container's terminal as large as the client's.

use std::time::Duration;

use ferry_client::{Client, Error};
use tokio::signal::unix::{SignalKind, signal};

use crate::output::{Printer, stdout_size};

/// What has the terminal.
#[derive(Clone, Debug)]
pub(crate) enum Resized {
    /// A container.
    Container(String),
    /// An exec.
    Exec(String),
}

/// Tries for a terminal that does not exist quite yet.
const TRIES: u32 = 10;

async fn resize(client: &Client, what: &Resized) -> Result<(), Error> {
    let Some((height, width)) = stdout_size() else { return Ok(()) };
    match what {
        Resized::Container(id) => client.container_resize(id, height, width).await,
        Resized::Exec(id) => client.exec_resize(id, height, width).await,
    }
}

/// Sets the size now and at every change, until dropped.
pub(crate) async fn follow(client: &Client, what: &Resized, printer: &Printer) {
    let changes = signal(SignalKind::window_change());
    let mut done = false;
    for attempt in 0..TRIES {
        if resize(client, what).await.is_ok() {
            done = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10) * (attempt + 1)).await;
    }
    if !done {
        printer.note("failed to resize tty, using default size");
    }
    let Ok(mut changes) = changes else { return std::future::pending().await };
    while changes.recv().await.is_some() {
        // The process may just have ended.
        let _ = resize(client, what).await;
    }
}
