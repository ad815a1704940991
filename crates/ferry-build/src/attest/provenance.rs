//! How something came about: SLSA provenance, in BuildKit's words.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde_json::{Value, json};

use super::operations::operation;
use super::{Predicate, ProvenanceOrder, Story, purl};
use crate::clock::rfc3339;
use crate::failure::{Failure, Result};
use crate::graph::{MountKind, NetworkMode, Op, Source, Vertex, VertexId};
use crate::redact::without_credentials;

const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_BEFORE: &str = "https://mobyproject.org/buildkit@v1";

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing that could be a secret.
    Min,
    /// All, with every operation and the Dockerfile.
    #[default]
    Max,
}

impl Mode {
    pub(super) fn read(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("max" | "full") => Ok(Self::Max),
            Some("min") => Ok(Self::Min),
            Some(other) => Err(Failure::invalid(format!("invalid mode {other:?}"))),
        }
    }
}

/// Of which version of SLSA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    #[default]
    One,
    ZeroTwo,
}

impl Version {
    pub(super) fn read(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("v1") => Ok(Self::One),
            Some("v0.2") => Ok(Self::ZeroTwo),
            Some("") => Err(Failure::invalid("provenance SLSA version cannot be empty")),
            Some(other) => Err(Failure::invalid(format!("invalid provenance SLSA version: {other}"))),
        }
    }
}

/// What a target was made of.
#[derive(Default)]
struct Captured {
    materials: Vec<Value>,
    locals: BTreeSet<String>,
    /// By id, whether it may be missing.
    secrets: BTreeMap<String, bool>,
    agents: BTreeMap<String, bool>,
    uses_network: bool,
    /// There are operations that are known by no more than the file that defines them.
    has_unknown: bool,
}

/// Makes the statement about one target.
pub(super) fn predicate(order: &ProvenanceOrder, story: &Story, target: usize, platform: &Platform) -> Predicate {
    let outputs: Vec<_> = story.outputs.get(target).copied().flatten().into_iter().collect();
    let needed = story.graph.needed_for(&outputs);
    let mut captured = capture(story, &needed, platform);
    if let Some((name, platform)) = &story.scanner {
        captured.take_image(name, platform);
    }
    let mut args = arguments(&story.options);
    let config_source = config_source(story, &mut args);
    let is_incomplete = !captured.locals.is_empty() || captured.has_unknown;
    let mut is_request_complete = true;
    if order.mode == Mode::Min {
        let before = args.len();
        args.retain(|key, _| !key.starts_with("build-arg:") && !key.starts_with("label:"));
        is_request_complete = args.len() == before;
    }
    let mut metadata = json!({});
    let vcs: BTreeMap<String, String> =
        args.iter().filter_map(|(key, value)| Some((key.strip_prefix("vcs:")?.to_owned(), value.clone()))).collect();
    args.retain(|key, _| !key.starts_with("vcs:"));
    if !vcs.is_empty() {
        metadata["vcs"] = json!(vcs);
    }
    // Definitions have no frontend, and no text.
    let has_text = !story.dockerfile.1.is_empty();
    let mut request = if has_text { json!({ "frontend": "dockerfile.v0" }) } else { json!({}) };
    if !args.is_empty() {
        request["args"] = json!(args);
    }
    if order.mode == Mode::Max {
        for (name, ids) in [("secrets", &captured.secrets), ("ssh", &captured.agents)] {
            if !ids.is_empty() {
                request[name] = ids.iter().map(|(id, optional)| lent(id, *optional)).collect();
            }
        }
    }
    if !captured.locals.is_empty() {
        request["locals"] = captured.locals.iter().map(|name| json!({ "name": name })).collect();
    }
    let mut steps = None;
    if order.mode == Mode::Max {
        let (build_config, locations) = build_config(story, &needed);
        steps = Some(build_config);
        if has_text {
            metadata["source"] = json!({
                "locations": locations,
                "infos": [{
                    "filename": story.dockerfile.0,
                    "language": "Dockerfile",
                    "data": STANDARD.encode(&story.dockerfile.1),
                }],
            });
        }
    }
    let told = Told {
        order,
        story,
        config_source,
        request,
        metadata,
        steps,
        materials: captured.materials,
        is_request_complete,
        is_incomplete,
        is_hermetic: !is_incomplete && !captured.uses_network,
    };
    let (kind, body) = match order.version {
        Version::One => ("https://slsa.dev/provenance/v1", told.version_one()),
        Version::ZeroTwo => ("https://slsa.dev/provenance/v0.2", told.version_before()),
    };
    Predicate { kind, body, file: "provenance.json".to_owned(), subjects: Vec::new() }
}

