//! BuildKit's own protocol: the services that its clients call, on top of a [`Builder`], and those that they offer over their sessions.
//!
//! A client opens a session ([`Sessions::carry`]), over which it lends files, secrets and credentials and takes what was built; then it
//! calls `Control.Solve`, which waits while the client drives the build through the gateway: `LLBBridge.Solve` builds, `Return` names
//! the result to export. `Control.Status` tells how it goes. A client that leaves has its calls dropped, and with them the build.
//!
//! What a client defines itself, operation by operation, becomes a graph like that of a Dockerfile (`definition.rs`). What was built goes
//! by a name of ferry's own in the definitions that are handed out: whoever builds on it gets it as it is, and nothing is built again.

mod content;
mod definition;
mod export;
mod files;
mod gateway;
mod history;
mod jobs;
mod lender;
mod policy;
mod posted;
mod receive;
mod recording;
mod send;
mod sessions;
mod solve;
mod source;
mod status;
mod usage;
mod worker;

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Call, Code, Service, Status};
use ferry_buildkit_proto::messages::Any;
use ferry_buildkit_proto::messages::content::{
    Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse,
};
use ferry_engine::ErrorKind;
use ferry_spec::digest::Digest;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use serde_json::json;

use crate::builder::Builder;
use crate::clock::{now_ns, rfc3339};
use crate::failure::{Doing, Failure, blocking};

pub use content::ContentStore;
pub(crate) use content::Incoming;
pub(crate) use definition::definition_of;
pub use export::Export;
pub use policy::SourcePolicy;
pub use posted::{Posted, PostedBuild};
pub use recording::Recording;
pub use sessions::{Offer, Sessions};
pub use status::Telling;
pub use worker::Worker;

/// The most bytes of a document that is handed out.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The services; cheap to clone.
#[derive(Clone)]
pub struct BuildKit {
    builder: Builder,
    sessions: Sessions,
    jobs: jobs::Jobs,
    history: history::History,
    worker: Arc<Worker>,
}

impl BuildKit {
    /// Offers a builder.
    #[must_use]
    pub fn new(builder: Builder, worker: Worker) -> Self {
        Self {
            builder,
            sessions: Sessions::default(),
            jobs: jobs::Jobs::default(),
            history: history::History::default(),
            worker: Arc::new(worker),
        }
    }

    /// The sessions of clients.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What the client of a session lends.
    #[must_use]
    pub fn lent(&self, session: &str) -> crate::session::Session {
        crate::session::Session::of(Arc::new(self.client(session)))
    }

    fn client(&self, session: &str) -> lender::Client {
        lender::Client {
            sessions: self.sessions.clone(),
            session: session.to_owned(),
            of_folders: std::collections::BTreeMap::new(),
            workshop: self.builder.ground().engine.workshop.clone(),
            contexts: self.builder.ground().contexts.clone(),
        }
    }

    async fn answer(&self, call: Call) -> Result<(), Status> {
        let Some((service, method)) = call.path.trim_start_matches('/').split_once('/') else {
            return Err(Status::unimplemented(&call.path));
        };
        let method = method.to_owned();
        match service {
            "moby.buildkit.v1.Control" => self.control(&method, call).await,
            "moby.buildkit.v1.frontend.LLBBridge" => self.gateway(&method, call).await,
            "containerd.services.content.v1.Content" => self.content(&method, call).await,
            // What health checkers want to hear has no fields but the one.
            "grpc.health.v1.Health" if method == "Check" => {
                call.unary(|(): ()| async { Ok(Serving { status: 1 }) }).await
            }
            other => Err(Status::new(Code::Unimplemented, format!("unknown service {other}"))),
        }
    }

