//! Builds by `POST /build?version=2`: what Docker's clients asked for before they spoke to BuildKit themselves. The request says what to
//! build, a session lends what it takes, and the answer carries BuildKit's own words on how it goes.

use std::collections::{BTreeMap, HashMap};

use ferry_buildkit_proto::grpc::{Code, Status};
use ferry_buildkit_proto::messages::control::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest, SolveResponse};
use ferry_engine::images::Credentials;
use tokio::task::JoinHandle;

use super::BuildKit;
use super::status::Telling;
use crate::builder::Entry;
use crate::cache::new_id;
use crate::session::Session;
use crate::solve::SolveOptions;

/// A build as it was asked for.
#[derive(Default)]
pub struct PostedBuild {
    /// Its id; empty for one that is made up.
    pub id: String,
    /// The session of the client; empty for none.
    pub session: String,
    /// What came with the request itself.
    pub uploaded: Session,
    /// The options of the frontend.
    pub options: BTreeMap<String, String>,
    /// What becomes of it: the kind of output, and its attributes.
    pub exporter: (String, BTreeMap<String, String>),
    /// The image carries the keys of its layers.
    pub has_inline_cache: bool,
    /// Who the user is towards registries.
    pub credentials: HashMap<String, Credentials>,
}

/// Such a build, as it goes on; dropping it ends it.
pub struct Posted {
    task: Solving,
    /// How it goes, piece by piece.
    pub telling: Telling,
    _entry: Option<Entry>,
}

impl Posted {
    /// Waits for the end; returns the image's id, if there is an image.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn finish(mut self) -> Result<Option<String>, Status> {
        let response = match (&mut self.task.0).await {
            Ok(outcome) => outcome?,
            Err(error) if error.is_cancelled() => return Err(Status::new(Code::Cancelled, "context canceled")),
            Err(error) => return Err(Status::failed(format!("the build panicked: {error}"))),
        };
        Ok(response.exporter_response.get("containerimage.digest").cloned())
    }
}

/// What ends with whoever waits for it, from its first moment.
struct Solving(JoinHandle<Result<SolveResponse, Status>>);

impl Drop for Solving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl BuildKit {
    /// Starts a build.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn start_posted(&self, build: PostedBuild) -> Result<Posted, Status> {
        let reference = if build.id.is_empty() { new_id() } else { build.id.clone() };
        let (kind, attrs) = build.exporter;
        let inline = CacheOptionsEntry { kind: "inline".to_owned(), ..CacheOptionsEntry::default() };
        let exports = if build.has_inline_cache { vec![inline] } else { Vec::new() };
        let request = SolveRequest {
            reference: reference.clone(),
            session: build.session,
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: build.options,
            exporters: if kind.is_empty() { Vec::new() } else { vec![Exporter { kind, attrs }] },
            cache: Some(CacheOptions { exports, ..CacheOptions::default() }),
            ..SolveRequest::default()
        };
        let options = SolveOptions {
            allow_host_network: true,
            session: build.uploaded,
            credentials: build.credentials,
            ..SolveOptions::default()
        };
        let buildkit = self.clone();
        let mut task = Solving(tokio::spawn(async move { buildkit.solve_with(request, options).await }));
        let entry = self.builder.enter(build.id, task.0.abort_handle());
        let begun = self.follow(&reference).await;
        match begun {
            Ok(telling) => Ok(Posted { task, telling, _entry: entry }),
            // It ended before it began, and says why.
            Err(unknown) => match (&mut task.0).await {
                Ok(outcome) => Err(outcome.err().unwrap_or(unknown)),
                Err(_) => Err(unknown),
            },
        }
    }
}