fn lent(id: &str, optional: bool) -> Value {
    if optional { json!({ "id": id, "optional": true }) } else { json!({ "id": id }) }
}

/// Everything that a statement says.
struct Told<'a> {
    order: &'a ProvenanceOrder,
    story: &'a Story,
    config_source: Value,
    request: Value,
    metadata: Value,
    steps: Option<Value>,
    materials: Vec<Value>,
    is_request_complete: bool,
    is_incomplete: bool,
    is_hermetic: bool,
}

impl Told<'_> {
    fn version_one(self) -> Value {
        let mut internal = json!({ "builderPlatform": builder_platform() });
        if let Some(steps) = self.steps {
            internal["buildConfig"] = steps;
        }
        let mut metadata = json!({
            "invocationId": self.story.invocation,
            "startedOn": rfc3339(self.story.started_ns),
            "finishedOn": rfc3339(self.story.ended_ns),
            "buildkit_metadata": self.metadata,
            "buildkit_completeness": {
                "request": self.is_request_complete,
                "resolvedDependencies": !self.is_incomplete,
            },
        });
        if self.is_hermetic {
            metadata["buildkit_hermetic"] = json!(true);
        }
        if self.order.reproducible {
            metadata["buildkit_reproducible"] = json!(true);
        }
        let mut definition = json!({
            "buildType": BUILD_TYPE,
            "externalParameters": { "configSource": self.config_source, "request": self.request },
            "internalParameters": internal,
        });
        if !self.materials.is_empty() {
            definition["resolvedDependencies"] = json!(self.materials);
        }
        json!({
            "buildDefinition": definition,
            "runDetails": { "builder": { "id": self.order.builder_id }, "metadata": metadata },
        })
    }

    fn version_before(self) -> Value {
        let mut source = self.config_source;
        if let Some(path) = source.as_object_mut().and_then(|source| source.remove("path")) {
            source["entryPoint"] = path;
        }
        let mut metadata = json!({
            "buildInvocationID": self.story.invocation,
            "buildStartedOn": rfc3339(self.story.started_ns),
            "buildFinishedOn": rfc3339(self.story.ended_ns),
            "completeness": {
                "parameters": self.is_request_complete,
                "environment": true,
                "materials": !self.is_incomplete,
            },
            "reproducible": self.order.reproducible,
            "https://mobyproject.org/buildkit@v1#metadata": self.metadata,
        });
        if self.is_hermetic {
            metadata["https://mobyproject.org/buildkit@v1#hermetic"] = json!(true);
        }
        let mut all = json!({
            "builder": { "id": self.order.builder_id },
            "buildType": BUILD_TYPE_BEFORE,
            "invocation": {
                "configSource": source,
                "parameters": self.request,
                "environment": { "platform": builder_platform() },
            },
            "metadata": metadata,
        });
        if !self.materials.is_empty() {
            all["materials"] = json!(self.materials);
        }
        if let Some(steps) = self.steps {
            all["buildConfig"] = steps;
        }
        all
    }
}

fn builder_platform() -> String {
    Platform::host().normalized().to_string()
}

