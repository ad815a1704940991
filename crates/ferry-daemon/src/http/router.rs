//! The routing table: a method, a path pattern, a handler.
//!
//! Patterns have literal segments, `{name}` for one segment and `{name:.*}` for one or more, at most once each. Paths are
//! percent-decoded once and repeated slashes collapsed before matching, so there is one reading of a path only. The first match in the order
//! of the table wins; a path that is there with another method is not found, as in Docker.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use super::call::Call;
use super::error::ApiError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::query::unescape;
use super::reply::Outcome;
use ferry_api::version::ApiVersion;

type HandlerFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Handler = Box<dyn Fn(Call) -> HandlerFuture + Send + Sync>;

/// Values of a path's variables.
pub(crate) type PathValues = Vec<(&'static str, String)>;

/// One entry of the table.
pub(crate) struct Route {
    method: Method,
    pattern: Vec<Segment>,
    handler: Handler,
}

enum Segment {
    Literal(&'static str),
    One(&'static str),
    Many(&'static str),
}

/// Makes an entry.
pub(crate) fn route<F, R>(method: Method, pattern: &'static str, handler: F) -> Route
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    Route { method, pattern: segments(pattern), handler: Box::new(move |call| Box::pin(handler(call))) }
}

/// Makes an entry for `GET`.
pub(crate) fn get<F, R>(pattern: &'static str, handler: F) -> Route
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    route(Method::GET, pattern, handler)
}

/// Makes an entry for `POST`.
pub(crate) fn post<F, R>(pattern: &'static str, handler: F) -> Route
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    route(Method::POST, pattern, handler)
}

/// Makes an entry for `DELETE`.
pub(crate) fn delete<F, R>(pattern: &'static str, handler: F) -> Route
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    route(Method::DELETE, pattern, handler)
}

impl Route {
    /// Runs the handler.
    pub(crate) fn run(&self, call: Call) -> HandlerFuture {
        (self.handler)(call)
    }
}

fn segments(pattern: &'static str) -> Vec<Segment> {
    pattern
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(inner) => match inner.strip_suffix(":.*") {
                Some(name) => Segment::Many(name),
                None => Segment::One(inner),
            },
            None => Segment::Literal(segment),
        })
        .collect()
}

/// A path taken apart: the version it asks for, and its decoded segments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) version: Option<ApiVersion>,
    segments: Vec<String>,
}

impl Target {
    /// Takes a raw path apart.
    pub(crate) fn parse(raw_path: &str) -> Result<Self, ApiError> {
        let path = unescape(raw_path, false)?;
        let mut segments: Vec<String> =
            path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        let version = match segments.first().and_then(|first| version_segment(first)) {
            Some(version) => version.parse().map_err(|_| ApiError::page_not_found())?,
            None => return Ok(Self { version: None, segments }),
        };
        segments.remove(0);
        Ok(Self { version: Some(version), segments })
    }

    /// The path as it was understood, written in one way.
    pub(crate) fn path(&self) -> String {
        let version = self.version.iter().map(|version| format!("v{version}"));
        let segments = self.segments.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
        let parts: Vec<String> = version.chain(segments).collect();
        format!("/{}", parts.join("/"))
    }
}

/// What Go leaves as it is in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=');

/// Recognises `v1.44`.
fn version_segment(segment: &str) -> Option<&str> {
    segment
        .strip_prefix('v')
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// Finds the entry for a method and path.
pub(crate) fn find<'table>(
    table: &'table [Route],
    method: &Method,
    target: &Target,
) -> Option<(&'table Route, PathValues)> {
    table
        .iter()
        .filter(|route| route.method == *method)
        .find_map(|route| Some((route, match_segments(&route.pattern, &target.segments)?)))
}

fn match_segments(pattern: &[Segment], path: &[String]) -> Option<PathValues> {
    let spare = path.len().checked_sub(pattern.len())?;
    let mut values = PathValues::new();
    let mut rest = path;
    let mut has_many = false;
    for segment in pattern {
        let (first, tail) = rest.split_first()?;
        rest = match segment {
            Segment::Literal(literal) => (*literal == first).then_some(tail)?,
            Segment::One(name) => {
                values.push((name, first.clone()));
                tail
            }
            Segment::Many(name) => {
                has_many = true;
                let (taken, after) = rest.split_at(spare + 1);
                values.push((name, taken.join("/")));
                after
            }
        };
    }
    (rest.is_empty() && (has_many || spare == 0)).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply;

    fn table() -> Vec<Route> {
        let patterns: [(Method, &'static str); 7] = [
            (Method::GET, "/images/json"),
            (Method::GET, "/images/{name:.*}/get"),
            (Method::GET, "/images/{name:.*}/json"),
            (Method::DELETE, "/images/{name:.*}"),
            (Method::POST, "/containers/create"),
            (Method::POST, "/containers/{id}/start"),
            (Method::HEAD, "/_ping"),
        ];
        patterns
            .into_iter()
            .map(|(method, pattern)| route(method, pattern, |_| async { reply::no_content() }))
            .collect()
    }

    fn matched(method: Method, path: &str) -> Option<(usize, PathValues)> {
        let table = table();
        let target = Target::parse(path).unwrap();
        let (found, values) = find(&table, &method, &target)?;
        let index = table.iter().position(|route| std::ptr::eq(route, found)).unwrap();
        Some((index, values))
    }

    #[test]
    fn names_may_hold_slashes_encoded_or_not() {
        let name = |text: &str| Some((2, vec![("name", text.to_owned())]));
        assert_eq!(matched(Method::GET, "/images/debian/json"), name("debian"));
        assert_eq!(matched(Method::GET, "/images/localhost:5000/a/b:1/json"), name("localhost:5000/a/b:1"));
        assert_eq!(matched(Method::GET, "/images/localhost:5000%2Fa%2fb:1/json"), name("localhost:5000/a/b:1"));
        assert_eq!(matched(Method::GET, "/images/json/json"), name("json"));
        assert_eq!(matched(Method::GET, "/images/json"), Some((0, vec![])));
        assert_eq!(matched(Method::DELETE, "/images/a/b"), Some((3, vec![("name", "a/b".to_owned())])));
    }

    #[test]
    fn versions_are_stripped() {
        assert_eq!(matched(Method::POST, "/v1.44/containers/x/start"), Some((5, vec![("id", "x".to_owned())])));
        assert_eq!(Target::parse("/v1.44/info").unwrap().version, Some(ApiVersion::new(1, 44)));
        assert_eq!(Target::parse("/volumes/v1.44").unwrap().version, None);
        assert_eq!(Target::parse("/v1.2.3.4/info").unwrap_err(), ApiError::page_not_found());
        assert_eq!(Target::parse("/vx/info").unwrap().version, None);
    }

    #[test]
    fn one_reading_of_a_path() {
        assert_eq!(matched(Method::POST, "//containers///create/"), Some((4, vec![])));
        assert_eq!(matched(Method::POST, "/containers%2Fcreate"), Some((4, vec![])));
        assert_eq!(Target::parse("//v1.44//containers%2Fa b/json").unwrap().path(), "/v1.44/containers/a%20b/json");
        assert_eq!(Target::parse("/%zz").unwrap_err().message, "invalid URL escape \"%zz\"");
    }

    #[test]
    fn the_rest_is_not_found() {
        for (method, path) in [
            (Method::PUT, "/images/json"),
            (Method::GET, "/_ping"),
            (Method::GET, "/images"),
            (Method::DELETE, "/images/"),
            (Method::POST, "/containers/a/b/start"),
            (Method::POST, "/containers/create/x"),
        ] {
            assert!(matched(method.clone(), path).is_none(), "{method} {path}");
        }
    }
}
