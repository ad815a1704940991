//! `POST /containers/prune`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_api::container::PruneReport;
use ferry_api::filters::Filters;

use super::record::Record;
use super::remove::RemoveOptions;
use super::{Containers, list};
use crate::clock;
use crate::error::{Error, Result};
use crate::images::parse_moment;

const FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Containers {
    /// Removes every container that does not run and fits the filters.
    ///
    /// API: `POST /containers/prune`
    ///
    /// # Errors
    /// InvalidArgument for a filter; Conflict while another prune runs.
    pub async fn prune(&self, filters: Filters) -> Result<PruneReport> {
        let containers = self.clone();
        // What was begun is finished and told in an event, whether the client stays or not.
        crate::finish(async move { containers.prune_now(&filters).await }).await
    }

    async fn prune_now(&self, filters: &Filters) -> Result<PruneReport> {
        let _running = Running::begin(&self.inner.pruning)?;
        filters.validate(&FILTERS)?;
        let until_ns = until(filters, clock::now_ns())?;
        let mut report = PruneReport::default();
        for container in self.all() {
            let record = container.snapshot();
            if record.build_step || record.status.counts_as_running() || !fits(filters, until_ns, &record) {
                continue;
            }
            // Sizes are for information only.
            let (size_bytes, _) = self.sizes(&record).await.unwrap_or_default();
            match self.remove_found(&container, RemoveOptions::default()).await {
                Ok(()) => {
                    report.space_reclaimed += u64::try_from(size_bytes).unwrap_or(0);
                    report.containers_deleted.get_or_insert_default().push(container.id.clone());
                }
                Err(error) => tracing::warn!(container = %record.name, error = %error.text(), "not pruned"),
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        self.inner.events.publish("container", "prune", "", attributes);
        Ok(report)
    }
}

/// One prune at a time.
struct Running<'a>(&'a AtomicBool);

impl<'a> Running<'a> {
    fn begin(flag: &'a AtomicBool) -> Result<Self> {
        if flag.swap(true, Ordering::Acquire) {
            return Err(Error::conflict("a prune operation is already running"));
        }
        Ok(Self(flag))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn until(filters: &Filters, now_ns: i64) -> Result<Option<i64>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    let moment = parse_moment(text, now_ns);
    moment.map(Some).ok_or_else(|| {
        let why = if text.trim().is_empty() { "value is empty".to_owned() } else { format!("{text:?}") };
        Error::invalid(format!("failed to parse value as time or duration: {why}"))
    })
}

fn fits(filters: &Filters, until_ns: Option<i64>, record: &Record) -> bool {
    let labels = list::labels(record);
    until_ns.is_none_or(|until_ns| record.created_ns <= until_ns)
        && filters.matches_labels("label", &labels)
        && !(filters.contains("label!") && filters.matches_labels("label!", &labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        pairs.iter().copied().collect()
    }

    #[test]
    fn until_is_a_moment_or_a_duration_and_stands_alone() {
        const NOW: i64 = 1_700_000_000_000_000_000;
        assert_eq!(until(&filters(&[]), NOW).unwrap(), None);
        assert_eq!(until(&filters(&[("until", "10m")]), NOW).unwrap(), Some(NOW - 600_000_000_000));
        assert_eq!(until(&filters(&[("until", "1700000000")]), NOW).unwrap(), Some(NOW));
        let twice = until(&filters(&[("until", "1h"), ("until", "2h")]), NOW).unwrap_err();
        assert_eq!(twice.text(), "more than one until filter specified");
        assert!(until(&filters(&[("until", "yesterday")]), NOW).is_err());
    }

    #[test]
    fn one_prune_at_a_time() {
        let flag = AtomicBool::new(false);
        let first = Running::begin(&flag).unwrap();
        assert!(Running::begin(&flag).is_err());
        drop(first);
        assert!(Running::begin(&flag).is_ok());
    }
}
