//! Builds that did not come by BuildKit's protocol, remembered beside those that did.

use std::collections::BTreeMap;

use ferry_buildkit_proto::grpc::{Code, Status};
use ferry_buildkit_proto::messages::control::{Exporter, SolveRequest, SolveResponse};

use super::export::told_of_image;
use super::history::Writing;
use super::jobs::LOGS_KEPT;
use super::{BuildKit, status_of};
use crate::builder::{BuildRequest, Built};
use crate::cache::new_id;
use crate::failure::Failure;
use crate::progress::Reporter;

/// A build that goes on, as it is remembered; dropped without an end it was broken off.
pub struct Recording {
    writing: Option<Writing>,
    reporter: Reporter,
}

impl BuildKit {
    /// Remembers a build that begins. `called` is what the user calls its context.
    #[must_use]
    pub fn remember(&self, request: &BuildRequest, reporter: &Reporter, called: &str) -> Recording {
        let mut options = request.options.clone();
        if !request.remote.is_empty() {
            options.insert("context".to_owned(), request.remote.clone());
        } else if !called.is_empty() {
            options.insert("vcs:localdir:context".to_owned(), called.to_owned());
        }
        options.entry("filename".to_owned()).or_insert_with(|| "Dockerfile".to_owned());
        let names: Vec<String> = request.names.iter().map(ToString::to_string).collect();
        let attrs = BTreeMap::from([("name".to_owned(), names.join(","))]);
        let kind = if request.writes_image { "image" } else { "local" }.to_owned();
        let asked = SolveRequest {
            reference: if request.id.is_empty() { new_id() } else { request.id.clone() },
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: options,
            exporters: vec![Exporter { kind, attrs }],
            ..SolveRequest::default()
        };
        Recording { writing: Some(self.history.begin(&asked, reporter)), reporter: reporter.clone() }
    }
}

impl Recording {
    /// The build has ended.
    pub fn end(mut self, outcome: Result<&Built, &Failure>) {
        let Some(mut writing) = self.writing.take() else { return };
        match outcome {
            Ok(built) => {
                writing.take_origin(built);
                let response = SolveResponse { exporter_response: told_of_image(built, &built.names) };
                writing.end(Ok(&response));
            }
            Err(failure) => {
                let mut status = status_of(failure);
                if failure.message == "context canceled" {
                    status = Status::new(Code::Cancelled, failure.message.clone());
                }
                writing.end(Err(&status));
            }
        }
        self.reporter.keep_logs(LOGS_KEPT);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.writing.take().is_some() {
            self.reporter.keep_logs(LOGS_KEPT);
        }
    }
}
