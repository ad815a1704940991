//! Policies for the sources of builds: which are denied, and which are others than was asked for. The rules are BuildKit's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_buildkit_proto::messages::llb::SourceOp;
use ferry_buildkit_proto::messages::policy::{AttrConstraint, Policy, Rule, Selector};
use regex_lite::Regex;

use super::source;
use crate::failure::{Failure, Result};
use crate::graph::{ImagePullMode, Source};

/// Times that a source may become another.
const MOST_CHANGES: usize = 20;

/// What a client allows a build to take; everything by default. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SourcePolicy(Option<Arc<Policy>>);

/// Actions of rules.
const ALLOW: i32 = 0;
const DENY: i32 = 1;
const CONVERT: i32 = 2;

/// How a rule finds its sources.
const WILDCARD: i32 = 0;
const EXACT: i32 = 1;
const REGEX: i32 = 2;

impl SourcePolicy {
    pub(super) fn of(policy: Option<Policy>) -> Self {
        Self(policy.map(Arc::new))
    }

    /// What is taken in place of a source.
    ///
    /// # Errors
    /// When the policy denies it, or makes no sense.
    pub(crate) fn applied<'a>(&self, source: &'a Source) -> Result<Cow<'a, Source>> {
        let Some(policy) = &self.0 else { return Ok(Cow::Borrowed(source)) };
        let order = described(source);
        let changed = evaluate(policy, order.clone())?;
        if changed == order {
            return Ok(Cow::Borrowed(source));
        }
        let scheme = |order: &SourceOp| order.identifier.split_once("://").map(|(scheme, _)| scheme.to_owned());
        let is_web = |scheme: &Option<String>| matches!(scheme.as_deref(), Some("http" | "https"));
        let (from, to) = (scheme(&order), scheme(&changed));
        let is_known = matches!(source, Source::Image(_) | Source::Http(_));
        if !is_known || !(from == to || (is_web(&from) && is_web(&to))) {
            let text = format!("policies that make {} of {}", changed.identifier, order.identifier);
            return Err(Failure::not_implemented(text));
        }
        Ok(Cow::Owned(source::source(&changed)?.0))
    }

    /// What is taken in place of an image.
    ///
    /// # Errors
    /// As [`Self::applied`].
    pub(crate) fn image(&self, reference: &str, pull: ImagePullMode) -> Result<(String, ImagePullMode)> {
        let image = crate::graph::ImageSource { reference: reference.to_owned(), pull };
        match self.applied(&Source::Image(image))?.into_owned() {
            Source::Image(image) => Ok((image.reference, image.pull)),
            _ => Err(Failure::internal("an image that a policy made something else")),
        }
    }
}

/// A source as a definition has it.
fn described(source: &Source) -> SourceOp {
    let mut attrs = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            attrs.insert(name.to_owned(), value);
        }
    };
    let identifier = match source {
        Source::Image(image) => {
            set("image.resolvemode", (image.pull == ImagePullMode::Always).then(|| "pull".to_owned()));
            format!("docker-image://{}", image.reference)
        }
        Source::Http(http) => {
            set("http.checksum", http.checksum.as_ref().map(ToString::to_string));
            set("http.filename", http.filename.clone());
            set("http.perm", http.mode.map(|mode| format!("0{mode:o}")));
            set("http.uid", http.uid.map(|uid| uid.to_string()));
            set("http.gid", http.gid.map(|gid| gid.to_string()));
            set("http.authheadersecret", Some(http.auth_header_secret.clone()).filter(|secret| !secret.is_empty()));
            for (name, value) in &http.header {
                set(&format!("http.header.{name}"), Some(value.clone()));
            }
            http.url.clone()
        }
        Source::Git(git) => {
            set("git.fullurl", Some(git.remote.clone()));
            set("git.checksum", git.checksum.clone());
            let plain = git.remote.split_once("://").map_or(git.remote.as_str(), |(_, rest)| rest);
            let below = if git.subdirectory.is_empty() { String::new() } else { format!(":{}", git.subdirectory) };
            let reference = format!("{}{below}", git.reference);
            if reference.is_empty() { format!("git://{plain}") } else { format!("git://{plain}#{reference}") }
        }
        Source::Local(local) => format!("local://{}", local.name),
        Source::Layout(layout) => format!("oci-layout://{}", layout.reference),
        Source::Input(name) => format!("input:{name}"),
    };
    SourceOp { identifier, attrs }
}

fn evaluate(policy: &Policy, mut order: SourceOp) -> Result<SourceOp> {
    for _ in 0..=MOST_CHANGES {
        let before = order.clone();
        order = pass(policy, order)?;
        if order == before {
            return Ok(order);
        }
    }
    Err(Failure::invalid("too many mutations on a single source: too many operations"))
}

