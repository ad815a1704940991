//! `LLBBridge`: what a client calls to drive a build that it began with `Control.Solve`.

use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Call, Code, Status};
use ferry_buildkit_proto::messages::gateway::{
    ApiCap, EvaluateRequest, EvaluateResponse, InputsRequest, InputsResponse, PingRequest, PongResponse, ReturnRequest,
    ReturnResponse, SolveRequest, SolveResponse, WarnRequest, WarnResponse,
};
use ferry_spec::digest::Digest;

use super::BuildKit;
use super::jobs::Job;
use crate::progress::{Event, Warning};

/// The header that names the build.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// What the gateway can do.
const GATEWAY: [&str; 11] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
];

/// What builds can do that clients ask about.
const BUILDS: [&str; 62] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.skipsubmodules",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.header",
    "source.http.perm",
    "soruce.http.uidgid",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.mount.cache.content",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.rm.wildcard",
    "file.copy.includeexcludepatterns",
    "file.copy.requiredpaths",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.modestring",
    "file.symlink.create",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "mergeop",
    "diffop",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.multiple",
    "exporter.sourcedateepoch",
    "gc.freespacefilter",
];

impl BuildKit {
    pub(super) async fn gateway(&self, method: &str, call: Call) -> Result<(), Status> {
        let id = call.text(BUILD_ID);
        if id.is_empty() {
            return Err(Status::failed("no buildid found in context"));
        }
        let job = self.jobs.find(id).await?;
        let answering = async {
            match method {
                "Ping" => call.unary(|request| self.ping(request)).await,
                "Solve" => call.unary(|request| self.gateway_solve(&job, request)).await,
                "Evaluate" => call.unary(|request| evaluate(&job, request)).await,
                "Inputs" => call.unary(|InputsRequest {}| async { Ok(InputsResponse::default()) }).await,
                "Warn" => call.unary(|request| warn(&job, request)).await,
                "Return" => call.unary(|request| take_return(&job, request)).await,
                other => {
                    Err(Status::new(Code::Unimplemented, format!("not implemented: LLBBridge.{other} of BuildKit")))
                }
            }
        };
        tokio::select! {
            answered = answering => answered,
            // A last answer may still be on its way when the build ends.
            () = job.over(), if method != "Return" => Err(Status::new(Code::Cancelled, "context canceled")),
        }
    }

    async fn ping(&self, PingRequest {}: PingRequest) -> Result<PongResponse, Status> {
        let caps = |names: &[&str]| names.iter().map(|name| ApiCap { id: (*name).to_owned(), enabled: true }).collect();
        Ok(PongResponse {
            frontend_api_caps: caps(&GATEWAY),
            llb_caps: caps(&BUILDS),
            workers: vec![self.worker_record().await?],
        })
    }

    async fn gateway_solve(&self, job: &Arc<Job>, request: SolveRequest) -> Result<SolveResponse, Status> {
        let mut options = request.frontend_opt;
        super::solve::import_caches(&mut options, &request.cache_imports);
        if let Some(definition) = request.definition.filter(|definition| !definition.def.is_empty()) {
            if !request.frontend.is_empty() {
                return Err(Status::failed("cannot solve with both Definition and Frontend specified"));
            }
            return Ok(SolveResponse { result: Some(self.run_definition(job, definition, &options).await?) });
        }
        let solved = self.run_frontend(job, &request.frontend, options, &request.frontend_inputs);
        Ok(SolveResponse { result: Some(solved.await?) })
    }
}

/// Results are whole as soon as they are named.
async fn evaluate(job: &Job, request: EvaluateRequest) -> Result<EvaluateResponse, Status> {
    match job.result(&request.reference) {
        Some(_) => Ok(EvaluateResponse {}),
        None => Err(Status::failed(format!("no such ref: {}", request.reference))),
    }
}

async fn take_return(job: &Job, request: ReturnRequest) -> Result<ReturnResponse, Status> {
    job.take_return(match request.error {
        Some(error) => Err(Status::of_rpc(error)),
        None => Ok(request.result),
    });
    Ok(ReturnResponse {})
}

async fn warn(job: &Job, request: WarnRequest) -> Result<WarnResponse, Status> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let line = |position: Option<ferry_buildkit_proto::messages::ops::Position>| {
        position.and_then(|position| u32::try_from(position.line).ok()).unwrap_or_default()
    };
    let vertex =
        Digest::parse(&request.digest).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let info = request.info.unwrap_or_default();
    job.reporter.tell(Event::Warning(Warning {
        vertex,
        short: text(request.short),
        detail: request.detail.into_iter().map(text).collect(),
        url: request.url,
        file: info.filename,
        lines: request.ranges.iter().map(|range| (line(range.start), line(range.end))).collect(),
        source: info.data,
    }));
    Ok(WarnResponse {})
}
