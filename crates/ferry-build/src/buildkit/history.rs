//! Builds that there were, as `ListenBuildHistory` tells them. They are remembered while the daemon runs, the newest of them, with what was
//! told of their steps and how what they built came about.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Call, Code, Status};
use ferry_buildkit_proto::messages::Timestamp;
use ferry_buildkit_proto::messages::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo, Descriptor,
    SolveRequest, SolveResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
};
use ferry_spec::digest::Digest;
use tokio::sync::broadcast;

use super::jobs::LOGS_KEPT;
use super::status;
use crate::attest;
use crate::builder::Built;
use crate::clock::now_ns;
use crate::progress::{Event, Reporter, keep_logs};

/// Builds that are remembered, besides pinned ones.
const REMEMBERED: usize = 50;
/// Events that a listener may be behind.
const QUEUE: usize = 64;

/// A build, and what its record names.
struct Remembered {
    record: BuildHistoryRecord,
    reporter: Reporter,
    blobs: HashMap<String, Bytes>,
}

/// All that are remembered; cheap to clone.
#[derive(Clone)]
pub(super) struct History(Arc<Inner>);

struct Inner {
    records: Mutex<VecDeque<Remembered>>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

impl Default for History {
    fn default() -> Self {
        Self(Arc::new(Inner { records: Mutex::default(), events: broadcast::Sender::new(QUEUE) }))
    }
}

impl History {
    /// A build begins; it is noted as broken off when what is returned is dropped without an end.
    pub(super) fn begin(&self, request: &SolveRequest, reporter: &Reporter) -> Writing {
        let record = BuildHistoryRecord {
            reference: request.reference.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: shown(request),
            exporters: request.exporters.clone(),
            created_at: Some(Timestamp::of_ns(now_ns())),
            generation: 1,
            ..BuildHistoryRecord::default()
        };
        self.put(record.clone(), reporter.clone(), HashMap::new(), BuildHistoryEventType::Started);
        Writing { history: self.clone(), reporter: reporter.clone(), record, blobs: HashMap::new(), is_over: false }
    }

