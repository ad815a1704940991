//! What is in an image, as an SPDX document: the packages of its package managers, or what a scanner finds, a program out of an image that
//! is run as BuildKit runs it.

use std::collections::BTreeMap;

use ferry_engine::images::{Images, InstalledPackage};
use ferry_spec::digest::Digest;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde_json::{Value, json};

use super::purl::escaped;
use super::{Predicate, Story};
use crate::clock::rfc3339;
use crate::failure::{Failure, Result};
use crate::graph::{
    Exec, Graph, ImagePullMode, ImageSource, Mount, MountKind, Op, Output, Source, TmpfsMount, VertexMeta,
};
use crate::tree::{Layers, Tree};

pub(super) const PREDICATE_TYPE: &str = "https://spdx.dev/Document";
/// The name of what the target's own document is about; those of what is scanned besides begin with it.
pub(super) const CORE: &str = "sbom";
/// Where a scanner finds what it is to look at.
const SOURCES: &str = "/run/src";
/// Where a scanner leaves its statements.
const DESTINATION: &str = "/run/out";

/// How packages are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SbomOrder {
    /// The image of the scanner; `None` is ferry itself.
    pub(crate) generator: Option<Reference>,
    /// What the scanner is told, by name.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl SbomOrder {
    pub(super) fn read(attributes: &BTreeMap<&str, &str>) -> Result<Self> {
        let mut order = Self::default();
        for (name, value) in attributes {
            match (*name, *value) {
                ("generator", "") => return Err(Failure::invalid("sbom generator cannot be empty")),
                ("generator", text) => {
                    let read = Reference::parse_with_default_tag(text);
                    order.generator = Some(read.map_err(|error| {
                        Failure::invalid(format!("failed to parse sbom generator {text}: {error}"))
                    })?);
                }
                (name, value) => drop(order.parameters.insert(name.to_owned(), value.to_owned())),
            }
        }
        Ok(order)
    }
}

/// A scanner that was found: the program of an image.
#[derive(Debug, Clone)]
pub(crate) struct Scanner {
    /// As it was asked for.
    pub(crate) name: Reference,
    /// What that is at the moment.
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
    pub(crate) parameters: BTreeMap<String, String>,
}

/// What a scanner looks at.
pub(crate) struct Scanned<'a> {
    /// What was built.
    pub(crate) core: Option<Output>,
    /// What is scanned besides, by name.
    pub(crate) extras: &'a [(String, Option<Output>)],
    /// For which platform it was built.
    pub(crate) platform: &'a Platform,
    /// The cache is not asked.
    pub(crate) anew: bool,
}

impl Scanner {
    /// The image by its digest.
    pub(crate) fn pinned(&self) -> Reference {
        self.name.clone().with_digest(self.digest.clone())
    }

    /// Adds a scan to a graph; returns the tree of what it finds.
    pub(crate) fn scan(&self, graph: &mut Graph, scanned: &Scanned<'_>) -> Result<Output> {
        let reference = self.pinned().to_string();
        let source = Source::Image(ImageSource { reference, pull: ImagePullMode::Prefer });
        let platform = || Some(self.platform.clone());
        let image = graph.add(Op::Source(source), Vec::new(), platform(), VertexMeta::default())?;
        let mut inputs = vec![Output::from(image)];
        let is_context = |tree: Output| matches!(graph.vertex(tree.vertex).op, Op::Source(Source::Local(_)));
        let mut look_at = |target: String, tree: Option<Output>| {
            let input = tree.map(|tree| {
                inputs.push(tree);
                inputs.len() - 1
            });
            // Layers are known without reading them; of a context a scanner sees what the steps do.
            let content_cache = tree.is_some_and(|tree| !is_context(tree)).then_some(false);
            Mount { input, content_cache, ..mount(target) }
        };
        let mut mounts = vec![Mount { input: Some(0), read_only: false, ..mount("/".to_owned()) }];
        mounts.push(Mount {
            read_only: false,
            kind: MountKind::Tmpfs(TmpfsMount { size_bytes: 0 }),
            ..mount("/tmp".to_owned())
        });
        mounts.push(look_at(format!("{SOURCES}/core/{CORE}"), scanned.core));
        for (name, tree) in scanned.extras {
            mounts.push(look_at(format!("{SOURCES}/extras/{CORE}-{name}"), *tree));
        }
        mounts.push(Mount { read_only: false, output: Some(0), ..mount(DESTINATION.to_owned()) });
        let exec = Exec {
            args: self.command()?,
            env: self.environment(!scanned.extras.is_empty()),
            cwd: if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
                .to_owned(),
            mounts,
            ..Exec::default()
        };
        let meta = VertexMeta {
            name: format!("[{}] generating sbom using {}", scanned.platform.normalized(), self.name),
            ignore_cache: scanned.anew,
            ..VertexMeta::default()
        };
        Ok(graph.add(Op::Exec(Box::new(exec)), inputs, platform(), meta)?.into())
    }

