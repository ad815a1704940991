//! `Control.DiskUsage` and `Control.Prune`: what the builder keeps.

use ferry_api::filters::Filters;
use ferry_api::system::BuildCache;
use ferry_buildkit_proto::grpc::{Call, Status};
use ferry_buildkit_proto::messages::Timestamp;
use ferry_buildkit_proto::messages::control::{DiskUsageRequest, DiskUsageResponse, PruneRequest, UsageRecord};
use std::collections::BTreeMap;

use super::{BuildKit, status_of};
use crate::failure::{Failure, Result};
use crate::usage::PruneOptions;

impl BuildKit {
    pub(super) async fn disk_usage(&self, request: DiskUsageRequest) -> std::result::Result<DiskUsageResponse, Status> {
        let listing = async { self.builder.disk_usage(filters(&request.filter, request.age_limit)?).await };
        let records = listing.await.map_err(|failure| status_of(&failure))?;
        Ok(DiskUsageResponse { record: records.into_iter().map(usage_record).collect() })
    }

    pub(super) async fn prune(&self, mut call: Call) -> std::result::Result<(), Status> {
        let request: PruneRequest = call.requests.only().await?;
        let pruning = async {
            let options = PruneOptions {
                all: request.all,
                filters: filters(&request.filter, request.keep_duration)?,
                reserved_bytes: request.reserved_space,
                max_used_bytes: request.max_used_space,
                min_free_bytes: request.min_free_space,
            };
            self.builder.prune(options).await
        };
        let pruned = pruning.await.map_err(|failure: Failure| status_of(&failure))?;
        for record in pruned.records {
            call.replies.send(&usage_record(record)).await?;
        }
        Ok(())
    }
}

fn usage_record(record: BuildCache) -> UsageRecord {
    let time = |text: &str| {
        let time: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok().map(Timestamp::of_ns)
    };
    UsageRecord {
        mutable: record.kind == "exec.cachemount",
        in_use: record.in_use,
        size: record.size,
        created_at: time(&record.created_at),
        last_used_at: record.last_used_at.as_deref().and_then(time),
        usage_count: record.usage_count,
        description: record.description,
        record_type: record.kind,
        shared: record.shared,
        parents: record.parents,
        id: record.id,
    }
}

/// Filters in containerd's words: conditions with commas between them must all hold; several such texts are not understood.
fn filters(texts: &[String], keep_ns: i64) -> Result<Filters> {
    let texts: Vec<&String> = texts.iter().filter(|text| !text.is_empty()).collect();
    let conditions = match texts.as_slice() {
        [] => "",
        [one] => one.as_str(),
        _ => return Err(Failure::not_implemented("several filters of which one must hold")),
    };
    let mut fields: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for condition in conditions.split(',').filter(|condition| !condition.is_empty()) {
        let operator = ["==", "~=", "="].iter().find_map(|sign| condition.split_once(*sign));
        let (name, value) = operator.unwrap_or((condition, ""));
        fields.entry(name.trim().to_owned()).or_default().insert(value.trim_matches('"').to_owned(), true);
    }
    if keep_ns > 0 {
        let age = format!("{}s", keep_ns / 1_000_000_000);
        fields.entry("until".to_owned()).or_default().insert(age, true);
    }
    let json = serde_json::to_string(&fields).map_err(|error| Failure::internal(error.to_string()))?;
    Filters::parse(&json).map_err(|error| Failure::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_in_the_words_of_containerd() {
        let filters = filters(&["type==regular,id~=abc,inuse".to_owned()], 3_600_000_000_000).unwrap();
        for (name, value) in [("type", "regular"), ("id", "abc"), ("inuse", ""), ("until", "3600s")] {
            assert_eq!(filters.get(name).collect::<Vec<_>>(), [value], "{name}");
        }
        assert!(super::filters(&["a".to_owned(), "b".to_owned()], 0).is_err());
        assert_eq!(super::filters(&[String::new()], 0).unwrap().get("id").count(), 0);
    }
}
