//! `/build`: images from Dockerfiles, and what building keeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use ferry_api::build::{Event, TRACE};
use ferry_api::container::{HostConfig, Ulimit};
use ferry_api::image::AuthConfig;
use ferry_api::json;
use ferry_api::stream::JsonMessage;
use ferry_build::buildkit::{Export, Recording};
use ferry_build::classic::ClassicStream;
use ferry_build::session::{Session, Uploaded};
use ferry_build::solve::{DeviceRights, Limits, SolveOptions};
use ferry_build::usage::PruneOptions;
use ferry_build::{BuildRequest, Building, Failure, ImageForm};
use ferry_engine::images::{Credentials, built_name};
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::json;

mod failed;
mod posted;
mod synced;
mod uploads;

use self::failed::FailedSteps;
pub(crate) use self::uploads::Uploads;
use super::images::{BASE64, from_auth};
use crate::app::App;
use crate::http::body::{BodySender, Gone, RequestBody};
use crate::http::call::Call;
use crate::http::error::{ApiError, status_of};
use crate::http::go_json::{self, Shape};
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, post};
use crate::streams;

pub(super) fn routes() -> Vec<Route> {
    vec![post("/build", build), post("/build/cancel", cancel), post("/build/prune", prune)]
}

async fn cancel(call: Call) -> Outcome {
    match call.query.get("id") {
        "" => Err(ApiError::invalid("build ID not provided")),
        id => {
            call.app.builder.cancel(id);
            reply::no_content()
        }
    }
}

async fn prune(call: Call) -> Outcome {
    let bytes = |name: &str| -> Result<i64, ApiError> {
        if !call.query.has(name) {
            return Ok(0);
        }
        let text = call.query.get(name);
        let fits = text.parse();
        fits.map_err(|_| {
            let reason = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            ApiError::invalid(format!("{name} is in bytes and expects an integer, got {text}: {reason}"))
        })
    };
    let newer = call.at_least(48);
    let mut reserved = if newer { bytes("reserved-space")? } else { 0 };
    if !call.at_least(52) && reserved == 0 {
        reserved = bytes("keep-storage")?;
    }
    let options = PruneOptions {
        all: call.query.flag("all"),
        filters: call.filters()?,
        reserved_bytes: reserved,
        max_used_bytes: if newer { bytes("max-used-space")? } else { 0 },
        min_free_bytes: if newer { bytes("min-free-space")? } else { 0 },
    };
    let pruned =
        call.app.builder.prune(options).await.map_err(ApiError::from).map_err(|error| ApiError {
            message: format!("failed to prune build cache: {}", error.message),
            ..error
        })?;
    let ids: Vec<&str> = pruned.records.iter().map(|record| record.id.as_str()).collect();
    let deleted = if ids.is_empty() { serde_json::Value::Null } else { json!(ids) };
    reply::json(StatusCode::OK, &json!({ "CachesDeleted": deleted, "SpaceReclaimed": pruned.bytes }))
}

async fn build(call: Call) -> Outcome {
    if call.query.get("version") == "2" {
        return posted::build(call).await;
    }
    let mut order = Order::read(&call)?;
    let lent = Uploaded { secrets: std::mem::take(&mut order.secrets), ..Uploaded::default() };
    let Call { app, peer, request, .. } = call;
    if !order.context_key.is_empty() {
        let body = request.into_body();
        let feed = move |out| async move { synced::build(app, order, body, lent, out).await };
        return Ok(streams::stream_body(peer, reply::JSON, feed));
    }
    order.build.solve.session = match order.build.remote.is_empty() {
        true => receive_context(&app.builder, request.into_body(), lent, order.split).await?,
        false => Session::of(Arc::new(lent)),
    };
    if order.form != Form::Trace && order.build.remote.is_empty() {
        app.builder.check_dockerfile(&order.build).await?;
    }
    if !order.session.is_empty() {
        let lent = std::mem::take(&mut order.build.solve.session);
        order.build.solve.session = lent.or(app.buildkit.lent(&order.session));
    }
    let form = order.form;
    let (building, recording, failed_steps) = order.start(&app);
    Ok(streams::stream_body(peer, reply::JSON, move |body| tell(building, recording, failed_steps, body, form)))
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the builder before BuildKit told it.
    Classic,
    /// The id alone.
    Quiet,
    /// Events of ferry's own.
    Trace,
}