/// The options that others may know; what is of this host alone is left out.
fn arguments(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_of_host = |key: &str| {
        matches!(key, "cgroup-parent" | "image-resolve-mode" | "platform" | "cache-imports")
            || key.starts_with("attest:")
    };
    let context = options.get("contextkey").map_or("context", String::as_str);
    let told = options.iter().filter(|(key, _)| !is_of_host(key));
    told.map(|(key, value)| {
        let is_address = key == context || key.starts_with("context:") || key == "vcs:source";
        (key.clone(), if is_address { without_credentials(value) } else { value.clone() })
    })
    .collect()
}

/// Where the Dockerfile and its context came from; that is taken out of the arguments.
fn config_source(story: &Story, args: &mut BTreeMap<String, String>) -> Value {
    let key = story.options.get("contextkey").map_or("context", String::as_str);
    let mut source = json!({});
    if let Some(address) = args.remove(key) {
        source["uri"] = json!(address);
    }
    if let Some(name) = args.remove("filename") {
        source["path"] = json!(name);
    }
    source
}

fn capture(story: &Story, needed: &[VertexId], platform: &Platform) -> Captured {
    let mut captured = Captured::default();
    for id in needed {
        let vertex = story.graph.vertex(*id);
        match &vertex.op {
            Op::Source(source) => captured.take_source(source, vertex, story.pins.get(id), platform),
            Op::Exec(exec) => {
                captured.uses_network |= exec.network != NetworkMode::None;
                for mount in &exec.mounts {
                    match &mount.kind {
                        MountKind::Secret(secret) => drop(captured.secrets.insert(secret.id.clone(), secret.optional)),
                        MountKind::Ssh(agent) => drop(captured.agents.insert(agent.id.clone(), agent.optional)),
                        _ => {}
                    }
                }
                for secret in &exec.secret_env {
                    captured.secrets.insert(secret.id.clone(), secret.optional);
                }
            }
            Op::Build(_) => captured.has_unknown = true,
            Op::File(_) | Op::Merge | Op::Diff { .. } => {}
        }
    }
    let has_own_text = !story.dockerfile.1.is_empty() && !story.options.contains_key("dockerfilekey");
    if has_own_text && !captured.locals.is_empty() {
        captured.locals.insert("dockerfile".to_owned());
    }
    captured
}

impl Captured {
    fn take_image(&mut self, name: &Reference, platform: &Platform) {
        let mut material = json!({ "uri": purl::of_image(name, Some(platform)) });
        if let Some(digest) = name.digest() {
            material["digest"] = json!({ digest.algorithm().as_str(): digest.hex() });
        }
        self.materials.push(material);
    }

    fn take_source(&mut self, source: &Source, vertex: &Vertex, pin: Option<&String>, platform: &Platform) {
        let hex = |text: &str| text.split_once(':').map_or(text, |(_, hex)| hex).to_owned();
        match source {
            Source::Image(image) => {
                let Ok(name) = Reference::parse(&image.reference) else { return };
                self.take_image(&name, vertex.platform.as_ref().unwrap_or(platform));
            }
            Source::Local(local) => drop(self.locals.insert(local.name.clone())),
            Source::Git(git) => {
                let mut address = without_credentials(&git.remote);
                if !git.reference.is_empty() {
                    address.push_str(&format!("#{}", git.reference));
                }
                let mut material = json!({ "uri": address });
                if let Some(commit) = pin {
                    let kind = if commit.len() == 64 { "sha256" } else { "sha1" };
                    material["digest"] = json!({ kind: commit });
                }
                self.materials.push(material);
            }
            Source::Http(http) => {
                let mut material = json!({ "uri": without_credentials(&http.url) });
                if let Some(digest) = pin {
                    material["digest"] = json!({ "sha256": hex(digest) });
                }
                self.materials.push(material);
            }
            // It has a story of its own.
            Source::Input(_) => {}
            Source::Layout(layout) => self.materials.push(json!({ "uri": format!("pkg:oci/{}", layout.reference) })),
        }
    }
}

