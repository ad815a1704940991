//! Sources of definitions: what identifiers and attributes stand for.

use std::collections::BTreeMap;

use ferry_buildkit_proto::messages::llb::SourceOp;
use ferry_spec::digest::Digest;

use crate::failure::{Failure, Result};
use crate::graph::{GitSource, HttpSource, ImagePullMode, ImageSource, LayoutSource, LocalDiffer, LocalSource, Source};

/// How the outcome of an earlier build is named in definitions that ferry hands out.
pub(super) const RESULT: &str = "ferry-result";

/// What a definition may say in requests for files.
const HEADERS: [&str; 2] = ["accept", "user-agent"];

/// Reads a source; tells also the session that it is of, where that is another than the build's.
pub(super) fn source(order: &SourceOp) -> Result<(Source, Option<String>)> {
    let invalid = || Failure::invalid(format!("failed to load LLB: failed to parse {}", order.identifier));
    let (scheme, rest) = order.identifier.split_once("://").ok_or_else(invalid)?;
    let attributes = Attributes(&order.attrs);
    let source = match scheme {
        "docker-image" => Source::Image(ImageSource {
            reference: rest.to_owned(),
            pull: if attributes.text("image.resolvemode") == "pull" {
                ImagePullMode::Always
            } else {
                ImagePullMode::Prefer
            },
        }),
        "local" => Source::Local(LocalSource {
            name: rest.to_owned(),
            include_patterns: attributes.list("local.includepattern")?,
            exclude_patterns: attributes.list("local.excludepatterns")?,
            follow_paths: attributes.list("local.followpaths")?,
            differ: if attributes.text("local.differ") == "none" { LocalDiffer::None } else { LocalDiffer::Metadata },
            shared_key_hint: attributes.text("local.sharedkeyhint").to_owned(),
        }),
        "git" => Source::Git(git(rest, &attributes)),
        "http" | "https" => Source::Http(http(&order.identifier, &attributes)?),
        "oci-layout" => Source::Layout(LayoutSource {
            reference: rest.to_owned(),
            store: attributes.text("oci.store").to_owned(),
            session: attributes.text("oci.session").to_owned(),
        }),
        RESULT => Source::Input(rest.to_owned()),
        other => return Err(Failure::not_implemented(format!("source {other} of a definition"))),
    };
    let session = Some(attributes.text("local.session").to_owned()).filter(|session| !session.is_empty());
    Ok((source, session))
}

fn git(rest: &str, attributes: &Attributes<'_>) -> GitSource {
    let (remote, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let remote = match attributes.text("git.fullurl") {
        "" => format!("https://{remote}"),
        whole => whole.split('#').next().unwrap_or_default().to_owned(),
    };
    let text = |name: &str| attributes.text(name).to_owned();
    GitSource {
        remote,
        reference: reference.to_owned(),
        subdirectory: subdirectory.to_owned(),
        keep_git_dir: attributes.text("git.keepgitdir") == "true",
        checksum: Some(text("git.checksum")).filter(|checksum| !checksum.is_empty()),
        skip_submodules: attributes.text("git.skipsubmodules") == "true",
        auth_token_secret: text("git.authtokensecret"),
        auth_header_secret: text("git.authheadersecret"),
        ssh_agent: Some(text("git.mountsshsock")).filter(|agent| !agent.is_empty()),
        known_ssh_hosts: text("git.knownsshhosts"),
    }
}

fn http(url: &str, attributes: &Attributes<'_>) -> Result<HttpSource> {
    let checksum = match attributes.text("http.checksum") {
        "" => None,
        text => Some(Digest::parse(text).map_err(|error| Failure::invalid(error.to_string()))?),
    };
    let headers = || attributes.0.iter().filter_map(|(name, value)| Some((name.strip_prefix("http.header.")?, value)));
    let is_unbuilt = |name: &&str| !HEADERS.contains(&name.to_ascii_lowercase().as_str());
    if let Some(name) = headers().map(|(name, _)| name).find(is_unbuilt) {
        return Err(Failure::not_implemented(format!("attribute http.header.{name} of a source")));
    }
    if let Some(name) = attributes.0.keys().find(|name| name.starts_with("http.sig.")) {
        return Err(Failure::not_implemented(format!("attribute {name} of a source")));
    }
    Ok(HttpSource {
        url: url.to_owned(),
        checksum,
        filename: Some(attributes.text("http.filename").to_owned()).filter(|name| !name.is_empty()),
        mode: attributes.number("http.perm")?,
        uid: attributes.number("http.uid")?,
        gid: attributes.number("http.gid")?,
        header: headers().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        auth_header_secret: attributes.text("http.authheadersecret").to_owned(),
    })
}

struct Attributes<'a>(&'a BTreeMap<String, String>);

impl Attributes<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A list as JSON.
    fn list(&self, name: &str) -> Result<Vec<String>> {
        match self.text(name) {
            "" => Ok(Vec::new()),
            text => serde_json::from_str::<Option<Vec<String>>>(text)
                .map(Option::unwrap_or_default)
                .map_err(|error| Failure::invalid(format!("failed to load LLB: {name}: {error}"))),
        }
    }

    /// A number as Go reads it: a leading zero makes it octal.
    fn number(&self, name: &str) -> Result<Option<u32>> {
        let text = self.text(name);
        let read = match text {
            "" => return Ok(None),
            text => match text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty())) {
                Some(octal) => u32::from_str_radix(octal, 8),
                None => text.parse(),
            },
        };
        read.map(Some).map_err(|_| Failure::invalid(format!("failed to load LLB: {name}: invalid number {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(identifier: &str, attrs: &[(&str, &str)]) -> Result<Source> {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        source(&SourceOp { identifier: identifier.to_owned(), attrs }).map(|(source, _)| source)
    }

    #[test]
    fn sources_are_read() {
        let Source::Local(local) = read("local://context", &[("local.followpaths", r#"["a"]"#)]).unwrap() else {
            panic!("no local source");
        };
        assert_eq!((local.name.as_str(), local.follow_paths), ("context", vec!["a".to_owned()]));
        let Source::Git(git) = read("git://host/x.git#main:sub", &[("git.keepgitdir", "true")]).unwrap() else {
            panic!("no git source");
        };
        assert_eq!((git.remote.as_str(), git.reference.as_str()), ("https://host/x.git", "main"));
        assert!(git.subdirectory == "sub" && git.keep_git_dir);
        let Source::Http(http) = read("https://host/f", &[("http.perm", "0644"), ("http.uid", "7")]).unwrap() else {
            panic!("no file over HTTP");
        };
        assert_eq!((http.url.as_str(), http.mode, http.uid), ("https://host/f", Some(0o644), Some(7)));
        for (identifier, text) in [
            ("x", "failed to load LLB: failed to parse x"),
            ("blob://x", "not implemented: source blob of a definition"),
        ] {
            assert_eq!(read(identifier, &[]).unwrap_err().message, text);
        }
        let asked = read("https://host", &[("http.header.Accept", "x"), ("http.authheadersecret", "s")]).unwrap();
        let Source::Http(http) = asked else { panic!("no file over HTTP") };
        assert_eq!(
            (http.header, http.auth_header_secret),
            (vec![("accept".to_owned(), "x".to_owned())], "s".to_owned())
        );
        for name in ["http.header.cookie", "http.sig.pubkey"] {
            let refused = read("https://host", &[(name, "x")]).unwrap_err();
            assert_eq!(refused.message, format!("not implemented: attribute {name} of a source"));
        }
    }
}