    pub(super) async fn listen(&self, mut call: Call) -> Result<(), Status> {
        let request: BuildHistoryRequest = call.requests.only().await?;
        let mut events = self.0.events.subscribe();
        let fits = |record: &BuildHistoryRecord| request.reference.is_empty() || record.reference == request.reference;
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let known: Vec<BuildHistoryRecord> = {
            let records = self.records();
            let all = records.iter().map(|one| &one.record);
            let wanted = all.filter(|record| fits(record) && !(request.active_only && is_over(record)));
            wanted.take(limit).cloned().collect()
        };
        for record in known {
            let kind = if is_over(&record) { BuildHistoryEventType::Complete } else { BuildHistoryEventType::Started };
            call.replies.send(&BuildHistoryEvent { kind: kind.into(), record: Some(record) }).await?;
        }
        if request.early_exit {
            return Ok(());
        }
        loop {
            match events.recv().await {
                Ok(event) if event.record.as_ref().is_some_and(fits) => call.replies.send(&event).await?,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }

    pub(super) fn update(&self, request: UpdateBuildHistoryRequest) -> Result<UpdateBuildHistoryResponse, Status> {
        let mut records = self.records();
        let found = records.iter().position(|one| one.record.reference == request.reference);
        let unknown = || Status::new(Code::NotFound, format!("no build record found for ref {}", request.reference));
        if request.delete {
            let removed = found.and_then(|at| records.remove(at)).ok_or_else(unknown)?;
            self.tell(removed.record, BuildHistoryEventType::Deleted);
        } else if !request.finalize {
            let record = &mut found.and_then(|at| records.get_mut(at)).ok_or_else(unknown)?.record;
            record.pinned = request.pinned;
            record.generation += 1;
        }
        Ok(UpdateBuildHistoryResponse {})
    }

    /// What was told of the build of a reference, however long ago it ended.
    pub(super) fn reporter(&self, reference: &str) -> Option<Reporter> {
        self.records().iter().find(|one| one.record.reference == reference).map(|one| one.reporter.clone())
    }

    /// Something that a record names.
    pub(super) fn blob(&self, digest: &str) -> Option<Bytes> {
        self.records().iter().find_map(|one| one.blobs.get(digest).cloned())
    }

    fn put(
        &self,
        record: BuildHistoryRecord,
        reporter: Reporter,
        blobs: HashMap<String, Bytes>,
        kind: BuildHistoryEventType,
    ) {
        let mut records = self.records();
        records.retain(|known| known.record.reference != record.reference);
        records.push_front(Remembered { record: record.clone(), reporter, blobs });
        while records.len() > REMEMBERED
            && let Some(last) = records.iter().rposition(|one| !one.record.pinned && is_over(&one.record))
        {
            records.remove(last);
        }
        drop(records);
        self.tell(record, kind);
    }

    fn tell(&self, record: BuildHistoryRecord, kind: BuildHistoryEventType) {
        // Nobody may listen.
        let _ = self.0.events.send(BuildHistoryEvent { kind: kind.into(), record: Some(record) });
    }

    fn records(&self) -> std::sync::MutexGuard<'_, VecDeque<Remembered>> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_over(record: &BuildHistoryRecord) -> bool {
    record.completed_at.is_some()
}

/// The options, without the values of what might be a secret.
fn shown(request: &SolveRequest) -> std::collections::BTreeMap<String, String> {
    let is_shown = |key: &str| !key.starts_with("build-arg:") || key.starts_with("build-arg:BUILDKIT_");
    let options = request.frontend_attrs.iter().filter(|(key, _)| is_shown(key));
    options.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Keeps a blob, and describes it.
fn named(blobs: &mut HashMap<String, Bytes>, media_type: &str, bytes: Vec<u8>) -> Descriptor {
    let digest = Digest::sha256(&bytes).to_string();
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    blobs.insert(digest.clone(), bytes.into());
    Descriptor { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new() }
}

/// A record of a build that goes on.
pub(super) struct Writing {
    history: History,
    reporter: Reporter,
    record: BuildHistoryRecord,
    blobs: HashMap<String, Bytes>,
    is_over: bool,
}

impl Writing {
    /// Notes how what was built came about.
    pub(super) fn take_origin(&mut self, built: &Built) {
        let is_single = built.targets.len() == 1 && !built.is_index;
        let image = built.image.as_ref();
        for (platform, predicate) in built.provenance() {
            let body = serde_json::to_vec(&predicate.body).unwrap_or_default();
            let mut attestation = named(&mut self.blobs, attest::STATEMENT_TYPE, body);
            attestation.annotations.insert(attest::PREDICATE.to_owned(), predicate.kind.to_owned());
            let results = image.map(|image| {
                let size = i64::try_from(image.size).unwrap_or(i64::MAX);
                let (media_type, digest) = (image.media_type.clone(), image.digest.to_string());
                (0, Descriptor { media_type, digest, size, annotations: BTreeMap::new() })
            });
            let info = BuildResultInfo { attestations: vec![attestation], results: results.into_iter().collect() };
            match is_single {
                true => self.record.result = Some(info),
                false => drop(self.record.results.insert(platform, info)),
            }
        }
    }

    /// The build has ended.
    pub(super) fn end(mut self, outcome: Result<&SolveResponse, &Status>) {
        match outcome {
            Ok(response) => self.record.exporter_response.clone_from(&response.exporter_response),
            Err(status) => self.record.error = Some(status.to_rpc()),
        }
        self.write();
    }

    fn write(&mut self) {
        self.is_over = true;
        let record = &mut self.record;
        record.completed_at = Some(Timestamp::of_ns(now_ns()));
        record.generation += 1;
        self.reporter.finish();
        let mut followed = self.reporter.follow();
        let mut events: Vec<Event> = std::iter::from_fn(|| followed.try_recv().ok()).collect();
        let mut steps = HashMap::new();
        for event in &events {
            match event {
                Event::Vertex(state) => {
                    let done = state.completed_ns.is_some() && state.error.is_empty();
                    steps.insert(&state.digest, (state.cached, done));
                }
                Event::Warning(_) => record.num_warnings += 1,
                _ => {}
            }
        }
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        record.num_total_steps = count(steps.len());
        record.num_cached_steps = count(steps.values().filter(|(cached, _)| *cached).count());
        record.num_completed_steps = count(steps.values().filter(|(_, done)| *done).count());
        drop(steps);
        keep_logs(&mut events, LOGS_KEPT);
        let mut blobs = std::mem::take(&mut self.blobs);
        record.logs = Some(named(&mut blobs, status::LOG, status::log(events)));
        self.history.put(record.clone(), self.reporter.clone(), blobs, BuildHistoryEventType::Complete);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_over {
            self.record.error = Some(Status::new(Code::Cancelled, "context canceled").to_rpc());
            self.write();
        }
    }
}
