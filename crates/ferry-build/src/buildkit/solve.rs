//! `Control.Solve`: a build from its beginning to what is exported of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Code, Status};
use ferry_buildkit_proto::messages::control::{CacheOptionsEntry, Exporter, SolveRequest, SolveResponse};
use ferry_buildkit_proto::messages::gateway::SolveResult;
use ferry_buildkit_proto::messages::ops::Definition;

use super::export::Export;
use super::jobs::{Job, Returned};
use super::lender::Client;
use super::{BuildKit, status_of};
use crate::builder::{BuildRequest, Built};
use crate::exchange::{CacheOrder, ExportOrder};
use crate::failure::Failure;
use crate::plan::MainContext;
use crate::session::Session;
use crate::solve::SolveOptions;

/// The frontend that is built in.
const DOCKERFILE: &str = "dockerfile.v0";
/// The frontend that runs others out of images.
const GATEWAY: &str = "gateway.v0";
/// What images hold the Dockerfile frontend that is built in.
const OWN_IMAGES: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];
/// What the Dockerfile frontend can do that a client may insist on.
const CAPABILITIES: [&str; 4] = [
    "moby.buildkit.frontend.inputs",
    "moby.buildkit.frontend.subrequests",
    "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring",
];

impl BuildKit {
    pub(super) async fn solve(&self, request: SolveRequest) -> Result<SolveResponse, Status> {
        refuse_unbuilt(&request).map_err(|failure| status_of(&failure))?;
        let exporters = exporters(&request);
        let exports = exporters.iter().enumerate().map(|(id, exporter)| Export::read(id, exporter));
        let exports = exports.collect::<Result<Vec<_>, _>>().map_err(|failure| status_of(&failure))?;
        let caches = cache_exports(&request).map_err(|failure| status_of(&failure))?;
        let options = SolveOptions {
            allow_host_network: request.entitlements.iter().any(|right| right == "network.host"),
            allow_devices: request.entitlements.iter().any(|right| right == "device"),
            allow_insecure: request.entitlements.iter().any(|right| right == "security.insecure"),
            ..SolveOptions::default()
        };
        let (running, returned) = self.jobs.begin(&request.reference, &request.session, options)?;
        let record = (!request.internal).then(|| self.history.begin(&request, Arc::clone(&running.job)));
        let outcome = self.solve_to_end(&running.job, &request, exports, caches, returned).await;
        drop(running);
        if let Some(record) = record {
            record.end(outcome.as_ref());
        }
        outcome
    }

    async fn solve_to_end(
        &self,
        job: &Arc<Job>,
        request: &SolveRequest,
        exports: Vec<Export>,
        caches: Vec<ExportOrder>,
        returned: tokio::sync::oneshot::Receiver<Returned>,
    ) -> Result<SolveResponse, Status> {
        let result = match request.frontend.as_str() {
            // The client drives the build itself.
            "" => returned.await.unwrap_or_else(|_| Err(Status::new(Code::Cancelled, "context canceled")))?,
            frontend => {
                let mut options = request.frontend_attrs.clone();
                if let Some(cache) = &request.cache {
                    import_caches(&mut options, &cache.imports);
                }
                let solved = self.run_frontend(job, frontend, options, &request.frontend_inputs);
                Some(solved.await?)
            }
        };
        let Some(result) = result else { return Ok(SolveResponse::default()) };
        let mut response = BTreeMap::new();
        for (name, value) in &result.metadata {
            if name.starts_with("frontend.") {
                response.insert(name.clone(), String::from_utf8_lossy(value).into_owned());
            }
        }
        if exports.is_empty() && caches.is_empty() {
            return Ok(SolveResponse { exporter_response: response });
        }
        let mut built = named_result(job, &result)?;
        built.has_inline_cache = caches.iter().any(ExportOrder::is_inline);
        for export in exports {
            let told = self.export(job, &mut built, export).await.map_err(|failure| status_of(&failure))?;
            response.extend(told);
        }
        let options = SolveOptions { session: self.lent(&job.session), ..job.options.clone() };
        for order in caches.iter().filter(|order| !order.is_inline()) {
            let given = self.builder.export_cache(&built, order, &options, &job.reporter).await;
            if let Some(manifest) = given.map_err(|failure| status_of(&failure))? {
                let text = serde_json::to_string(&manifest).unwrap_or_default();
                response.insert("cache.manifest".to_owned(), text);
            }
        }
        Ok(SolveResponse { exporter_response: response })
    }