    /// What it runs.
    pub(crate) fn command(&self) -> Result<Vec<String>> {
        let words = [&self.config.config.entrypoint, &self.config.config.cmd];
        let words: Vec<String> = words.into_iter().flatten().flatten().cloned().collect();
        match words.is_empty() {
            true => Err(Failure::invalid(format!("scanner {} does not have cmd", self.name))),
            false => Ok(words),
        }
    }

    fn environment(&self, has_extras: bool) -> Vec<String> {
        let mut environment = self.config.config.env.clone();
        let mut set = |name: &str, value: &str| {
            environment.retain(|known| known.split('=').next() != Some(name));
            environment.push(format!("{name}={value}"));
        };
        set("BUILDKIT_SCAN_DESTINATION", &format!("{DESTINATION}/"));
        set("BUILDKIT_SCAN_SOURCE", &format!("{SOURCES}/core/{CORE}"));
        if has_extras {
            set("BUILDKIT_SCAN_SOURCE_EXTRAS", &format!("{SOURCES}/extras"));
        }
        for (name, value) in &self.parameters {
            set(&format!("BUILDKIT_SCAN_{name}"), value);
        }
        environment
    }
}

/// A mount that is looked at.
fn mount(target: String) -> Mount {
    Mount {
        input: None,
        selector: String::new(),
        target,
        output: None,
        read_only: true,
        kind: MountKind::Bind,
        content_cache: None,
    }
}

/// Scans a target, and what the Dockerfile asks to be scanned besides. Blocks.
pub(super) fn predicates(story: &Story, target: usize, tree: &Tree, images: &Images) -> Result<Vec<Predicate>> {
    let mut all = Vec::new();
    if let Tree::Layers(layers) = tree {
        all.push(predicate(CORE, layers, story, images)?);
    }
    for (name, layers) in story.scans.get(target).into_iter().flatten() {
        all.push(predicate(&format!("{CORE}-{name}"), layers, story, images)?);
    }
    Ok(all)
}

fn predicate(name: &str, layers: &Layers, story: &Story, images: &Images) -> Result<Predicate> {
    let packages = match layers.chain() {
        Some(chain) => images.packages(&chain)?,
        None => Vec::new(),
    };
    let body = document(name, &packages, story);
    Ok(Predicate { kind: PREDICATE_TYPE, body, file: format!("{name}.spdx.json"), subjects: Vec::new() })
}

