//! Filters of `ps`, as Docker reads them.

use std::ops::RangeInclusive;

use ferry_api::filters::Filters;
use regex_lite::Regex;

use super::list::{ListOptions, labels};
use super::record::Record;
use super::{Containers, health, inspect, ports};
use crate::error::{Error, Result};
use crate::filter::{any_of, boolean};

const KNOWN: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// A parsed filter.
pub(super) struct ListFilter<'a> {
    filters: &'a Filters,
    all: bool,
    is_task: Option<bool>,
    created_before_ns: Option<i64>,
    created_after_ns: Option<i64>,
    exit_codes: Vec<i32>,
    ancestors: Option<Vec<String>>,
    ids: Vec<String>,
    names: Vec<Pattern>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
}

/// Ports and the name of their protocol, which may be one that nobody has.
type Ports = (RangeInclusive<u16>, String);

impl<'a> ListFilter<'a> {
    pub(super) fn new(containers: &Containers, options: &'a ListOptions) -> Result<Self> {
        let filters = &options.filters;
        filters.validate(&KNOWN)?;
        let mut exit_codes = Vec::new();
        for code in filters.get("exited") {
            exit_codes.push(exit_code(code)?);
        }
        one_of(filters, "status", "state", &STATES)?;
        let is_task = boolean(filters, "is-task")?;
        one_of(filters, "health", "health", &HEALTHS)?;
        let created = |name: &str| match filters.get(name).last() {
            Some(reference) => {
                containers.find(reference).map(|found| Some(found.with_record(|record| record.created_ns)))
            }
            None => Ok(None),
        };
        let (created_before_ns, created_after_ns) = (created("before")?, created("since")?);
        let ancestors = filters.contains("ancestor").then(|| {
            let found = filters.get("ancestor").filter_map(|name| containers.inner.images.id_of(name));
            found.map(|id| id.to_string()).collect()
        });
        // A beginning that several have finds none of them.
        let ids = filters.get("id").filter_map(|id| containers.find(id).ok().filter(|found| found.id.starts_with(id)));
        Ok(Self {
            filters,
            all: options.all || options.limit.is_some_and(|limit| limit > 0) || filters.contains("status"),
            is_task,
            created_before_ns,
            created_after_ns,
            exit_codes,
            ancestors,
            ids: ids.map(|found| found.id.clone()).collect(),
            names: filters.get("name").map(Pattern::new).collect(),
            published: filters.get("publish").map(|text| port_range("publish", text)).collect::<Result<_>>()?,
            exposed: filters.get("expose").map(|text| port_range("expose", text)).collect::<Result<_>>()?,
        })
    }

    pub(super) fn keeps(&self, record: &Record) -> bool {
        let filters = self.filters;
        (self.all || record.status.counts_as_running())
            // Nothing here belongs to a swarm; isolation is a matter of another system and fits always.
            && self.is_task != Some(true)
            && self.created_before_ns.is_none_or(|time| record.created_ns < time)
            && self.created_after_ns.is_none_or(|time| record.created_ns > time)
            && (self.exit_codes.is_empty() || self.has_exit_code(record))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image_id.to_string()))
            && any_of(filters, "network", |network| in_network(record, network))
            && any_of(filters, "status", |state| state == record.status.as_str())
            && any_of(filters, "health", |word| word == health::summary(record.life.health.as_ref()).status)
            && (!filters.contains("id") || self.ids.contains(&record.id))
            && (self.names.is_empty() || self.names.iter().any(|pattern| pattern.fits(&record.name)))
            && any_of(filters, "volume", |volume| has_mount(record, volume))
            && self.has_port(record)
            && filters.matches_labels("label", &labels(record))
    }

    fn has_exit_code(&self, record: &Record) -> bool {
        record.has_started && !record.status.counts_as_running() && self.exit_codes.contains(&record.exit_code)
    }

    /// By what is open now; one of either filter is enough.
    fn has_port(&self, record: &Record) -> bool {
        if self.published.is_empty() && self.exposed.is_empty() {
            return true;
        }
        let within = |ranges: &[Ports], port: u16, protocol: &str| {
            ranges.iter().any(|(range, kind)| range.contains(&port) && kind == protocol)
        };
        ports::port_list(record).iter().any(|port| {
            within(&self.published, port.public_port, &port.protocol)
                || within(&self.exposed, port.private_port, &port.protocol)
        })
    }
}