    /// Builds what a frontend makes of its options.
    pub(super) async fn run_frontend(
        &self,
        job: &Arc<Job>,
        frontend: &str,
        mut options: BTreeMap<String, String>,
        inputs: &BTreeMap<String, Definition>,
    ) -> Result<SolveResult, Status> {
        check_frontend(frontend, &options, inputs)?;
        let remote = take_remote(&mut options);
        let prefix = "local-sessionid:";
        let of_folders =
            options.iter().filter_map(|(key, id)| Some((key.strip_prefix(prefix)?.to_owned(), id.clone())));
        let of_folders = of_folders.filter(|(_, id)| !id.is_empty());
        let client = Client {
            sessions: self.sessions.clone(),
            session: job.session.clone(),
            of_folders: of_folders.collect(),
            workshop: self.builder.ground().engine.workshop.clone(),
        };
        let solve = SolveOptions { session: Session::of(Arc::new(client)), ..job.options.clone() };
        let id = job.reference.clone();
        let request = BuildRequest { id, options, solve, remote, ..BuildRequest::default() };
        let built = self.builder.build(request, &job.reporter).await.map_err(|failure| status_of(&failure))?;
        if let Some(metadata) = built.answer {
            return Ok(SolveResult { metadata, ..SolveResult::default() });
        }
        let id = job.keep(built);
        let reference = Some(ferry_buildkit_proto::messages::gateway::Ref { id });
        Ok(SolveResult { reference, ..SolveResult::default() })
    }
}

/// The result that a client names.
fn named_result(job: &Job, result: &SolveResult) -> Result<Built, Status> {
    let of_map = result.references.as_ref().and_then(|map| map.refs.values().next());
    let reference = result.reference.as_ref().or(of_map).map(|reference| reference.id.as_str());
    let name = reference.or(result.ref_deprecated.as_deref()).unwrap_or_default();
    job.result(name).ok_or_else(|| match name {
        "" => Status::failed("the build has no result that could be exported"),
        name => Status::failed(format!("no such result of the build: {name}")),
    })
}

fn check_frontend(
    frontend: &str,
    options: &BTreeMap<String, String>,
    inputs: &BTreeMap<String, Definition>,
) -> Result<(), Status> {
    let refused = |text: String| Err(Status::failed(text));
    match frontend {
        DOCKERFILE => {}
        GATEWAY => {
            let source = options.get("source").map(String::as_str).unwrap_or_default();
            let named = ferry_spec::reference::Reference::parse(source).ok();
            let is_own = named.is_some_and(|named| named.domain() == "docker.io" && OWN_IMAGES.contains(&named.path()));
            if !is_own {
                return refused(format!("not implemented: frontends out of images ({source})"));
            }
        }
        "" => return refused("not implemented: builds from definitions; give a Dockerfile".to_owned()),
        other => return refused(format!("frontend {other} not found")),
    }
    if !inputs.is_empty() {
        return refused("not implemented: inputs of a frontend that are definitions".to_owned());
    }
    let wanted = options.get("frontend.caps").map(String::as_str).unwrap_or_default();
    for capability in wanted.split(',').filter(|capability| !capability.is_empty()) {
        let plain = capability.split('+').next().unwrap_or_default();
        if !CAPABILITIES.contains(&plain) {
            // Clients say more about it, by this code.
            return Err(Status::new(Code::Unimplemented, format!("unsupported frontend capability {plain}")));
        }
    }
    if let Some(name) = options.keys().find(|key| key.starts_with("attest:")) {
        return refused(format!("not implemented: attestations ({name})"));
    }
    Ok(())
}

