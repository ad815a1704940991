//! `--attest`, `--provenance`, `--sbom` and `--annotation`: what is said of statements and notes about an image.

use std::collections::BTreeMap;

use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote, parse_bool};

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: failed to build: {text}"))
}

/// Which statements are asked for: their types, and what else is said of each.
pub(super) fn attests(parsed: &Parsed) -> Result<BTreeMap<String, String>> {
    let mut given = parsed.all("attest").to_vec();
    for kind in ["provenance", "sbom"] {
        match parsed.text_or_empty(kind) {
            "" => {}
            "1" | "t" | "T" | "true" | "TRUE" | "True" => given.push(format!("type={kind}")),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => given.push(format!("type={kind},disabled=true")),
            other => given.push(format!("type={kind},{other}")),
        }
    }
    let mut attests = BTreeMap::new();
    for text in &given {
        let fields = ferry_dockerfile::csv::fields(text).map_err(failed)?;
        let (mut kind, mut is_off, mut rest) = (String::new(), false, Vec::new());
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| failed(format!("invalid value {field}")))?;
            match key.trim().to_lowercase().as_str() {
                "type" => value.clone_into(&mut kind),
                "disabled" => is_off = parse_bool(value) == Ok(true),
                _ => rest.push(quoted(field)),
            }
        }
        match (kind.as_str(), is_off) {
            ("", _) => return Err(failed("attestation type not specified")),
            // Of several the last one counts.
            (_, true) => drop(attests.remove(&kind)),
            (_, false) => drop(attests.insert(kind, rest.join(","))),
        }
    }
    Ok(attests)
}

/// A field of a list with commas, as it has to be written.
fn quoted(field: &str) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// `[type[[platform]],…:]key=value` as attributes of the output.
pub(in crate::commands) fn annotations(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| failed(format!("invalid annotation {}, expected key=value", go_quote(text))))?;
        let Some((kinds, key)) = name.split_once(':') else {
            attributes.insert(format!("annotation.{name}"), value.to_owned());
            continue;
        };
        for kind in kinds.split(',') {
            let (place, platform) = match kind.strip_suffix(']').and_then(|kind| kind.split_once('[')) {
                Some((place, platform)) => (place, format!("[{platform}]")),
                None => (kind, String::new()),
            };
            let is_word = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            if !is_word {
                let text = format!(
                    "invalid annotation type {}, expected type and optional platform in square brackets",
                    go_quote(kind)
                );
                return Err(failed(text));
            }
            if !matches!(place, "index" | "index-descriptor" | "manifest" | "manifest-descriptor") {
                return Err(failed(format!("unknown annotation type {}", go_quote(place))));
            }
            attributes.insert(format!("annotation-{place}{platform}.{key}"), value.to_owned());
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::IMAGE_BUILD;
    use crate::{flags, options};

    fn read(line: &str) -> Result<BTreeMap<String, String>> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        attests(&flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check).unwrap())
    }

    #[test]
    fn statements_are_asked_for_as_of_buildx() {
        let all = read("--provenance mode=max --sbom true --attest type=other,a=b .").unwrap();
        assert_eq!((all["provenance"].as_str(), all["sbom"].as_str(), all["other"].as_str()), ("mode=max", "", "a=b"));
        assert!(read("--attest type=sbom --sbom false .").unwrap().is_empty());
        assert_eq!(
            read("--attest a=b .").unwrap_err().message,
            "ERROR: failed to build: attestation type not specified"
        );
    }

    #[test]
    fn annotations_become_attributes() {
        let read = |text: &str| annotations(&[text.to_owned()]);
        assert_eq!(read("a.b=c=d").unwrap()["annotation.a.b"], "c=d");
        let both = read("index,manifest[linux/amd64]:k=v").unwrap();
        assert_eq!(both.keys().collect::<Vec<_>>(), ["annotation-index.k", "annotation-manifest[linux/amd64].k"]);
        for (text, error) in [
            ("a", "invalid annotation \"a\", expected key=value"),
            ("x:a=b", "unknown annotation type \"x\""),
            ("X:a=b", "invalid annotation type \"X\", expected type and optional platform in square brackets"),
        ] {
            assert_eq!(read(text).unwrap_err().message, format!("ERROR: failed to build: {error}"));
        }
    }
}
