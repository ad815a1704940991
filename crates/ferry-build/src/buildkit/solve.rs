//! `Control.Solve`: a build from its beginning to what is exported of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Code, Status};
use ferry_buildkit_proto::messages::control::{CacheOptionsEntry, Exporter, SolveRequest, SolveResponse};
use ferry_buildkit_proto::messages::gateway::{Ref, SolveResult};
use ferry_buildkit_proto::messages::llb;
use ferry_buildkit_proto::messages::ops::{Definition, OpMetadata};
use ferry_spec::digest::Digest;
use ferry_spec::image::ImageConfig;
use prost::Message as _;

use super::export::{Export, Taker};
use super::jobs::{Job, Returned};
use super::lender::Client;
use super::policy::SourcePolicy;
use super::source::RESULT;
use super::{BuildKit, definition, status_of};
use crate::attest::AttestOrder;
use crate::builder::{BuildRequest, Built, BuiltTarget};
use crate::exchange::{CacheOrder, ExportOrder};
use crate::failure::Failure;
use crate::graph::{Op, Source};
use crate::plan::MainContext;
use crate::session::Session;
use crate::solve::{DeviceRights, SolveOptions};
use crate::tree::Tree;

/// The frontend that is built in.
const DOCKERFILE: &str = "dockerfile.v0";
/// The frontend that runs others out of images.
const GATEWAY: &str = "gateway.v0";
/// What results say of their image's configuration.
const CONFIG: &str = "containerimage.config";
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
        let devices = DeviceRights::read(request.entitlements.iter().map(String::as_str));
        let options = SolveOptions {
            allow_host_network: request.entitlements.iter().any(|right| right == "network.host"),
            devices: devices.map_err(|failure| status_of(&failure))?,
            allow_insecure: request.entitlements.iter().any(|right| right == "security.insecure"),
            ..SolveOptions::default()
        };
        self.solve_with(request, options).await
    }

    /// As [`Self::solve`], with what somebody else says may be done, and lends.
    pub(super) async fn solve_with(
        &self,
        request: SolveRequest,
        options: SolveOptions,
    ) -> Result<SolveResponse, Status> {
        refuse_unbuilt(&request).map_err(|failure| status_of(&failure))?;
        let options = SolveOptions { policy: SourcePolicy::of(request.source_policy.clone()), ..options };
        let exporters = exporters(&request);
        let exports = exporters.iter().enumerate().map(|(id, exporter)| Export::read(id, exporter));
        let exports = exports.collect::<Result<Vec<_>, _>>().map_err(|failure| status_of(&failure))?;
        let caches = cache_exports(&request).map_err(|failure| status_of(&failure))?;
        let (running, returned) = self.jobs.begin(&request.reference, &request.session, options)?;
        let mut record = (!request.internal).then(|| self.history.begin(&request, &running.job.reporter));
        let outcome = self.solve_to_end(&running.job, &request, exports, caches, returned).await;
        drop(running);
        if let (Some(record), Ok((_, Some(built)))) = (&mut record, &outcome) {
            record.take_origin(built);
        }
        let outcome = outcome.map(|(response, _)| response);
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
    ) -> Result<(SolveResponse, Option<Built>), Status> {
        let result = match request.frontend.as_str() {
            "" if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) => {
                let mut options = BTreeMap::new();
                if let Some(cache) = &request.cache {
                    import_caches(&mut options, &cache.imports);
                }
                Some(self.run_definition(job, request.definition.clone().unwrap_or_default(), &options).await?)
            }
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
        let Some(result) = result else { return Ok((SolveResponse::default(), None)) };
        let mut response = BTreeMap::new();
        for (name, value) in &result.metadata {
            if name.starts_with("frontend.") {
                response.insert(name.clone(), String::from_utf8_lossy(value).into_owned());
            }
        }
        if exports.is_empty() && caches.is_empty() {
            // Nothing is built when something else was asked for.
            let built = result_of(job, &result).ok();
            return Ok((SolveResponse { exporter_response: response }, built));
        }
        let options = SolveOptions { session: self.lent(&job.session), ..job.options.clone() };
        let mut built = self.named_result(job, &result, request)?;
        self.attest(&mut built, request, &options, job).await.map_err(|failure| status_of(&failure))?;
        built.has_inline_cache = caches.iter().any(ExportOrder::is_inline);
        let taker = Taker::of(job);
        for export in exports {
            let told = self.export(&taker, &mut built, export).await.map_err(|failure| status_of(&failure))?;
            response.extend(told);
        }
        for order in caches.iter().filter(|order| !order.is_inline()) {
            let given = self.builder.export_cache(&built, order, &options, &job.reporter).await;
            if let Some(manifest) = given.map_err(|failure| status_of(&failure))? {
                let text = serde_json::to_string(&manifest).unwrap_or_default();
                response.insert("cache.manifest".to_owned(), text);
            }
        }
        Ok((SolveResponse { exporter_response: response }, Some(built)))
    }

    /// Asks of what no frontend has made statements about for those that the request names.
    async fn attest(
        &self,
        built: &mut Built,
        request: &SolveRequest,
        options: &SolveOptions,
        job: &Job,
    ) -> Result<(), Failure> {
        if !built.attest.is_empty() {
            return Ok(());
        }
        built.attest = AttestOrder::read(&request.frontend_attrs)?;
        self.builder.scan_built(built, options, &job.reporter).await
    }

    /// Builds what a frontend makes of its options.
    pub(super) async fn run_frontend(
        &self,
        job: &Arc<Job>,
        frontend: &str,
        mut options: BTreeMap<String, String>,
        inputs: &BTreeMap<String, Definition>,
    ) -> Result<SolveResult, Status> {
        check_frontend(frontend, &options)?;
        let remote = take_remote(&mut options);
        let prefix = "local-sessionid:";
        let of_folders =
            options.iter().filter_map(|(key, id)| Some((key.strip_prefix(prefix)?.to_owned(), id.clone())));
        let of_folders = of_folders.filter(|(_, id)| !id.is_empty());
        let client = Client { of_folders: of_folders.collect(), ..self.client(&job.session) };
        let inputs = self.load_inputs(job, inputs).await?;
        let session = match job.session.as_str() {
            "" => job.options.session.clone(),
            _ => job.options.session.clone().or(Session::of(Arc::new(client))),
        };
        let solve = SolveOptions { session, inputs: Arc::new(inputs), ..job.options.clone() };
        let id = job.reference.clone();
        let request = BuildRequest { id, options, solve, remote, ..BuildRequest::default() };
        let built = self.builder.build(request, &job.reporter).await.map_err(|failure| status_of(&failure))?;
        if let Some(metadata) = built.answer {
            return Ok(SolveResult { metadata, ..SolveResult::default() });
        }
        let config = built.targets.first().and_then(|target| serde_json::to_vec(&target.config).ok());
        let metadata = config.map(|config| (CONFIG.to_owned(), config)).into_iter().collect();
        let id = job.keep(built);
        let def = Some(naming(&id));
        Ok(SolveResult { reference: Some(Ref { id, def }), metadata, ..SolveResult::default() })
    }

    /// Builds what a client defines operation by operation.
    pub(super) async fn run_definition(
        &self,
        job: &Arc<Job>,
        definition: Definition,
        options: &BTreeMap<String, String>,
    ) -> Result<SolveResult, Status> {
        let built = self.build_definition(job, &definition, options).await.map_err(|failure| status_of(&failure))?;
        let id = job.keep(built);
        Ok(SolveResult { reference: Some(Ref { id, def: Some(definition) }), ..SolveResult::default() })
    }

    async fn build_definition(
        &self,
        job: &Arc<Job>,
        definition: &Definition,
        options: &BTreeMap<String, String>,
    ) -> Result<Built, Failure> {
        let loaded = definition::load(definition)?;
        let mut client = self.client(&job.session);
        client.of_folders.extend(loaded.sessions);
        let kept = self.jobs.kept();
        let mut solve = SolveOptions { session: Session::of(Arc::new(client)), ..job.options.clone() };
        solve.inputs = Arc::new(kept.into_iter().map(|(name, built)| (name, built.targets)).collect());
        if let Ok(planning) = crate::plan::Request::from_options(options) {
            let orders: Vec<CacheOrder> =
                planning.cache_imports.into_iter().map(|(kind, attributes)| CacheOrder { kind, attributes }).collect();
            solve.imports = crate::exchange::load(&orders, &[], self.builder.ground(), &solve, &job.reporter).await;
        }
        self.builder.build_graph(loaded.graph, loaded.output, solve, &job.reporter).await
    }

    /// What the inputs of a frontend come to: what was built before as it is, and what is defined built now.
    async fn load_inputs(
        &self,
        job: &Arc<Job>,
        inputs: &BTreeMap<String, Definition>,
    ) -> Result<HashMap<String, Vec<BuiltTarget>>, Status> {
        let mut all = HashMap::new();
        for (name, definition) in inputs {
            let known = named_by(definition).and_then(|id| self.jobs.kept().remove(&id));
            let built = match known {
                Some(built) => built,
                None => {
                    let none = BTreeMap::new();
                    self.build_definition(job, definition, &none).await.map_err(|failure| status_of(&failure))?
                }
            };
            all.insert(name.clone(), built.targets);
        }
        Ok(all)
    }

    /// The result that a client names, with the configuration that it says it has.
    fn named_result(&self, job: &Job, result: &SolveResult, request: &SolveRequest) -> Result<Built, Status> {
        let mut built = result_of(job, result)?;
        // What comes of a Dockerfile has its own.
        if !built.story.options.is_empty() || !built.story.dockerfile.1.is_empty() {
            return Ok(built);
        }
        let of_exporter = || request.exporters.iter().find_map(|exporter| exporter.attrs.get(CONFIG)).cloned();
        let given = result.metadata.get(CONFIG).cloned().or_else(|| of_exporter().map(String::into_bytes));
        let Some(given) = given else { return Ok(built) };
        let config = ImageConfig::parse(&given)
            .map_err(|error| Status::failed(format!("failed to unmarshal image config: {error}")))?;
        for target in &mut built.targets {
            if let Tree::Layers(layers) = target.tree.clone() {
                let platform = config.platform();
                *target = BuiltTarget::of_layers(layers, platform, Some(config.clone()));
            }
        }
        Ok(built)
    }
}