/// A request, read.
struct Order {
    build: BuildRequest,
    form: Form,
    secrets: HashMap<String, Vec<u8>>,
    /// The session in which the client lends more.
    session: String,
    /// Each directory at the top of the archive is one of the client's; ferry's own.
    split: bool,
    /// What is made of what was built, in place of an image of the store's.
    exports: Vec<Export>,
    /// What the user calls the context; ferry's own.
    called: String,
    /// What the client calls its directories, which it tells of before it sends any of them; ferry's own. Empty for an archive.
    context_key: String,
    /// It is a part of something else that the client does, and not remembered; ferry's own.
    is_internal: bool,
    /// Steps that fail, where the client wants to look at them; ferry's own.
    failed_steps: FailedSteps,
}

impl Order {
    /// Begins the build.
    fn start(self, app: &Arc<App>) -> (Building, Option<Recording>, FailedSteps) {
        let is_build = !self.is_internal && !self.build.options.contains_key("requestid");
        let remembered = self.build.clone();
        let building = match self.exports.is_empty() {
            true => app.builder.start(self.build),
            false => app.buildkit.start_exporting(self.build, self.exports, &self.session),
        };
        let recording = is_build.then(|| app.buildkit.remember(&remembered, &building.reporter, &self.called));
        (building, recording, self.failed_steps)
    }

    fn read(call: &Call) -> Result<Self, ApiError> {
        match call.query.get("version") {
            "" | "1" => {}
            other => return Err(ApiError::invalid(format!("invalid version {other:?}"))),
        }
        if call.query.flag("squash") {
            return Err(ApiError::invalid("squash is only supported with experimental mode"));
        }
        let isolation = call.query.get("isolation");
        if !matches!(isolation, "" | "default") {
            return Err(ApiError::invalid(format!("unsupported isolation: {isolation:?}")));
        }
        let mut names = Vec::new();
        for text in call.query.all("t").filter(|text| !text.is_empty()) {
            // Docker's daemon tells a name that cannot be one as a failure of its own.
            ferry_spec::Reference::parse_with_default_tag(text)
                .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
            let name = built_name(text)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let form = match (call.query.get("progress"), call.query.flag("q")) {
            ("trace", _) => Form::Trace,
            (_, true) => Form::Quiet,
            _ => Form::Classic,
        };
        let (image, exports) = match outputs(call.query.get("outputs"), form, &names)? {
            Outputs::Image(image) => (Some(image), Vec::new()),
            Outputs::Exports(exports) => (None, exports),
        };
        let (viewer, failed_steps) = failed::asked(call.query.get("onerror"), form)?;
        let solve = SolveOptions {
            failed_steps: viewer,
            allow_host_network: true,
            devices: DeviceRights::read(call.query.all("allow"))?,
            allow_insecure: call.query.flag("allow-insecure"),
            limits: limits(call)?,
            explains: call.query.flag("explain"),
            volumes: call.query.all("volume").map(volume).collect::<Result<_, _>>()?,
            credentials: credentials(call.header("x-registry-config")),
            ..SolveOptions::default()
        };
        let build = BuildRequest {
            id: call.query.get("buildid").to_owned(),
            options: options(call)?,
            solve,
            names,
            writes_image: image.is_some(),
            remote: call.query.get("remote").to_owned(),
            cache_images: cache_images(call)?,
            form: image.unwrap_or_default(),
            cache_exports: from_json(call.query.get("cacheexports"), "cacheexports")?.unwrap_or_default(),
            classic: form != Form::Trace,
        };
        let secrets = secrets(call.header("x-ferry-build-secrets"))?;
        let session = call.query.get("session").to_owned();
        let called = call.query.get("called").to_owned();
        let split = call.query.flag("directories");
        let syncs = split && form == Form::Trace;
        let context_key = if syncs { call.query.get("contextkey").to_owned() } else { String::new() };
        let is_internal = call.query.flag("internal");
        Ok(Self { build, form, secrets, session, split, exports, called, context_key, is_internal, failed_steps })
    }
}

/// Reads `HOST:PATH[:ro]`.
fn volume(text: &str) -> Result<(std::path::PathBuf, String, bool), ApiError> {
    let wrong = |reason: &str| ApiError::invalid(format!("invalid volume {text:?} of a build: {reason}"));
    let mut parts = text.split(':');
    let (host, target, mode) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let target = target.ok_or_else(|| wrong("it is HOST:PATH[:ro]"))?;
    if !host.starts_with('/') || !target.starts_with('/') || parts.next().is_some() {
        return Err(wrong("both paths are absolute"));
    }
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return Err(wrong("the mode is ro or rw")),
    };
    if !std::path::Path::new(host).exists() {
        return Err(wrong(&format!("{host} does not exist")));
    }
    Ok((host.into(), ferry_spec::path::clean_rooted(target), read_only))
}

