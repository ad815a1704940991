//! `Control.Status`: how a build goes, as it goes.

use ferry_buildkit_proto::grpc::{Call, Status};
use ferry_buildkit_proto::messages::Timestamp;
use ferry_buildkit_proto::messages::control::{
    StatusRequest, StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use ferry_buildkit_proto::messages::ops::{Position, ProgressGroup, Range, SourceInfo};

use super::BuildKit;
use crate::progress::Event;

/// Events that are told at a time.
const AT_ONCE: usize = 256;
/// Bytes of output that are told at a time.
const LOGS_AT_ONCE: usize = 1 << 20;

/// How a build goes, piece by piece.
pub struct Telling(tokio::sync::mpsc::UnboundedReceiver<Event>);

impl Telling {
    /// The next piece, as BuildKit writes it; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.next_status().await.map(|status| prost::Message::encode_to_vec(&status))
    }

    async fn next_status(&mut self) -> Option<StatusResponse> {
        let event = self.0.recv().await?;
        let mut response = StatusResponse::default();
        let mut bytes = add(&mut response, event);
        for _ in 0..AT_ONCE {
            if bytes > LOGS_AT_ONCE {
                break;
            }
            match self.0.try_recv() {
                Ok(event) => bytes += add(&mut response, event),
                Err(_) => break,
            }
        }
        Some(response)
    }
}

impl BuildKit {
    /// Follows a build that goes on, or that is remembered.
    pub(super) async fn follow(&self, reference: &str) -> Result<Telling, Status> {
        let reporter = match self.history.reporter(reference) {
            Some(reporter) => reporter,
            None => self.jobs.find(reference).await?.reporter.clone(),
        };
        Ok(Telling(reporter.follow()))
    }

    pub(super) async fn status(&self, mut call: Call) -> Result<(), Status> {
        let request: StatusRequest = call.requests.only().await?;
        let mut telling = self.follow(&request.reference).await?;
        while let Some(response) = telling.next_status().await {
            call.replies.send(&response).await?;
        }
        Ok(())
    }
}

/// The type of [`log`].
pub(super) const LOG: &str = "application/vnd.buildkit.status.v0";

/// What was told of a build, as BuildKit keeps it: messages of status, each after its length.
pub(super) fn log(events: Vec<Event>) -> Vec<u8> {
    let mut log = Vec::new();
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let mut response = StatusResponse::default();
        let (mut count, mut bytes) = (0, 0);
        while count < AT_ONCE
            && bytes <= LOGS_AT_ONCE
            && let Some(event) = events.next()
        {
            count += 1;
            bytes += add(&mut response, event);
        }
        let encoded = prost::Message::encode_to_vec(&response);
        log.extend(u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
        log.extend(encoded);
    }
    log
}

/// Adds an event to what is told next; returns the bytes of its output.
fn add(response: &mut StatusResponse, event: Event) -> usize {
    let time = |moment: Option<i64>| moment.map(Timestamp::of_ns);
    match event {
        Event::Vertex(state) => response.vertexes.push(Vertex {
            digest: state.digest.to_string(),
            inputs: state.inputs.iter().map(ToString::to_string).collect(),
            name: state.name,
            cached: state.cached,
            started: time(state.started_ns),
            completed: time(state.completed_ns),
            error: state.error,
            progress_group: state.group.map(|id| ProgressGroup { name: id.clone(), id, weak: false }),
        }),
        Event::Status(line) => response.statuses.push(VertexStatus {
            id: line.id,
            vertex: line.vertex.to_string(),
            name: String::new(),
            current: line.current,
            total: line.total,
            timestamp: Some(Timestamp::of_ns(line.time_ns)),
            started: time(line.started_ns),
            completed: time(line.completed_ns),
        }),
        Event::Log(piece) => {
            let bytes = piece.data.len();
            response.logs.push(VertexLog {
                vertex: piece.vertex.to_string(),
                timestamp: Some(Timestamp::of_ns(piece.time_ns)),
                stream: piece.stream.into(),
                msg: piece.data,
            });
            return bytes;
        }
        Event::Warning(warning) => {
            let position = |line: u32| Some(Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
            response.warnings.push(VertexWarning {
                vertex: warning.vertex.to_string(),
                level: 1,
                short: warning.short.into_bytes(),
                detail: warning.detail.into_iter().map(String::into_bytes).collect(),
                url: warning.url,
                info: Some(SourceInfo {
                    filename: warning.file,
                    data: warning.source,
                    language: "Dockerfile".to_owned(),
                }),
                ranges: warning
                    .lines
                    .iter()
                    .map(|(first, last)| Range { start: position(*first), end: position(*last) })
                    .collect(),
            });
        }
        // For clients of the builder before BuildKit alone.
        Event::Instructions(_) => {}
    }
    0
}