/// Takes a context out of the options that the daemon has to bring here itself.
fn take_remote(options: &mut BTreeMap<String, String>) -> String {
    let key = options.get("contextkey").cloned().unwrap_or_else(|| "context".to_owned());
    let is_remote = options.get(&key).is_some_and(|value| !matches!(MainContext::detect(value), MainContext::Local(_)));
    if is_remote { options.remove(&key).unwrap_or_default() } else { String::new() }
}

/// What a request asks for that is not built, by name.
fn refuse_unbuilt(request: &SolveRequest) -> Result<(), Failure> {
    if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
        return Err(Failure::not_implemented("builds from definitions; give a Dockerfile"));
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return Err(Failure::not_implemented("policies for the sources of a build"));
    }
    if request.enable_session_exporter {
        return Err(Failure::not_implemented("exporters that a client names at the end of a build"));
    }
    Ok(())
}

/// The caches that are to be given, of old clients too.
fn cache_exports(request: &SolveRequest) -> Result<Vec<ExportOrder>, Failure> {
    let cache = request.cache.clone().unwrap_or_default();
    let mut orders: Vec<CacheOrder> = Vec::new();
    for CacheOptionsEntry { kind, attrs } in cache.exports {
        let order = CacheOrder { kind, attributes: attrs };
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    if orders.is_empty() && !cache.export_ref_deprecated.is_empty() {
        let attributes = BTreeMap::from([("ref".to_owned(), cache.export_ref_deprecated)]);
        orders.push(CacheOrder { kind: "registry".to_owned(), attributes });
    }
    orders.iter().map(ExportOrder::read).collect()
}

/// Adds caches to those that the options of the frontend name.
pub(super) fn import_caches(options: &mut BTreeMap<String, String>, imports: &[CacheOptionsEntry]) {
    if imports.is_empty() || options.contains_key("cache-imports") {
        return;
    }
    let all: Vec<_> =
        imports.iter().map(|entry| serde_json::json!({ "Type": entry.kind, "Attrs": entry.attrs })).collect();
    options.insert("cache-imports".to_owned(), serde_json::Value::Array(all).to_string());
}

/// The exporters of a request, of old clients too.
fn exporters(request: &SolveRequest) -> Vec<Exporter> {
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        let attrs = request.exporter_attrs_deprecated.clone();
        return vec![Exporter { kind: request.exporter_deprecated.clone(), attrs }];
    }
    request.exporters.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refused = |frontend: &str, pairs: &[(&str, &str)]| {
            check_frontend(frontend, &options(pairs), &BTreeMap::new()).err().map(|status| status.message)
        };
        assert_eq!(refused(DOCKERFILE, &[("frontend.caps", "moby.buildkit.frontend.contexts+forward")]), None);
        assert_eq!(refused(GATEWAY, &[("source", "docker/dockerfile:1.7")]), None);
        for (frontend, pairs, text) in [
            ("", &[][..], "not implemented: builds from definitions; give a Dockerfile"),
            ("x", &[], "frontend x not found"),
            (GATEWAY, &[("source", "me/own:1")], "not implemented: frontends out of images (me/own:1)"),
            (DOCKERFILE, &[("frontend.caps", "x.y")], "unsupported frontend capability x.y"),
            (DOCKERFILE, &[("attest:sbom", "")], "not implemented: attestations (attest:sbom)"),
        ] {
            assert_eq!(refused(frontend, pairs).as_deref(), Some(text));
        }
    }

    #[test]
    fn remote_contexts_are_told_from_the_clients_own() {
        for (value, remote) in
            [("https://example.org/a.git#main", true), ("http://buildkit-session/x", true), ("local:context", false)]
        {
            let mut options = options(&[("context", value)]);
            assert_eq!(take_remote(&mut options) == value, remote);
            assert_eq!(options.is_empty(), remote, "{value}");
        }
    }
}