    /// Something that records of builds name: how a build came about, or a document of the image that it made.
    async fn named_blob(&self, digest: &str) -> Result<Bytes, Status> {
        if let Some(blob) = self.history.blob(digest) {
            return Ok(blob);
        }
        let missing = || Status::new(Code::NotFound, format!("content {digest}: not found"));
        let known = Digest::parse(digest).map_err(|_| missing())?;
        let images = self.builder.ground().engine.images.clone();
        let reading = blocking(move || {
            let mut bytes = Vec::new();
            let file = images.blob(&known)?;
            file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).doing("cannot read content")?;
            Ok(bytes)
        });
        let bytes = reading.await.map_err(|_| missing())?;
        // Layers are none of it.
        if bytes.len() as u64 > DOCUMENT_LIMIT { Err(missing()) } else { Ok(bytes.into()) }
    }

    /// Hands out what records of builds name.
    async fn content(&self, method: &str, mut call: Call) -> Result<(), Status> {
        match method {
            "Info" => {
                call.unary(|InfoRequest { digest }| async move {
                    let size = i64::try_from(self.named_blob(&digest).await?.len()).unwrap_or(i64::MAX);
                    Ok(InfoResponse { info: Some(Info { digest, size, ..Info::default() }) })
                })
                .await
            }
            "Read" => {
                let request: ReadContentRequest = call.requests.only().await?;
                let blob = self.named_blob(&request.digest).await?;
                let start = usize::try_from(request.offset).unwrap_or_default().min(blob.len());
                let wanted = usize::try_from(request.size).ok().filter(|size| *size > 0);
                let end = wanted.map_or(blob.len(), |size| blob.len().min(start.saturating_add(size)));
                let data = blob.slice(start..end);
                call.replies.send(&ReadContentResponse { offset: request.offset, data }).await
            }
            other => Err(Status::unimplemented(format_args!("Content.{other}"))),
        }
    }

    async fn control(&self, method: &str, call: Call) -> Result<(), Status> {
        match method {
            "Info" => call.unary(|request| async move { Ok(self.worker.info(request)) }).await,
            "ListWorkers" => call.unary(|request| self.list_workers(request)).await,
            "Solve" => call.unary(|request| self.solve(request)).await,
            "Status" => self.status(call).await,
            "Session" => self.sessions.carry_in_call(call).await,
            "DiskUsage" => call.unary(|request| self.disk_usage(request)).await,
            "Prune" => self.prune(call).await,
            "ListenBuildHistory" => self.history.listen(call).await,
            "UpdateBuildHistory" => call.unary(|request| async { self.history.update(request) }).await,
            other => Err(Status::new(Code::Unimplemented, format!("not implemented: Control.{other} of BuildKit"))),
        }
    }
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Serving {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Service for BuildKit {
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            let path = call.path.clone();
            let outcome = self.answer(call).await;
            if let Err(status) = &outcome {
                tracing::debug!(path, error = %status, "call of a build client failed");
            }
            outcome
        })
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        // By it clients tell how old records are, whatever their own clock says.
        let now = HeaderValue::from_str(&rfc3339(now_ns()));
        now.into_iter().map(|now| (HeaderName::from_static("buildkit-current-timestamp"), now)).collect()
    }
}

/// Words a failure for BuildKit's clients: the text, and the lines that it speaks of for them to draw.
fn status_of(failure: &Failure) -> Status {
    // Clients put the name of any other code before the text.
    let mut status = Status::failed(failure.message.clone());
    if let Some(file) = failure.dockerfile.as_ref().filter(|_| !failure.location.is_empty()) {
        let ranges: Vec<_> = failure
            .location
            .iter()
            .map(|range| json!({ "start": { "line": range.first }, "end": { "line": range.last } }))
            .collect();
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(&file.text);
        let source =
            json!({ "info": { "filename": file.name, "data": data, "language": "Dockerfile" }, "ranges": ranges });
        status.details.push(Any {
            type_url: "github.com/moby/buildkit/errdefs.Source+json".to_owned(),
            value: source.to_string().into_bytes(),
        });
    }
    status
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let kind = match status.code {
            Code::NotFound => ErrorKind::NotFound,
            Code::InvalidArgument => ErrorKind::InvalidArgument,
            Code::PermissionDenied => ErrorKind::Forbidden,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::Unimplemented => ErrorKind::NotImplemented,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, status.message)
    }
}
