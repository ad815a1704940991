//! `GET /containers/json`.

use std::collections::BTreeMap;

use ferry_api::container::{NetworkSettingsSummary, Summary, SummaryHostConfig};
use ferry_api::filters::Filters;
use ferry_api::span::in_words;

use super::filter::ListFilter;
use super::record::Record;
use super::state::Status;
use super::{Containers, health, inspect, networking, ports};
use crate::clock;
use crate::error::Result;

/// Which containers.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, of all.
    pub limit: Option<i64>,
    /// With sizes.
    pub size: bool,
    /// `status`, `name`, `label`, ...
    pub filters: Filters,
}

impl Containers {
    /// Lists containers, the newest first.
    ///
    /// API: `GET /containers/json`
    ///
    /// # Errors
    /// InvalidArgument for a filter.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let filter = ListFilter::new(self, &options)?;
        let mut records: Vec<Record> = self.all().iter().map(|container| container.snapshot()).collect();
        records.retain(|record| !record.build_step);
        records.sort_by_key(|record| std::cmp::Reverse(record.created_ns));
        let limit = options.limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
        let kept = records.into_iter().filter(|record| filter.keeps(record)).take(limit.unwrap_or(usize::MAX));
        let mut by_links = self.names_by_links();
        let mut list = Vec::new();
        for record in kept {
            let mut summary = self.summary(&record);
            summary.names.extend(by_links.remove(&record.id).unwrap_or_default());
            if options.size {
                let (writable, whole) = self.sizes(&record).await?;
                summary.size_rw = writable;
                summary.size_root_fs = whole;
            }
            list.push(summary);
        }
        Ok(list)
    }

    fn summary(&self, record: &Record) -> Summary {
        Summary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)],
            image: self.image_name(record),
            image_id: record.image_id.to_string(),
            image_manifest_descriptor: record.image_manifest.clone(),
            command: command(record),
            created: record.created_ns / 1_000_000_000,
            ports: ports::port_list(record),
            labels: record.config.labels.clone().unwrap_or_default(),
            state: record.status.as_str().to_owned(),
            status: status_text(record, clock::now_ns()),
            host_config: SummaryHostConfig {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            health: Some(health::summary(record.life.health.as_ref())),
            network_settings: NetworkSettingsSummary { networks: networking::shown(record) },
            mounts: inspect::mount_points(record),
            ..Summary::default()
        }
    }

    /// As asked at create while that name still means the same image; the id otherwise.
    fn image_name(&self, record: &Record) -> String {
        match self.inner.images.id_of(&record.image_reference) {
            Some(id) if id == record.image_id => record.image_reference.clone(),
            _ => record.image_id.to_string(),
        }
    }
}

fn command(record: &Record) -> String {
    let quoted = |argument: &String| {
        let plain = !argument.is_empty() && !argument.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"');
        if plain { argument.clone() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
    };
    let argv = record.argv();
    argv.iter()
        .enumerate()
        .map(|(index, argument)| if index == 0 { argument.clone() } else { quoted(argument) })
        .collect::<Vec<_>>()
        .join(" ")
}

/// `Up 5 seconds (Paused)`, `Exited (0) 2 minutes ago`.
pub(super) fn status_text(record: &Record, now_ns: i64) -> String {
    let since = |time_ns: i64| in_words((now_ns - time_ns).max(0) / 1_000_000_000);
    match record.status {
        Status::Running => match &record.life.health {
            Some(health) => format!("Up {} ({})", since(record.started_ns), health.status.in_list()),
            None => format!("Up {}", since(record.started_ns)),
        },
        Status::Paused => format!("Up {} (Paused)", since(record.started_ns)),
        Status::Restarting => format!("Restarting ({}) {} ago", record.exit_code, since(record.finished_ns)),
        Status::Created => "Created".to_owned(),
        Status::Exited if record.finished_ns == 0 => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", record.exit_code, since(record.finished_ns)),
    }
}

/// Labels of a record for filters.
pub(super) fn labels(record: &Record) -> BTreeMap<String, String> {
    record.config.labels.clone().unwrap_or_default()
}