/// What becomes of what is built.
enum Outputs {
    /// An image of the store's.
    Image(ImageForm),
    /// What was asked for, one after the other, or nothing but the cache; ferry's own client alone takes what is sent.
    Exports(Vec<Export>),
}

/// Reads `outputs`; images get the names of the request unless they have some of their own.
fn outputs(text: &str, form: Form, names: &[ferry_spec::Reference]) -> Result<Outputs, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Output {
        #[serde(rename = "Type")]
        kind: String,
        #[serde(default)]
        attrs: Option<BTreeMap<String, String>>,
    }
    let outputs: Vec<Output> = from_json::<Option<Vec<Output>>>(text, "outputs")?.flatten().unwrap_or_default();
    match outputs.as_slice() {
        [] => Ok(Outputs::Image(ImageForm::default())),
        all if all.iter().all(|output| output.kind == "cacheonly") => Ok(Outputs::Exports(Vec::new())),
        _ if form == Form::Trace => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let all = outputs.into_iter().filter(|output| output.kind != "cacheonly").map(|output| {
                let mut attrs = output.attrs.unwrap_or_default();
                if !names.is_empty() && !matches!(output.kind.as_str(), "local" | "tar") {
                    attrs.entry("name".to_owned()).or_insert_with(|| names.join(","));
                }
                (output.kind, attrs)
            });
            Ok(Outputs::Exports(Export::read_all(all.collect())?))
        }
        [one] if matches!(one.kind.as_str(), "image" | "moby" | "docker") => {
            let attributes = one.attrs.clone().unwrap_or_default();
            let form = ImageForm::read(&attributes)?;
            let is_pushed = attributes.get("push").is_some_and(|push| push == "true");
            Ok(Outputs::Image(if is_pushed { form.that_travels() } else { form }))
        }
        [one] => Err(ApiError::not_implemented(format_args!("output of type {}", one.kind))),
        _ => Err(ApiError::not_implemented("several outputs of one build")),
    }
}

