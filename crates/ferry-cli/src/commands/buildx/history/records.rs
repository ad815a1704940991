//! Records of builds: which of them are meant, and what they say.

use std::collections::BTreeMap;

use ferry_api::build::{Event, LogPiece, StatusLine, VertexState, Warning};
use ferry_buildkit_proto::messages::Timestamp;
use ferry_buildkit_proto::messages::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, StatusResponse,
};
use ferry_spec::digest::Digest;

use super::super::control::{Control, next};
use super::super::failed;
use crate::failure::Result;
use crate::flags::{go_quote, parse_duration};

/// Records that are asked for at most, as by buildx.
const LIMIT: i32 = 50;

/// A moment in nanoseconds of Unix time.
pub(super) fn ns(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// When a build began.
pub(super) fn began_ns(record: &BuildHistoryRecord) -> i64 {
    record.created_at.map(ns).unwrap_or_default()
}

/// Whether a build has ended.
pub(super) fn is_over(record: &BuildHistoryRecord) -> bool {
    record.completed_at.is_some()
}

/// How long a build took; one that goes on, until now.
pub(super) fn duration_ns(record: &BuildHistoryRecord) -> i64 {
    let now = || i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    record.completed_at.map_or_else(now, ns) - began_ns(record)
}

/// A span as records show it.
pub(super) fn duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) as f64 / 1e9;
    match seconds {
        0.0..60.0 => format!("{seconds:.1}s"),
        _ => format!("{}m {:2}s", seconds as i64 / 60, seconds as i64 % 60),
    }
}

/// The records that fit, the newest first. `^N` is the N-th before the newest.
pub(super) async fn query(control: &Control, reference: &str, filters: &[String]) -> Result<Vec<BuildHistoryRecord>> {
    let offset = match reference.strip_prefix('^') {
        Some(text) => {
            let read = text.parse::<usize>();
            Some(read.map_err(|_| {
                failed(format!(
                    "invalid offset {}: strconv.Atoi: parsing {}: invalid syntax",
                    go_quote(reference),
                    go_quote(text)
                ))
            })?)
        }
        None => None,
    };
    let filters = filters.iter().map(|text| Filter::read(text)).collect::<Result<Vec<_>>>()?;
    let request = BuildHistoryRequest {
        early_exit: true,
        reference: if offset.is_some() { String::new() } else { reference.to_owned() },
        limit: LIMIT,
        ..BuildHistoryRequest::default()
    };
    let mut replies = control.listen("ListenBuildHistory", &request).await?;
    let mut records = Vec::new();
    while let Some(event) = next::<BuildHistoryEvent>(&mut replies).await? {
        let is_there = event.kind != BuildHistoryEventType::Deleted as i32;
        records.extend(event.record.filter(|record| is_there && filters.iter().all(|filter| filter.takes(record))));
    }
    records.sort_by_key(|record| std::cmp::Reverse(began_ns(record)));
    match offset {
        None => Ok(records),
        Some(offset) if offset < records.len() => Ok(vec![records.swap_remove(offset)]),
        Some(offset) => {
            Err(failed(format!("no completed build found with offset {}", offset.saturating_sub(records.len()))))
        }
    }
}

/// The one record that is meant: the newest when none is named.
pub(super) async fn the_record(control: &Control, reference: &str) -> Result<BuildHistoryRecord> {
    let found = query(control, reference, &[]).await?.into_iter().next();
    found.ok_or_else(|| match reference {
        "" => failed("no records found"),
        other => failed(format!("no record found for ref {}", go_quote(other))),
    })
}

