//! Statements that a scanner left as files.

use std::os::fd::AsFd;

use ferry_engine::workshop::Workshop;
use rustix::fs::Dir;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Predicate;
use super::sbom::{CORE, PREDICATE_TYPE};
use crate::failure::{Doing, Failure, Result};
use crate::files;
use crate::tree::Tree;

/// The longest statement, in bytes.
const LIMIT: u64 = 40 << 20;
/// The most bytes of all statements of a scan, since they are held in memory.
const LIMIT_OF_ALL: usize = 256 << 20;

/// A statement as it is written.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "predicateType", default)]
    kind: String,
    #[serde(default)]
    subject: Option<Vec<WrittenSubject>>,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct WrittenSubject {
    #[serde(default)]
    name: String,
    #[serde(default)]
    digest: Value,
}

/// Reads the files of a tree as statements on packages: the one about what was built comes first. Blocks.
pub(crate) fn unbundle(tree: &Tree, workshop: &Workshop) -> Result<Vec<Predicate>> {
    let open = tree.open(workshop)?;
    let mut names = Vec::new();
    let root = files::open_folder(open.as_fd())?;
    for entry in Dir::read_from(&root).doing("cannot read what a scanner left")? {
        let entry = entry.doing("cannot read what a scanner left")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    let (mut all, mut length) = (Vec::new(), 0);
    for name in names {
        let bytes = files::read_file(root.as_fd(), &name, LIMIT).map_err(|failure| {
            match failure.message.contains(" is larger than ") {
                true => Failure::invalid(format!("{name} exceeds {LIMIT} bytes")),
                false => failure,
            }
        })?;
        let bytes = bytes.ok_or_else(|| Failure::invalid(format!("{name} is not a regular file")))?;
        length += bytes.len();
        if length > LIMIT_OF_ALL {
            return Err(Failure::invalid(format!("the statements of a scanner exceed {LIMIT_OF_ALL} bytes")));
        }
        all.push(read(name, &bytes)?);
    }
    all.sort_by_key(|one| one.file.split('.').next() != Some(CORE));
    Ok(all)
}

fn read(name: String, bytes: &[u8]) -> Result<Predicate> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Written>();
    let written = match documents.next() {
        Some(Ok(written)) => written,
        Some(Err(error)) => return Err(Failure::invalid(format!("cannot decode in-toto statement: {error}"))),
        None => return Err(Failure::invalid("cannot decode in-toto statement: EOF")),
    };
    if documents.next().is_some() {
        return Err(Failure::invalid("in-toto statement is not a single JSON object"));
    }
    if written.kind != PREDICATE_TYPE {
        let kind = &written.kind;
        let text = format!("bundle entry {kind} does not match required predicate type {PREDICATE_TYPE}");
        return Err(Failure::invalid(text));
    }
    let subjects = written.subject.into_iter().flatten().map(|subject| {
        let named = if subject.name.is_empty() { "_" } else { &subject.name };
        json!({ "name": named, "digest": subject.digest })
    });
    Ok(Predicate { kind: PREDICATE_TYPE, body: written.predicate, file: name, subjects: subjects.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_statement_on_packages_is_refused_as_buildkit_refuses_it() {
        let refused = |text: &str| read("x".to_owned(), text.as_bytes()).unwrap_err().message;
        let good = r#"{"predicateType":"https://spdx.dev/Document","subject":[{"digest":{"sha256":"1"}}],"predicate":{"a":1}}"#;
        let found = read("sbom.spdx.json".to_owned(), format!("{good}\n").as_bytes()).unwrap();
        assert_eq!(
            (found.body, found.subjects),
            (json!({"a": 1}), vec![json!({"name": "_", "digest": {"sha256": "1"}})])
        );
        let other = r#"{"predicateType":"x"}"#;
        let text = "bundle entry x does not match required predicate type https://spdx.dev/Document";
        assert_eq!(refused(other), text);
        assert_eq!(refused(&format!("{good}{good}")), "in-toto statement is not a single JSON object");
        assert_eq!(refused(""), "cannot decode in-toto statement: EOF");
        assert!(refused("no").starts_with("cannot decode in-toto statement: "));
    }
}