/// The request in the words of BuildKit's Dockerfile frontend.
fn options(call: &Call) -> Result<BTreeMap<String, String>, ApiError> {
    let query = &call.query;
    let mut options = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() {
            options.insert(key.to_owned(), value.to_owned());
        }
    };
    set("filename", query.get("dockerfile"));
    // Ferry's own: of a context that is fetched, a Dockerfile that the client sends beside it.
    set("dockerfilekey", if query.flag("owndockerfile") { "dockerfile" } else { "" });
    set("target", query.get("target"));
    set("platform", query.get("platform"));
    set("cgroup-parent", query.get("cgroupparent"));
    set("shm-size", query.get("shmsize"));
    set("cache-imports", query.get("cacheimports"));
    if query.flag("pull") {
        set("image-resolve-mode", "pull");
    }
    match query.get("networkmode") {
        "" | "default" | "bridge" => {}
        mode @ ("host" | "none") => set("force-network-mode", mode),
        // A network of the user's is each step's own business.
        _ => {}
    }
    // Clients before BuildKit part name and address by a colon.
    let hosts = query.all("extrahosts").map(|host| host.replacen(':', "=", usize::from(!host.contains('='))));
    set("add-hosts", &hosts.collect::<Vec<_>>().join(","));
    if query.flag("nocache") {
        options.entry("no-cache".to_owned()).or_default();
    }
    match query.get("call") {
        "" | "build" => {}
        "check" => drop(options.insert("requestid".to_owned(), "frontend.lint".to_owned())),
        "expand" => drop(options.insert("requestid".to_owned(), ferry_build::EXPAND.to_owned())),
        call @ ("outline" | "targets") => drop(options.insert("requestid".to_owned(), format!("frontend.{call}"))),
        other => return Err(ApiError::invalid(format!("unknown call {other:?} of a build (check, outline, targets)"))),
    }
    if let Some(stages) = query.non_empty("nocache-filter") {
        options.insert("no-cache".to_owned(), stages.to_owned());
    }
    let ulimits =
        from_parameter::<Option<Vec<Ulimit>>>(query.get("ulimits"), "error reading ulimit settings", ULIMITS)?;
    for ulimit in ulimits.flatten().unwrap_or_default() {
        let text = format!("{}={}:{}", ulimit.name, ulimit.soft, ulimit.hard);
        options
            .entry("ulimit".to_owned())
            .and_modify(|all: &mut String| {
                all.push(',');
                all.push_str(&text);
            })
            .or_insert(text);
    }
    // A session's client has them taken out of registries, and any other out of the store.
    cache_images(call)?;
    let attests: Option<BTreeMap<String, String>> = from_json(query.get("attests"), "attests")?;
    for (kind, attributes) in attests.into_iter().flatten() {
        options.insert(format!("attest:{kind}"), attributes);
    }
    let arguments: Option<BTreeMap<String, Option<String>>> =
        from_parameter::<Option<_>>(query.get("buildargs"), "error reading build args", BUILD_ARGS)?.flatten();
    for (name, value) in arguments.into_iter().flatten() {
        // Without a value it is as good as not given.
        if let Some(value) = value {
            options.insert(format!("build-arg:{name}"), value);
        }
    }
    let labels: Option<BTreeMap<String, Option<String>>> =
        from_parameter::<Option<_>>(query.get("labels"), "error reading labels", MAP_OF_TEXTS)?.flatten();
    for (name, value) in labels.into_iter().flatten() {
        options.insert(format!("label:{name}"), value.unwrap_or_default());
    }
    let contexts: Option<BTreeMap<String, String>> =
        from_json::<Option<BTreeMap<String, String>>>(query.get("contexts"), "contexts")?.flatten();
    for (name, value) in contexts.into_iter().flatten() {
        options.insert(format!("context:{name}"), value);
    }
    Ok(options)
}

/// The images whose caches are taken.
fn cache_images(call: &Call) -> Result<Vec<String>, ApiError> {
    let text = call.query.get("cachefrom");
    let named = from_parameter::<Option<Vec<Option<String>>>>(text, "error reading cache-from", LIST_OF_TEXTS)?;
    Ok(named.flatten().into_iter().flatten().flatten().collect())
}

/// What is asked of the host for every step.
fn limits(call: &Call) -> Result<Limits, ApiError> {
    let query = &call.query;
    // What is no number is none, as Docker takes it.
    let number = |name: &str| -> Result<i64, ApiError> { Ok(query.integer(name).ok().flatten().unwrap_or_default()) };
    let mut host = HostConfig {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").to_owned(),
        cpuset_mems: query.get("cpusetmems").to_owned(),
        cgroup_parent: query.get("cgroupparent").to_owned(),
        security_opt: from_json::<Option<Vec<String>>>(query.get("securityopt"), "securityopt")?.flatten(),
        ..HostConfig::default()
    };
    match query.get("networkmode") {
        "" | "default" | "bridge" | "host" | "none" => {}
        network => host.network_mode = network.to_owned(),
    }
    Ok(Limits { host_config: host })
}