/// A definition that names what was built.
fn naming(id: &str) -> Definition {
    let source = llb::SourceOp { identifier: format!("{RESULT}://{id}"), ..llb::SourceOp::default() };
    let source = llb::Op { op: Some(llb::Kind::Source(source)), ..llb::Op::default() }.encode_to_vec();
    let digest = Digest::sha256(&source).to_string();
    // Clients take a definition without metadata for none at all.
    let metadata = BTreeMap::from([(digest.clone(), OpMetadata::default())]);
    let end = llb::Op { inputs: vec![llb::Input { digest, index: 0 }], ..llb::Op::default() }.encode_to_vec();
    Definition { def: vec![source, end], metadata }
}

/// What a definition names, if it does nothing else.
fn named_by(definition: &Definition) -> Option<String> {
    let loaded = definition::load(definition).ok()?;
    match &loaded.graph.vertex(loaded.output?.vertex).op {
        Op::Source(Source::Input(id)) => Some(id.clone()),
        _ => None,
    }
}

/// The result that a client names.
fn result_of(job: &Job, result: &SolveResult) -> Result<Built, Status> {
    let of_map = result.references.as_ref().and_then(|map| map.refs.values().next());
    let reference = result.reference.as_ref().or(of_map).map(|reference| reference.id.as_str());
    let name = reference.or(result.ref_deprecated.as_deref()).unwrap_or_default();
    job.result(name).ok_or_else(|| match name {
        "" => Status::failed("the build has no result that could be exported"),
        name => Status::failed(format!("no such result of the build: {name}")),
    })
}

