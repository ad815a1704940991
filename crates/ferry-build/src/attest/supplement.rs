//! What is added to a document of a scanner about an image: which layer each of its files came with.

use ferry_engine::images::Images;
use ferry_spec::descriptor::Descriptor;
use serde_json::{Value, json};

use super::Predicate;
use super::sbom::CORE;
use crate::failure::Result;
use crate::tree::Tree;

/// Versions of documents that are understood; others stay as they are.
const VERSIONS: [&str; 3] = ["SPDX-2.1", "SPDX-2.2", "SPDX-2.3"];

/// Completes the document on what was built; `layers` are those of the image's manifest. Blocks.
pub(crate) fn supplement(
    predicates: &mut [Predicate],
    tree: &Tree,
    layers: &[Descriptor],
    images: &Images,
) -> Result<()> {
    for predicate in predicates.iter_mut().filter(|one| one.file.split('.').next() == Some(CORE)) {
        let unplaced = unplaced(&predicate.body);
        let places = match tree {
            Tree::Layers(of_tree) if !unplaced.is_empty() => match of_tree.chain() {
                Some(chain) => images.layers_of_files(&chain, &unplaced)?,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let digests = places.iter().map(|place| place.and_then(|place| layers.get(place)));
        let digests: Vec<Option<String>> = digests.map(|layer| layer.map(|layer| layer.digest.to_string())).collect();
        complete(&mut predicate.body, &digests);
    }
    Ok(())
}

fn is_known(document: &Value) -> bool {
    document["spdxVersion"].as_str().is_some_and(|version| VERSIONS.contains(&version))
}

fn is_unplaced(file: &Value) -> bool {
    file["fileName"].is_string() && file["comment"].as_str().unwrap_or_default().is_empty()
}

/// The files of which nothing is said besides.
fn unplaced(document: &Value) -> Vec<String> {
    let files = document["files"].as_array().into_iter().flatten().filter(|file| is_unplaced(file));
    let names: Vec<String> = files.filter_map(|file| file["fileName"].as_str().map(str::to_owned)).collect();
    if is_known(document) { names } else { Vec::new() }
}

/// Says where those files come from, and who said so.
fn complete(document: &mut Value, digests: &[Option<String>]) {
    if !is_known(document) {
        return;
    }
    let files = document.get_mut("files").and_then(Value::as_array_mut).into_iter().flatten();
    let files = files.filter(|file| is_unplaced(file));
    for (file, digest) in files.zip(digests) {
        if let Some(digest) = digest {
            file["comment"] = json!(format!("layerID: {digest}"));
        }
    }
    let Some(document) = document.as_object_mut() else { return };
    let creation = document.entry("creationInfo").or_insert_with(|| json!({}));
    let Some(creation) = creation.as_object_mut() else { return };
    let creators = creation.entry("creators").or_insert_with(|| json!([]));
    if let Some(creators) = creators.as_array_mut() {
        creators.push(json!(format!("Tool: ferry-{}", env!("CARGO_PKG_VERSION"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_said_to_come_with_layers() {
        let mut document = json!({
            "spdxVersion": "SPDX-2.3",
            "files": [
                { "fileName": "/a" },
                { "fileName": "/b", "comment": "mine" },
                { "fileName": "/gone" },
                { "fileName": "c" },
            ],
        });
        assert_eq!(unplaced(&document), ["/a", "/gone", "c"]);
        complete(&mut document, &[Some("sha256:1".to_owned()), None, Some("sha256:2".to_owned())]);
        let comments: Vec<&Value> = document["files"].as_array().unwrap().iter().map(|file| &file["comment"]).collect();
        assert_eq!(comments, [&json!("layerID: sha256:1"), &json!("mine"), &Value::Null, &json!("layerID: sha256:2")]);
        let creator = document["creationInfo"]["creators"][0].as_str().unwrap();
        assert!(creator.starts_with("Tool: ferry-"), "{creator}");
    }

    #[test]
    fn documents_of_other_kinds_stay_as_they_are() {
        for mut document in [json!({ "files": [{ "fileName": "a" }] }), json!([]), json!(null)] {
            let before = document.clone();
            assert!(unplaced(&document).is_empty());
            complete(&mut document, &[]);
            assert_eq!(document, before);
        }
    }
}