const BUILD_ARGS: Shape = Shape { whole: "map[string]*string", element: "string" };
const ULIMITS: Shape = Shape { whole: "[]*container.Ulimit", element: "container.Ulimit" };
const LIST_OF_TEXTS: Shape = Shape { whole: "[]string", element: "string" };
/// Texts by their names.
const MAP_OF_TEXTS: Shape = Shape { whole: "map[string]string", element: "string" };

/// As [`from_json`], of a parameter of Docker's own, in Docker's words.
fn from_parameter<T: DeserializeOwned>(text: &str, what: &str, shape: Shape) -> Result<Option<T>, ApiError> {
    match go_json::reason(text, shape).filter(|_| !text.is_empty()) {
        Some(reason) => Err(ApiError::invalid(format!("{what}: {reason}"))),
        None => from_json(text, what.trim_start_matches("error reading ")),
    }
}

fn from_json<T: DeserializeOwned>(text: &str, name: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = json::from_slice(text.as_bytes());
    read.map(Some).map_err(|error| ApiError::invalid(format!("error reading {name}: {error}")))
}

/// Reads `X-Registry-Config`: credentials by registry. What cannot be read is nobody, as in Docker.
fn credentials(header: &str) -> HashMap<String, Credentials> {
    let Ok(bytes) = BASE64.decode(header.trim()) else { return HashMap::new() };
    let Ok(configs) = json::from_slice::<HashMap<String, AuthConfig>>(&bytes) else { return HashMap::new() };
    configs.into_iter().filter_map(|(registry, auth)| Some((registry, from_auth(auth)?))).collect()
}

/// Reads secrets, base64 each, in a header that is told to nobody.
fn secrets(header: &str) -> Result<HashMap<String, Vec<u8>>, ApiError> {
    if header.is_empty() {
        return Ok(HashMap::new());
    }
    let wrong = || ApiError::invalid("cannot read the secrets of the build");
    let bytes = BASE64.decode(header.trim()).map_err(|_| wrong())?;
    let texts: HashMap<String, String> = json::from_slice(&bytes).map_err(|_| wrong())?;
    texts.into_iter().map(|(id, text)| Ok((id, BASE64.decode(text).map_err(|_| wrong())?))).collect()
}

async fn receive_context(
    builder: &ferry_build::Builder,
    mut body: RequestBody,
    lent: Uploaded,
    split: bool,
) -> Result<Session, ApiError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Bytes>(16);
    let receiving = builder.receive_context(receiver, lent, split);
    let sending = async move {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::invalid(format!("cannot read the build context: {error}")))?;
            let Ok(piece) = frame.into_data() else { continue };
            let sender = sender.clone();
            // A thread waits where the other end is slow; one that is gone has said why.
            let sent = tokio::task::spawn_blocking(move || sender.send(piece)).await;
            if !sent.is_ok_and(|sent| sent.is_ok()) {
                break;
            }
        }
        Ok::<(), ApiError>(())
    };
    let (received, sent) = tokio::join!(receiving, sending);
    sent?;
    Ok(received?)
}

/// Tells how a build goes and ends; a client that leaves takes it along.
async fn tell(
    building: Building,
    recording: Option<Recording>,
    mut failed_steps: FailedSteps,
    body: BodySender,
    form: Form,
) -> Result<(), Gone> {
    let mut events = building.reporter.follow();
    let mut classic = ClassicStream::new();
    loop {
        let event = tokio::select! {
            // What a step wrote comes before the news that it failed.
            biased;
            event = events.recv() => event,
            failed = failed_steps.next() => {
                send(&body, &failed::message(&failed)).await?;
                continue;
            }
        };
        let Some(event) = event else { break };
        match form {
            Form::Trace => send_trace(&body, &event).await?,
            Form::Classic => send_all(&body, classic.take(event)).await?,
            Form::Quiet => {}
        }
    }
    let outcome = building.finish().await;
    if let Some(recording) = recording {
        recording.end(outcome.as_ref());
    }
    if form == Form::Classic {
        send_all(&body, classic.finish(outcome.is_ok())).await?;
    }
    match outcome {
        Ok(built) => tell_success(&body, &built, form).await,
        Err(failure) => send(&body, &failed(&failure, form)).await,
    }
}

