//! What is in an image: the packages of its package managers, as an SPDX document.

use std::collections::BTreeMap;

use ferry_engine::images::{Images, InstalledPackage};
use ferry_spec::digest::Digest;
use serde_json::{Value, json};

use super::purl::escaped;
use super::{Predicate, Story};
use crate::clock::rfc3339;
use crate::failure::{Failure, Result};
use crate::tree::{Layers, Tree};

const PREDICATE_TYPE: &str = "https://spdx.dev/Document";
/// What BuildKit scans with unless another generator is asked for; ferry's own scan takes its place.
const DEFAULT_GENERATOR: &str = "docker/buildkit-syft-scanner";

/// Refuses a scan by a program of an image.
pub(super) fn check(attributes: &BTreeMap<&str, &str>) -> Result<()> {
    match attributes.get("generator").copied().unwrap_or_default() {
        "" => Ok(()),
        generator if generator.split(':').next() == Some(DEFAULT_GENERATOR) => Ok(()),
        other => Err(Failure::not_implemented(format!(
            "the SBOM generator {other} (ferry scans for packages itself; leave the generator out)"
        ))),
    }
}

/// Scans a target, and what the Dockerfile asks to be scanned besides. Blocks.
pub(super) fn predicates(story: &Story, target: usize, tree: &Tree, images: &Images) -> Result<Vec<Predicate>> {
    let mut all = Vec::new();
    if let Tree::Layers(layers) = tree {
        all.push(predicate("sbom", layers, story, images)?);
    }
    for (name, layers) in story.scans.get(target).into_iter().flatten() {
        all.push(predicate(&format!("sbom-{name}"), layers, story, images)?);
    }
    Ok(all)
}

fn predicate(name: &str, layers: &Layers, story: &Story, images: &Images) -> Result<Predicate> {
    let packages = match layers.chain() {
        Some(chain) => images.packages(&chain)?,
        None => Vec::new(),
    };
    let body = document(name, &packages, story);
    Ok(Predicate { kind: PREDICATE_TYPE, body, file: format!("{name}.spdx.json") })
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