fn exit_code(text: &str) -> Result<i32> {
    let reason = match text.parse::<i64>() {
        Ok(code) => return i32::try_from(code).or(Ok(i32::MIN)),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
        Err(_) => "invalid syntax",
    };
    Err(Error::invalid(format!("invalid filter 'exited={text}': strconv.Atoi: parsing {text:?}: {reason}")))
}

fn one_of(filters: &Filters, name: &str, what: &str, words: &[&str]) -> Result<()> {
    match filters.get(name).find(|word| !words.contains(word)) {
        Some(word) => Err(Error::invalid(format!(
            "invalid filter '{name}={word}': invalid value for {what} ({word}): must be one of {}",
            words.join(", ")
        ))),
        None => Ok(()),
    }
}

/// A name or a regular expression over it; one that cannot be read fits nothing else.
struct Pattern {
    text: String,
    expression: Option<Regex>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), expression: Regex::new(text).ok() }
    }

    /// Docker looks at the name with and without its slash.
    fn fits(&self, name: &str) -> bool {
        let with_slash = format!("/{name}");
        [name, with_slash.as_str()]
            .iter()
            .any(|name| *name == self.text || self.expression.as_ref().is_some_and(|found| found.is_match(name)))
    }
}

fn in_network(record: &Record, wanted: &str) -> bool {
    record
        .endpoints
        .iter()
        .any(|(name, endpoint)| name == wanted || (!wanted.is_empty() && endpoint.network_id.starts_with(wanted)))
}

/// By name or source, or by its place in the container.
fn has_mount(record: &Record, wanted: &str) -> bool {
    inspect::mount_points(record).iter().any(|mount| {
        let source = if mount.name.is_empty() { &mount.source } else { &mount.name };
        source == wanted || mount.destination == wanted
    })
}

/// Docker gives these mistakes no status of their own.
fn port_range(key: &str, text: &str) -> Result<Ports> {
    if text.contains(':') {
        return Err(Error::internal(format!("filter for '{key}' should not contain ':': {text}")));
    }
    let failed = |why: String| Error::internal(format!("error while looking up for {key} {text}: {why}"));
    if text.is_empty() {
        return Err(failed("invalid port range: value is empty".to_owned()));
    }
    let (range, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    let number = |which: &str, digits: &str| {
        let why = match digits.parse::<u64>() {
            _ if digits.is_empty() => "value is empty",
            Ok(number @ 0..=0xffff) => return Ok(u16::try_from(number).unwrap_or(u16::MAX)),
            Ok(_) => "value out of range",
            Err(_) => "invalid syntax",
        };
        Err(failed(format!("invalid {which} port '{digits}': {why}")))
    };
    let (start, end) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (number("start", start)?, number("end", end)?);
    if last < first {
        return Err(failed(format!("invalid port range: {text}")));
    }
    Ok((first..=last, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_regular_expressions() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).fits(name);
        assert!(fits("web", "web-1"));
        assert!(fits("^web-1$", "web-1"));
        assert!(fits("^/web-1$", "web-1"));
        assert!(fits("^(a|web).*[0-9]$", "web-1"));
        assert!(!fits("^web-1$", "web-10"));
        assert!(!fits("^eb", "web"));
        assert!(!fits("[", "web"), "what is no expression fits nothing");
    }

    #[test]
    fn texts_are_dockers() {
        let said = |result: Result<Ports>| result.unwrap_err().text();
        assert_eq!(said(port_range("publish", "1:2")), "filter for 'publish' should not contain ':': 1:2");
        assert_eq!(
            said(port_range("expose", "x")),
            "error while looking up for expose x: invalid start port 'x': invalid syntax"
        );
        assert_eq!(port_range("expose", "80-90/UDP").unwrap(), (80..=90, "udp".to_owned()));
        assert!(said(port_range("expose", "9-8")).ends_with("invalid port range: 9-8"));
        assert!(said(port_range("expose", "9-99999")).ends_with("invalid end port '99999': value out of range"));
        assert_eq!(
            exit_code("x").unwrap_err().text(),
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        let filters: Filters = [("health", "fine")].into_iter().collect();
        assert_eq!(
            one_of(&filters, "health", "health", &HEALTHS).unwrap_err().text(),
            "invalid filter 'health=fine': invalid value for health (fine): must be one of none, starting, healthy, unhealthy"
        );
    }
}
