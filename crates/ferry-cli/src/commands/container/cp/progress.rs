//! The line that tells how much was copied.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::output::stderr_is_terminal;

const INTERVAL: Duration = Duration::from_millis(75);

/// Bytes that went by.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shows it on standard error, if that is a terminal, until dropped.
pub(super) struct Line(Option<tokio::task::JoinHandle<()>>);

impl Line {
    pub(super) fn begin(header: &'static str, count: Count) -> Self {
        if !stderr_is_terminal() {
            return Self(None);
        }
        show(&format!("\x1b[s\x1b[?25l{header}{}", size(0)));
        Self(Some(tokio::spawn(async move {
            let mut last = 0;
            loop {
                tokio::time::sleep(INTERVAL).await;
                let now = count.get();
                if now != last {
                    show(&format!("\x1b[{}G\x1b[0K{}", header.len() + 1, size(now)));
                    last = now;
                }
            }
        })))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            show("\x1b[?25h\x1b[u\x1b[2K");
        }
    }
}

/// A reader that went away is no reason to stop.
fn show(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What was copied, and how much of an archive that made.
pub(super) fn summary(content: u64, transferred: u64, target: &str) -> String {
    if content == transferred {
        return format!("Successfully copied {} to {target}", size(content));
    }
    format!("Successfully copied {} (transferred {}) to {target}", size(content), size(transferred))
}

/// Three digits and a unit of thousands.
fn size(bytes: u64) -> String {
    crate::format::human::size_short(i64::try_from(bytes).unwrap_or(i64::MAX))
}