/// What a build is called, by its options.
pub(super) fn name_of(options: &BTreeMap<String, String>) -> String {
    let option = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
    if let Some(name) = option("build-arg:BUILDKIT_BUILD_NAME") {
        return name.to_owned();
    }
    let context = option("context").or_else(|| option("vcs:localdir:context").filter(|path| *path != "."));
    let file =
        option("filename").filter(|name| *name != "Dockerfile").map(|name| match option("vcs:localdir:dockerfile") {
            Some(folder) if folder != "." => format!("{folder}/{name}"),
            _ => name.to_owned(),
        });
    let file = file.or_else(|| option("vcs:localdir:dockerfile").filter(|path| *path != ".").map(str::to_owned));
    let named = match (context, &file) {
        (Some(context), _) => context.to_owned(),
        (None, Some(file)) => file.trim_end_matches("/Dockerfile").to_owned(),
        (None, None) => String::new(),
    };
    match (named.as_str(), option("target")) {
        ("", Some(target)) => target.to_owned(),
        (named, Some(target)) => format!("{named} ({target})"),
        ("", None) => option("vcs:source").unwrap_or_default().to_owned(),
        (named, None) => named.to_owned(),
    }
}

/// A condition, such as `status=error`.
struct Filter {
    key: String,
    sign: &'static str,
    value: String,
    /// The value as a number, where it is one: seconds of Unix time, or nanoseconds.
    number: i64,
}

impl Filter {
    fn read(text: &str) -> Result<Self> {
        let signs = ["!=", "=", "<=", "<", ">=", ">"];
        let found = signs.iter().filter_map(|sign| Some((text.find(sign)?, *sign)));
        // The first sign, and of those at one place the longer one.
        let first = found.min_by_key(|(at, sign)| (*at, std::cmp::Reverse(sign.len())));
        let (at, sign) = first.ok_or_else(|| failed(format!("invalid filter {}", go_quote(text))))?;
        let (key, value) = (&text[..at], &text[at + sign.len()..]);
        let number = match (key, sign) {
            ("ref" | "repository" | "status", "=" | "!=") => 0,
            ("ref" | "repository" | "status", _) => {
                return Err(failed(format!("invalid separator for {}, expected = or !=", go_quote(text))));
            }
            ("startedAt" | "completedAt" | "duration", "=" | "!=") => {
                return Err(failed(format!("invalid separator for {}, expected <=, <, >= or >", go_quote(text))));
            }
            ("duration", _) => parse_duration(value).map_err(|_| failed(format!("invalid duration {value}")))?,
            ("startedAt" | "completedAt", _) => match parse_duration(value) {
                Ok(span) => jiff::Timestamp::now().as_second() - span / 1_000_000_000,
                Err(_) => {
                    let time = value.parse::<jiff::Timestamp>();
                    time.map_err(|_| failed(format!("invalid time {value}")))?.as_second()
                }
            },
            _ => return Err(failed(format!("unsupported filter {}", go_quote(text)))),
        };
        Ok(Self { key: key.to_owned(), sign, value: value.to_owned(), number })
    }

    fn takes(&self, record: &BuildHistoryRecord) -> bool {
        let option = |name: &str| record.frontend_attrs.get(name).cloned().unwrap_or_default();
        let seconds = |time: Option<Timestamp>| time.map(|time| time.seconds).unwrap_or_default();
        let text = match self.key.as_str() {
            "ref" => record.reference.clone(),
            "repository" => option("vcs:source"),
            "status" => status_word(record).to_owned(),
            "startedAt" => return self.compares(seconds(record.created_at)),
            "completedAt" => return self.compares(seconds(record.completed_at)),
            _ => return self.compares(if is_over(record) { duration_ns(record) } else { 0 }),
        };
        match self.sign {
            "!=" => text != self.value,
            _ if self.key == "status" => text == self.value,
            _ => text.contains(&self.value),
        }
    }

    fn compares(&self, number: i64) -> bool {
        match self.sign {
            ">=" => number >= self.number,
            "<=" => number <= self.number,
            ">" => number > self.number,
            _ => number < self.number,
        }
    }
}

fn status_word(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (Some(_), None) => "completed",
        (Some(_), Some(error)) if error.message.contains("context canceled") => "canceled",
        (Some(_), Some(_)) => "error",
    }
}