/// Every operation, numbered, and the lines of the Dockerfile that each stands for.
fn build_config(story: &Story, needed: &[VertexId]) -> (Value, Value) {
    let number = |id: VertexId| needed.iter().position(|known| *known == id).unwrap_or_default();
    let (mut steps, mut mapping, mut locations) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (at, id) in needed.iter().enumerate() {
        let vertex = story.graph.vertex(*id);
        let name = format!("step{at}");
        let inputs: Vec<String> =
            vertex.inputs.iter().map(|input| format!("step{}:{}", number(input.vertex), input.index)).collect();
        let mut step = json!({ "id": name, "op": operation(vertex) });
        if !inputs.is_empty() {
            step["inputs"] = json!(inputs);
        }
        mapping.insert(vertex.digest.to_string(), name.clone());
        let ranges: Vec<Value> = vertex
            .meta
            .location
            .iter()
            .map(|range| json!({ "start": { "line": range.first }, "end": { "line": range.last } }))
            .collect();
        if !ranges.is_empty() {
            locations.insert(name, json!({ "locations": [{ "ranges": ranges }] }));
        }
        steps.push(step);
    }
    (json!({ "llbDefinition": steps, "digestMapping": mapping }), json!(locations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, ImagePullMode, ImageSource, VertexMeta};

    fn story() -> Story {
        let mut graph = Graph::new();
        let reference = format!("docker.io/library/busybox:1@{}", ferry_spec::digest::Digest::sha256(b"x"));
        let source = Source::Image(ImageSource { reference, pull: ImagePullMode::Prefer });
        let base = graph.add(Op::Source(source), Vec::new(), None, VertexMeta::default()).unwrap();
        let options = [
            ("filename", "Dockerfile"),
            ("build-arg:A", "secret"),
            ("platform", "linux/amd64"),
            ("context", "https://me:word@host/x.git"),
            ("target", "t"),
        ];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Story { options, graph, outputs: vec![Some(base.into())], ..Story::default() }
    }

    #[test]
    fn little_is_told_where_little_is_asked_for() {
        let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() };
        let order = ProvenanceOrder { mode: Mode::Min, ..ProvenanceOrder::default() };
        let told = predicate(&order, &story(), 0, &platform);
        assert_eq!(told.kind, "https://slsa.dev/provenance/v1");
        let external = &told.body["buildDefinition"]["externalParameters"];
        assert_eq!(external["configSource"]["path"], "Dockerfile");
        assert!(!external.to_string().contains("word") && !external.to_string().contains("secret"), "{external}");
        assert_eq!(external["request"]["args"], json!({ "target": "t" }));
        let completeness = &told.body["runDetails"]["metadata"]["buildkit_completeness"];
        assert_eq!(*completeness, json!({ "request": false, "resolvedDependencies": true }));
        let material = &told.body["buildDefinition"]["resolvedDependencies"][0];
        assert!(material["uri"].as_str().unwrap().starts_with("pkg:docker/busybox@1?digest=sha256:"), "{material}");
    }

    #[test]
    fn everything_is_told_where_it_is_asked_for() {
        let platform = Platform::host();
        let order = ProvenanceOrder { version: Version::ZeroTwo, ..ProvenanceOrder::default() };
        let told = predicate(&order, &story(), 0, &platform);
        assert_eq!(told.kind, "https://slsa.dev/provenance/v0.2");
        assert_eq!(told.body["invocation"]["configSource"]["entryPoint"], "Dockerfile");
        assert_eq!(told.body["invocation"]["parameters"]["args"]["build-arg:A"], "secret");
        let step = &told.body["buildConfig"]["llbDefinition"][0];
        assert_eq!(step["id"], "step0");
        let source = step["op"]["Op"]["source"]["identifier"].as_str().unwrap();
        assert!(source.starts_with("docker-image://docker.io/library/busybox:1@"), "{source}");
    }
}