async fn tell_success(body: &BodySender, built: &ferry_build::Built, form: Form) -> Result<(), Gone> {
    let Some(image) = &built.image else {
        let told =
            |name: &str| built.answer.as_ref()?.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let count = built.checked.as_ref().map(|(count, _)| *count);
        let aux = match told("result.txt") {
            Some(text) => Some(json!({ "Warnings": count, "Text": text, "Json": told("result.json") })),
            // Files, and a cache perhaps.
            None => built.cache_manifest.as_ref().map(|manifest| json!({ "CacheManifest": manifest })),
        };
        return send(body, &JsonMessage { aux, ..JsonMessage::default() }).await;
    };
    let id = image.digest.to_string();
    let line = |stream: String| JsonMessage { stream, ..JsonMessage::default() };
    match form {
        Form::Quiet => return send(body, &line(format!("{id}\n"))).await,
        Form::Trace => {
            let outcome = json!({
                "CacheManifest": built.cache_manifest,
                "Provenance": built.provenance_in_short(),
                "ID": id,
                "Config": built.config_digest,
                "Descriptor": image,
                "Names": built.names.iter().map(ferry_spec::Reference::familiar).collect::<Vec<_>>(),
            });
            return send(body, &JsonMessage { aux: Some(outcome), ..JsonMessage::default() }).await;
        }
        Form::Classic => {}
    }
    send(body, &JsonMessage { aux: Some(json!({ "ID": id })), ..JsonMessage::default() }).await?;
    if !built.unused_args.is_empty() {
        let names = built.unused_args.join(" ");
        send(body, &line(format!("[Warning] One or more build-args [{names}] were not consumed\n"))).await?;
    }
    let short = image.digest.hex().get(..12).unwrap_or_default().to_owned();
    send(body, &line(format!("Successfully built {short}\n"))).await?;
    for name in &built.names {
        send(body, &line(format!("Successfully tagged {}\n", name.familiar()))).await?;
    }
    Ok(())
}

fn failed(failure: &Failure, form: Form) -> JsonMessage {
    if form == Form::Trace {
        let text = match &*failure.excerpt {
            "" => format!("failed to solve: {}", failure.message),
            excerpt => format!("{excerpt}failed to solve: {}", failure.message),
        };
        let mut message = JsonMessage::failed(text);
        if let (Some(code), Some(detail)) = (failure.exit_code, message.error_detail.as_mut()) {
            detail.code = code;
        }
        return message;
    }
    let Some(code) = failure.exit_code else {
        let text = ferry_build::classic::failure_text(failure);
        return JsonMessage::failed(text.unwrap_or_else(|| failure.message.clone()));
    };
    let command = failure.command.join(" ");
    let mut message = JsonMessage::failed(format!("The command '{command}' returned a non-zero code: {code}"));
    if let Some(detail) = message.error_detail.as_mut() {
        detail.code = code;
    }
    message
}

async fn send_trace(body: &BodySender, event: &Event) -> Result<(), Gone> {
    let aux = serde_json::to_value(event).ok();
    send(body, &JsonMessage { id: TRACE.to_owned(), aux, ..JsonMessage::default() }).await
}

async fn send_all(body: &BodySender, messages: Vec<JsonMessage>) -> Result<(), Gone> {
    for message in messages {
        send(body, &message).await?;
    }
    Ok(())
}

async fn send(body: &BodySender, message: &JsonMessage) -> Result<(), Gone> {
    match json::to_string_html(message) {
        Ok(text) => body.send(text + "\r\n").await,
        Err(error) => {
            tracing::error!(%error, "cannot write a progress message");
            Ok(())
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::new(status_of(failure.kind), failure.message)
    }
}