fn document(name: &str, packages: &[InstalledPackage], story: &Story) -> Value {
    let listed: Vec<String> = packages.iter().map(|one| format!("{} {} {}", one.kind, one.name, one.version)).collect();
    let identity = Digest::sha256(format!("{name} {} {}", story.invocation, listed.join("\n")).as_bytes());
    let mut relations = Vec::new();
    let mut all = Vec::new();
    for package in packages {
        let id =
            format!("SPDXRef-Package-{}-{}", package.kind, plain(&format!("{}-{}", package.name, package.version)));
        relations.push(json!({
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relatedSpdxElement": id,
            "relationshipType": "DESCRIBES",
        }));
        all.push(json!({
            "name": package.name,
            "SPDXID": id,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": address(package),
            }],
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://ferry.dev/spdx/{name}-{}", identity.hex()),
        "creationInfo": {
            "creators": [format!("Tool: ferry-{}", env!("CARGO_PKG_VERSION"))],
            "created": seconds(story.ended_ns),
        },
        "packages": all,
        "relationships": relations,
    })
}

/// SPDX has times of whole seconds.
fn seconds(time_ns: i64) -> String {
    rfc3339(time_ns - time_ns.rem_euclid(1_000_000_000))
}

/// Ids of SPDX consist of letters, digits, dots and hyphens.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' }).collect()
}

fn address(package: &InstalledPackage) -> String {
    let kind = match package.kind {
        "dpkg" => "deb",
        other => other,
    };
    format!("pkg:{kind}/{}@{}", escaped(&package.name), escaped(&package.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanners_are_told_where_to_look() {
        let mut config = ImageConfig::default();
        config.config.env = vec!["PATH=/bin".to_owned(), "BUILDKIT_SCAN_SOURCE=x".to_owned()];
        let mut scanner = Scanner {
            name: Reference::parse_with_default_tag("me/own").unwrap(),
            digest: Digest::sha256(b"x"),
            config,
            platform: Platform::host(),
            parameters: BTreeMap::from([("DEPTH".to_owned(), "3".to_owned())]),
        };
        let platform = Platform::parse("linux/arm64").unwrap();
        let extras = [("context".to_owned(), None)];
        let scanned = Scanned { core: None, extras: &extras, platform: &platform, anew: false };
        let refused = scanner.scan(&mut Graph::new(), &scanned).unwrap_err();
        assert_eq!(refused.message, "scanner docker.io/me/own:latest does not have cmd");
        scanner.config.config.entrypoint = Some(vec!["scan".to_owned()]);
        scanner.config.config.cmd = Some(vec!["-v".to_owned()]);
        let mut graph = Graph::new();
        let output = scanner.scan(&mut graph, &scanned).unwrap();
        let vertex = graph.vertex(output.vertex);
        assert_eq!(vertex.meta.name, "[linux/arm64] generating sbom using docker.io/me/own:latest");
        let Op::Exec(exec) = &vertex.op else { panic!("{:?}", vertex.op) };
        assert_eq!((exec.args.join(" ").as_str(), exec.cwd.as_str(), exec.outputs()), ("scan -v", "/", 1));
        let env = [
            "PATH=/bin",
            "BUILDKIT_SCAN_DESTINATION=/run/out/",
            "BUILDKIT_SCAN_SOURCE=/run/src/core/sbom",
            "BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras",
            "BUILDKIT_SCAN_DEPTH=3",
        ];
        assert_eq!(exec.env, env);
        let targets: Vec<&str> = exec.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/", "/tmp", "/run/src/core/sbom", "/run/src/extras/sbom-context", "/run/out"]);
    }

    #[test]
    fn packages_become_a_document() {
        let package = |kind, name: &str, version: &str| InstalledPackage {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let packages = [package("apk", "musl", "1.2-r2"), package("dpkg", "libstdc++6", "1:12.2")];
        let document = document("sbom", &packages, &Story { ended_ns: 1_700_000_000_000_000_009, ..Story::default() });
        assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        let packages = document["packages"].as_array().unwrap();
        assert_eq!(packages[1]["SPDXID"], "SPDXRef-Package-dpkg-libstdc--6-1-12.2");
        assert_eq!(packages[1]["externalRefs"][0]["referenceLocator"], "pkg:deb/libstdc%2B%2B6@1:12.2");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 2);
    }
}