/// Goes through the rules once; the first that changes something ends it, of those that allow and deny the last counts.
fn pass(policy: &Policy, order: SourceOp) -> Result<SourceOp> {
    let mut is_denied = false;
    for rule in &policy.rules {
        let selector = rule.selector.clone().unwrap_or_default();
        let Some(found) = matched(&selector, &order) else { continue };
        let found = found.map_err(|failure| failure.during("error matching source policy"))?;
        match rule.action {
            ALLOW => is_denied = false,
            DENY => is_denied = true,
            CONVERT => {
                let changed = converted(rule, &selector, found.as_ref(), &order)
                    .map_err(|failure| failure.during("error mutating source policy"))?;
                if changed != order {
                    return Ok(changed);
                }
            }
            other => {
                let (name, of) = (&selector.identifier, &order.identifier);
                return Err(Failure::invalid(format!("source policy: rule {other} {name}: unknown type {of:?}")));
            }
        }
    }
    if is_denied {
        let name = &order.identifier;
        return Err(Failure::new(
            ferry_engine::ErrorKind::Forbidden,
            format!("source {name:?} denied by policy: source denied by policy"),
        ));
    }
    Ok(order)
}

/// `None` when a rule is not for a source; else the pattern that found it, if it is one.
fn matched(selector: &Selector, order: &SourceOp) -> Option<Result<Option<Regex>>> {
    for constraint in &selector.constraints {
        match holds(constraint, &order.attrs) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(failure) => return Some(Err(failure)),
        }
    }
    let pattern = match pattern(selector) {
        Ok(pattern) => pattern,
        // What is the very same needs no pattern.
        Err(_) if selector.identifier == order.identifier => return Some(Ok(None)),
        Err(failure) => return Some(Err(failure)),
    };
    let is_it = selector.identifier == order.identifier
        || pattern.as_ref().is_some_and(|pattern| pattern.is_match(&order.identifier));
    is_it.then_some(Ok(pattern))
}

fn holds(constraint: &AttrConstraint, attrs: &BTreeMap<String, String>) -> Result<bool> {
    let value = attrs.get(&constraint.key).map(String::as_str).unwrap_or_default();
    match constraint.condition {
        0 => Ok(value == constraint.value),
        1 => Ok(value != constraint.value),
        2 => Ok(regex(&constraint.value)?.is_match(value)),
        other => Err(Failure::invalid(format!("unknown attr condition: {other}"))),
    }
}

fn regex(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Failure::invalid(format!("invalid regex {text:?}: {error}")))
}

fn pattern(selector: &Selector) -> Result<Option<Regex>> {
    match selector.match_type {
        EXACT => Ok(None),
        REGEX => regex(&selector.identifier).map(Some),
        WILDCARD => {
            let text = regex_lite::escape(&selector.identifier);
            if text.contains("\\*\\*") {
                let (text, reason) = (&selector.identifier, "invalid wildcard: \"**\"");
                return Err(Failure::invalid(format!("failed to translate wildcard {text:?} to regexp: {reason}")));
            }
            regex(&format!("^{}$", text.replace("\\*", "(.*)"))).map(Some)
        }
        other => Err(Failure::invalid(format!("unknown match type: {other}"))),
    }
}