/// What a piece of a build's status tells, in ferry's own words.
pub(super) fn events(status: StatusResponse) -> Vec<Event> {
    let digest = |text: &str| Digest::parse(text).ok();
    let mut events = Vec::new();
    for vertex in status.vertexes {
        let Some(known) = digest(&vertex.digest) else { continue };
        events.push(Event::Vertex(VertexState {
            digest: known,
            inputs: vertex.inputs.iter().filter_map(|input| digest(input)).collect(),
            name: vertex.name,
            started_ns: vertex.started.map(ns),
            completed_ns: vertex.completed.map(ns),
            cached: vertex.cached,
            error: vertex.error,
            group: vertex.progress_group.map(|group| group.id),
        }));
    }
    for line in status.statuses {
        let Some(vertex) = digest(&line.vertex) else { continue };
        events.push(Event::Status(StatusLine {
            vertex,
            id: line.id,
            current: line.current,
            total: line.total,
            started_ns: line.started.map(ns),
            completed_ns: line.completed.map(ns),
            time_ns: line.timestamp.map(ns).unwrap_or_default(),
        }));
    }
    for log in status.logs {
        let Some(vertex) = digest(&log.vertex) else { continue };
        let stream = u8::try_from(log.stream).unwrap_or(1);
        let time_ns = log.timestamp.map(ns).unwrap_or_default();
        events.push(Event::Log(LogPiece { vertex, stream, data: log.msg, time_ns }));
    }
    for warning in status.warnings {
        let Some(vertex) = digest(&warning.vertex) else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let info = warning.info.unwrap_or_default();
        events.push(Event::Warning(Warning {
            vertex,
            short: text(&warning.short),
            detail: warning.detail.iter().map(|line| text(line)).collect(),
            url: warning.url,
            file: info.filename,
            lines: Vec::new(),
            source: info.data,
        }));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seconds: i64, error: Option<&str>) -> BuildHistoryRecord {
        BuildHistoryRecord {
            reference: "abc".to_owned(),
            created_at: Some(Timestamp { seconds: 1000, nanos: 0 }),
            completed_at: Some(Timestamp { seconds: 1000 + seconds, nanos: 0 }),
            error: error.map(|text| ferry_buildkit_proto::messages::RpcStatus {
                message: text.to_owned(),
                ..Default::default()
            }),
            ..BuildHistoryRecord::default()
        }
    }

    #[test]
    fn filters_are_those_of_buildx() {
        let takes = |text: &str, record: &BuildHistoryRecord| Filter::read(text).unwrap().takes(record);
        assert!(takes("status=error", &record(5, Some("x"))) && !takes("status!=error", &record(5, Some("x"))));
        assert!(takes("status=canceled", &record(5, Some("context canceled"))));
        assert!(takes("ref=b", &record(5, None)) && takes("ref!=b", &record(5, None)));
        assert!(takes("duration>=5s", &record(5, None)) && !takes("duration<5s", &record(5, None)));
        assert!(takes("completedAt<1h", &record(5, None)));
        for (text, error) in [
            ("status", "invalid filter \"status\""),
            ("status>x", "invalid separator for \"status>x\", expected = or !="),
            ("duration=5s", "invalid separator for \"duration=5s\", expected <=, <, >= or >"),
            ("duration<x", "invalid duration x"),
            ("name=x", "unsupported filter \"name=x\""),
        ] {
            assert_eq!(Filter::read(text).err().unwrap().message, format!("ERROR: {error}"));
        }
    }

    #[test]
    fn builds_are_called_by_what_they_build() {
        let name = |pairs: &[(&str, &str)]| {
            name_of(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(name(&[("vcs:localdir:context", "app"), ("target", "t")]), "app (t)");
        assert_eq!(name(&[("target", "t")]), "t");
        assert_eq!(name(&[("context", "https://x/y.git")]), "https://x/y.git");
        assert_eq!(name(&[("filename", "Other")]), "Other");
        assert_eq!(name(&[("build-arg:BUILDKIT_BUILD_NAME", "n"), ("target", "t")]), "n");
        assert_eq!((duration(1_250_000_000).as_str(), duration(61_000_000_000).as_str()), ("1.2s", "1m  1s"));
    }
}
