//! Filters of `ps`.

use ferry_api::filters::Filters;

use super::list::{ListOptions, labels};
use super::record::{MountKind, Record};
use super::{Containers, ports};
use crate::error::{Error, Result};

const KNOWN: [&str; 16] = [
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
    "label!",
];
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// A parsed filter.
pub(super) struct ListFilter<'a> {
    filters: &'a Filters,
    all: bool,
    created_before_ns: Option<i64>,
    created_after_ns: Option<i64>,
    exit_codes: Vec<i32>,
    ancestors: Option<Vec<String>>,
    networks: Vec<String>,
}

impl<'a> ListFilter<'a> {
    pub(super) fn new(containers: &Containers, options: &'a ListOptions) -> Result<Self> {
        let filters = &options.filters;
        filters.validate(&KNOWN)?;
        for state in filters.get("status") {
            if !STATES.contains(&state) {
                return Err(Error::invalid(format!(
                    "invalid filter 'status={state}': invalid value for state ({state}): must be one of \
                     created, running, paused, restarting, removing, exited, dead"
                )));
            }
        }
        for health in filters.get("health") {
            if !["starting", "healthy", "unhealthy", "none"].contains(&health) {
                return Err(Error::invalid(format!("invalid filter 'health={health}'")));
            }
        }
        if let Some(value) = filters.get("is-task").next()
            && !["true", "false", "1", "0"].contains(&value)
        {
            return Err(Error::invalid(format!("invalid filter 'is-task=[{value}]'")));
        }
        let mut exit_codes = Vec::new();
        for code in filters.get("exited") {
            exit_codes.push(code.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={code}'")))?);
        }
        let created = |name: &str| match filters.get(name).next() {
            Some(reference) => {
                containers.find(reference).map(|found| Some(found.with_record(|record| record.created_ns)))
            }
            None => Ok(None),
        };
        let ancestors = filters.contains("ancestor").then(|| {
            let found = filters.get("ancestor").filter_map(|name| containers.inner.images.id_of(name));
            found.map(|id| id.to_string()).collect()
        });
        let networks = filters
            .get("network")
            .map(|name| containers.inner.networks.id_of(name).unwrap_or_else(|_| name.to_owned()))
            .collect();
        let named_state = filters.contains("status") || filters.contains("exited");
        Ok(Self {
            filters,
            all: options.all || options.limit.is_some_and(|limit| limit > 0) || named_state,
            created_before_ns: created("before")?,
            created_after_ns: created("since")?,
            exit_codes,
            ancestors,
            networks,
        })
    }

    pub(super) fn keeps(&self, record: &Record) -> bool {
        use crate::filter::any_of;
        let filters = self.filters;
        let is_task = filters.get("is-task").next().is_some_and(|value| matches!(value, "true" | "1"));
        (self.all || record.status.counts_as_running())
            && !is_task
            && self.created_before_ns.is_none_or(|time| record.created_ns < time)
            && self.created_after_ns.is_none_or(|time| record.created_ns > time)
            && (self.exit_codes.is_empty() || self.has_exit_code(record))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image_id.to_string()))
            && (self.networks.is_empty()
                || record.endpoints.values().any(|endpoint| self.networks.contains(&endpoint.network_id)))
            && any_of(filters, "status", |state| state == record.status.as_str())
            && any_of(filters, "health", |health| health == "none")
            && any_of(filters, "id", |id| record.id.starts_with(id))
            && any_of(filters, "name", |pattern| name_fits(&record.name, pattern))
            && any_of(filters, "isolation", |isolation| isolation == "default" || isolation.is_empty())
            && any_of(filters, "volume", |volume| has_mount(record, volume))
            && any_of(filters, "publish", |port| has_port(record, port, true))
            && any_of(filters, "expose", |port| has_port(record, port, false))
            && filters.matches_labels("label", &labels(record))
            && crate::filter::no_labels(filters, "label!", &labels(record))
    }

    fn has_exit_code(&self, record: &Record) -> bool {
        record.has_started && !record.status.counts_as_running() && self.exit_codes.contains(&record.exit_code)
    }
}

/// Docker takes a regular expression over the name with and without its slash; `^`, `$` and plain text are what is used.
fn name_fits(name: &str, pattern: &str) -> bool {
    let with_slash = format!("/{name}");
    let anchored_start = pattern.strip_prefix('^');
    let body = anchored_start.unwrap_or(pattern);
    let anchored_end = body.strip_suffix('$');
    let body = anchored_end.unwrap_or(body);
    [name, with_slash.as_str()].iter().any(|name| match (anchored_start.is_some(), anchored_end.is_some()) {
        (true, true) => *name == body,
        (true, false) => name.starts_with(body),
        (false, true) => name.ends_with(body),
        (false, false) => name.contains(body),
    })
}

fn has_mount(record: &Record, wanted: &str) -> bool {
    record.mounts.iter().any(|mount| {
        let source = match &mount.kind {
            MountKind::Bind { source, .. } => source == wanted,
            MountKind::Volume { name, .. } => name == wanted,
            MountKind::Tmpfs { .. } => false,
        };
        source || mount.destination == wanted
    })
}

fn has_port(record: &Record, wanted: &str, published: bool) -> bool {
    let Ok((range, protocol)) = ports::parse_port_key(wanted) else { return false };
    if published {
        return record.published.iter().any(|port| range.contains(&port.container_port) && port.protocol == protocol);
    }
    record
        .config
        .exposed_ports
        .keys()
        .filter_map(|key| ports::parse_port_key(key).ok())
        .any(|(exposed, kind)| kind == protocol && exposed.start() <= range.end() && range.start() <= exposed.end())
}

#[cfg(test)]
mod tests {
    use super::name_fits;

    #[test]
    fn names_match_by_part_or_anchored() {
        assert!(name_fits("web-1", "web"));
        assert!(name_fits("web-1", "^web-1$"));
        assert!(name_fits("web-1", "^/web-1$"));
        assert!(!name_fits("web-10", "^web-1$"));
        assert!(!name_fits("web", "^eb"));
    }
}