fn converted(rule: &Rule, selector: &Selector, pattern: Option<&Regex>, order: &SourceOp) -> Result<SourceOp> {
    let updates = rule.updates.as_ref().ok_or_else(|| Failure::invalid("missing destination for convert rule"))?;
    let wanted = if updates.identifier.is_empty() { &selector.identifier } else { &updates.identifier };
    let identifier = match (selector.match_type, pattern) {
        (EXACT, _) | (_, None) => wanted.clone(),
        (REGEX, Some(pattern)) => pattern.replace_all(&order.identifier, wanted.as_str()).into_owned(),
        (_, Some(pattern)) => match pattern.captures(&order.identifier) {
            Some(found) => {
                let mut text = String::new();
                found.expand(wanted, &mut text);
                text
            }
            None => order.identifier.clone(),
        },
    };
    let mut changed = order.clone();
    if !identifier.is_empty() {
        changed.identifier = identifier;
    }
    changed.attrs.extend(updates.attrs.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use ferry_buildkit_proto::messages::policy::Update;

    use super::*;
    use crate::graph::{HttpSource, ImageSource};

    fn rule(action: i32, match_type: i32, identifier: &str, to: Option<&str>) -> Rule {
        let updates = to.map(|to| Update { identifier: to.to_owned(), ..Update::default() });
        let selector = Selector { identifier: identifier.to_owned(), match_type, constraints: Vec::new() };
        Rule { action, selector: Some(selector), updates }
    }

    fn of(rules: &[Rule]) -> SourcePolicy {
        SourcePolicy::of(Some(Policy { version: 1, rules: rules.to_vec() }))
    }

    #[test]
    fn images_are_denied_and_made_others() {
        let golang = "docker.io/library/golang:1.19";
        let source = "docker-image://docker.io/library/golang:1.19";
        let any = "docker-image://docker.io/library/golang:*";
        for (rules, expected) in [
            (vec![], Ok(golang)),
            (vec![rule(DENY, WILDCARD, "docker-image://*", None)], Err("denied by policy")),
            (vec![rule(DENY, EXACT, "docker-image://*", None)], Ok(golang)),
            (vec![rule(DENY, WILDCARD, any, None), rule(ALLOW, EXACT, source, None)], Ok(golang)),
            (vec![rule(ALLOW, EXACT, source, None), rule(DENY, REGEX, "golang", None)], Err("denied by policy")),
            (
                vec![rule(CONVERT, WILDCARD, any, Some("docker-image://docker.io/library/go:${1}-alpine"))],
                Ok("docker.io/library/go:1.19-alpine"),
            ),
            (
                vec![rule(CONVERT, REGEX, r"(.*)golang:1\.(\d+)$", Some("${1}golang:2.$2"))],
                Ok("docker.io/library/golang:2.19"),
            ),
            (
                vec![
                    rule(CONVERT, EXACT, source, Some("docker-image://x/y:1")),
                    rule(DENY, EXACT, "docker-image://x/y:1", None),
                ],
                Err("source \"docker-image://x/y:1\" denied by policy"),
            ),
            (
                vec![rule(CONVERT, EXACT, source, Some("https://x/y"))],
                Err("not implemented: policies that make https://x/y"),
            ),
            (vec![rule(CONVERT, EXACT, source, None)], Err("missing destination for convert rule")),
            (vec![rule(DENY, WILDCARD, "docker-image://**", None)], Err("invalid wildcard: \"**\"")),
            (vec![rule(7, EXACT, source, None)], Err("unknown type")),
            (
                vec![
                    rule(CONVERT, WILDCARD, "docker-image://*a", Some("docker-image://b")),
                    rule(CONVERT, WILDCARD, "docker-image://*b", Some("docker-image://a")),
                    rule(CONVERT, WILDCARD, "docker-image://*golang*", Some("docker-image://a")),
                ],
                Err("too many mutations on a single source"),
            ),
        ] {
            let shown = format!("{rules:?}");
            match (of(&rules).image(golang, ImagePullMode::Prefer), expected) {
                (Ok((found, _)), Ok(expected)) => assert_eq!(found, expected, "{shown}"),
                (Err(failure), Err(text)) => assert!(failure.message.contains(text), "{shown}: {failure}"),
                (found, expected) => panic!("{shown}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn attributes_are_looked_at_and_changed() {
        let digest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let http =
            Source::Http(HttpSource { url: "https://host/f".to_owned(), mode: Some(0o640), ..HttpSource::default() });
        let with = |value: &str, condition| {
            let mut rule = rule(CONVERT, EXACT, "https://host/f", Some("https://host/f"));
            let constraint = AttrConstraint { key: "http.perm".to_owned(), value: value.to_owned(), condition };
            rule.selector.as_mut().unwrap().constraints.push(constraint);
            rule.updates.as_mut().unwrap().attrs.insert("http.checksum".to_owned(), digest.to_owned());
            of(&[rule])
        };
        let checksum = |policy: &SourcePolicy| match policy.applied(&http).unwrap().into_owned() {
            Source::Http(http) => (http.checksum.map(|digest| digest.to_string()), http.mode),
            other => panic!("{other:?}"),
        };
        let changed = (Some(digest.to_owned()), Some(0o640));
        assert_eq!(checksum(&with("0640", 0)), changed);
        assert_eq!(checksum(&with("0644", 0)).0, None);
        assert_eq!(checksum(&with("0644", 1)), changed);
        assert_eq!(checksum(&with("^06", 2)), changed);
        let image = Source::Image(ImageSource { reference: "x".to_owned(), pull: ImagePullMode::Prefer });
        assert!(matches!(with("0640", 0).applied(&image).unwrap(), Cow::Borrowed(_)));
        let denied = of(&[rule(DENY, WILDCARD, "http*://host/*", None)]);
        assert!(denied.applied(&http).unwrap_err().message.contains("source \"https://host/f\" denied by policy"));
    }
}
