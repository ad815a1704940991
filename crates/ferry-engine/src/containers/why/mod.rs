//! `GET /containers/{id}/why`: why a container ended, out of what is known of its run. No client of Docker asks for it.
//!
//! Here the facts are gathered; `explain` makes sense of them, without looking at anything itself.

mod explain;
mod program;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::container::Why;
use ferry_spec::platform::Platform;
use ferry_store::MountOptions;

use self::explain::Facts;
use self::program::Program;
use super::list::status_text;
use super::logs::LogsOptions;
use super::record::Record;
use super::{Container, Containers};
use crate::blocking;
use crate::clock;
use crate::error::Result;

/// Lines of the log that are shown.
const LOG_LINES: u64 = 10;
/// Most bytes of one of them.
const LINE_BYTES: usize = 500;
/// A log that is not read by then is done without.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

impl Containers {
    /// Tells why a container ended, failed to start, or is unwell.
    ///
    /// API: `GET /containers/{id}/why`
    ///
    /// # Errors
    /// NotFound.
    pub async fn why(&self, reference: &str) -> Result<Why> {
        let container = self.find(reference)?;
        let record = container.snapshot();
        let log = self.last_lines(&record).await;
        let program = self.program(&container, &record, &log).await;
        let facts = Facts { record: &record, log: &log, host: Platform::host(), program };
        let explanation = explain::explain(&facts);
        Ok(Why {
            id: record.id.clone(),
            name: record.name.clone(),
            status: status_text(&record, clock::now_ns()),
            cause: explanation.cause.to_owned(),
            reason: explanation.reason,
            details: explanation.details,
            next: explanation.next,
            log,
        })
    }

    /// Logs that cannot be read leave nothing to show, and no failure.
    async fn last_lines(&self, record: &Record) -> Vec<String> {
        let options = LogsOptions { stdout: true, stderr: true, tail: Some(LOG_LINES), ..LogsOptions::default() };
        let Ok(mut session) = self.logs(&record.id, options).await else { return Vec::new() };
        let read = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = session.chunks.recv().await {
                bytes.extend_from_slice(&chunk);
            }
            bytes
        };
        let bytes = tokio::time::timeout(LOG_PATIENCE, read).await.unwrap_or_default();
        let text = if session.tty { bytes } else { payload_of_frames(&bytes) };
        lines_of(&text)
    }

    /// Looks at the program of a container whose start the kernel refused: the file is there, or it would have been said.
    async fn program(&self, container: &Arc<Container>, record: &Record, log: &[String]) -> Option<Program> {
        let path = explain::refused_by_kernel(record, log)?.to_owned();
        // Two mounts of one writable layer are one too many: a start holds this lock.
        let _verb = container.verb.try_lock().ok()?;
        if container.status().counts_as_running() {
            return None;
        }
        let (store, folder, chain) = (self.inner.store.clone(), self.data_folder(&record.id), record.chain_id.clone());
        let looked = blocking(move || {
            let options = MountOptions { read_only: true, ..MountOptions::default() };
            let mounted = store.mount_rootfs(chain.as_ref(), &folder.join("upper"), &folder.join("work"), options);
            let root: Option<OwnedFd> = mounted.ok();
            Ok(root.and_then(|root| program::look(&root, &path)))
        });
        looked.await.ok().flatten()
    }
}

/// What is between the heads of Docker's frames.
fn payload_of_frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let [_, _, _, _, a, b, c, d, rest @ ..] = bytes {
        let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).min(rest.len());
        payload.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    payload
}

fn lines_of(text: &[u8]) -> Vec<String> {
    let cut = |line: &[u8]| String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]).trim_end().to_owned();
    let lines = text.split(|byte| *byte == b'\n').map(cut).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.collect();
    let spare = lines.len().saturating_sub(LOG_LINES as usize);
    lines.drain(..spare);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lose_their_heads() {
        let bytes = [&[1, 0, 0, 0, 0, 0, 0, 4][..], b"one\n", &[2, 0, 0, 0, 0, 0, 0, 9], b"cut"].concat();
        assert_eq!(lines_of(&payload_of_frames(&bytes)), ["one", "cut"]);
    }
}