fn check_frontend(frontend: &str, options: &BTreeMap<String, String>) -> Result<(), Status> {
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
        "" => return refused("must specify either a frontend or a definition".to_owned()),
        other => return refused(format!("frontend {other} not found")),
    }
    let wanted = options.get("frontend.caps").map(String::as_str).unwrap_or_default();
    for capability in wanted.split(',').filter(|capability| !capability.is_empty()) {
        let plain = capability.split('+').next().unwrap_or_default();
        if !CAPABILITIES.contains(&plain) {
            // Clients say more about it, by this code.
            return Err(Status::new(Code::Unimplemented, format!("unsupported frontend capability {plain}")));
        }
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
    if !request.source_policy_session.is_empty() {
        return Err(Failure::not_implemented("policies for the sources of a build that a session decides"));
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
            check_frontend(frontend, &options(pairs)).err().map(|status| status.message)
        };
        assert_eq!(refused(DOCKERFILE, &[("frontend.caps", "moby.buildkit.frontend.contexts+forward")]), None);
        assert_eq!(refused(GATEWAY, &[("source", "docker/dockerfile:1.7")]), None);
        for (frontend, pairs, text) in [
            ("", &[][..], "must specify either a frontend or a definition"),
            ("x", &[], "frontend x not found"),
            (GATEWAY, &[("source", "me/own:1")], "not implemented: frontends out of images (me/own:1)"),
            (DOCKERFILE, &[("frontend.caps", "x.y")], "unsupported frontend capability x.y"),
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
