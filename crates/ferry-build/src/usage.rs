//! What the builder keeps, and removing it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ferry_api::filters::Filters;
use ferry_api::system::{BuildCache, Usage};

use crate::builder::Builder;
use crate::clock::{now_ns, rfc3339};
use crate::failure::{Failure, Result, blocking};

/// Filters that records are chosen by, as moby has them.
const FILTERS: [&str; 11] =
    ["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!"];

/// What is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Also what is no part of an unused build alone: everything but what is in use.
    pub all: bool,
    /// Only what these choose.
    pub filters: Filters,
    /// So many bytes may stay.
    pub reserved_bytes: i64,
    /// No more than so many bytes may stay.
    pub max_used_bytes: i64,
    /// So many bytes shall be free on the disk.
    pub min_free_bytes: i64,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What it was.
    pub records: Vec<BuildCache>,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// One thing that the builder keeps.
struct Kept {
    shown: BuildCache,
    used_ns: i64,
    is_private: bool,
    place: Place,
}

enum Place {
    Record(String),
    Mount(PathBuf),
    Context(String),
}

impl PruneOptions {
    /// Tells whether it can be carried out.
    ///
    /// # Errors
    /// InvalidArgument for a filter.
    pub fn check(&self) -> Result<()> {
        Chosen::parse(&self.filters).map(drop)
    }
}

impl Builder {
    /// Lists what the builder keeps.
    ///
    /// # Errors
    /// InvalidArgument for a filter; when it cannot be read.
    pub async fn disk_usage(&self, filters: Filters) -> Result<Vec<BuildCache>> {
        let builder = self.clone();
        blocking(move || {
            let chosen = Chosen::parse(&filters)?;
            Ok(builder.kept()?.into_iter().filter(|kept| chosen.takes(kept)).map(|kept| kept.shown).collect())
        })
        .await
    }

    /// Sums up what the builder keeps.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn usage(&self) -> Result<Usage<BuildCache>> {
        let items = self.disk_usage(Filters::default()).await?;
        let sum = |takes: &dyn Fn(&&BuildCache) -> bool| items.iter().filter(takes).map(|item| item.size).sum();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Usage {
            active_count: count(items.iter().filter(|item| item.in_use).count()),
            reclaimable: sum(&|item| !item.in_use && !item.shared),
            total_count: count(items.len()),
            total_size: sum(&|item| !item.shared),
            items,
        })
    }

    /// Removes what nobody needs.
    ///
    /// # Errors
    /// InvalidArgument for a filter; when it cannot be read.
    pub async fn prune(&self, options: PruneOptions) -> Result<Pruned> {
        let builder = self.clone();
        // Once begun it is finished.
        let task = tokio::spawn(async move { blocking(move || builder.prune_now(&options, true)).await });
        task.await.unwrap_or_else(|error| Err(Failure::internal(format!("pruning panicked: {error}"))))
    }

    /// As [`Self::prune`], but for nobody: where nothing is removed nothing is looked for.
    pub(crate) async fn prune_for_itself(&self, options: PruneOptions) -> Result<Pruned> {
        let builder = self.clone();
        blocking(move || builder.prune_now(&options, false)).await
    }

    fn prune_now(&self, options: &PruneOptions, always_collects: bool) -> Result<Pruned> {
        let chosen = Chosen::parse(&options.filters)?;
        let mut kept = self.kept()?;
        let mut total: i64 = kept.iter().map(|kept| kept.shown.size).sum();
        // What was not used for the longest time goes first.
        kept.sort_by_key(|kept| kept.used_ns);
        let limit = stays(options, total, || free_bytes(self.ground().engine.workshop.folder()));
        let mut pruned = Pruned::default();
        let mut forgotten = Vec::new();
        for one in kept {
            if one.shown.in_use || !chosen.takes(&one) || (!options.all && is_of_every_build(&one)) {
                continue;
            }
            if limit.is_some_and(|limit| total <= limit) {
                break;
            }
            match &one.place {
                Place::Record(id) => forgotten.push(id.clone()),
                Place::Mount(folder) => {
                    if !self.ground().cache_mounts.remove(folder) {
                        continue;
                    }
                    pruned.bytes += u64::try_from(one.shown.size).unwrap_or_default();
                }
                Place::Context(id) => {
                    self.ground().contexts.remove(id);
                    pruned.bytes += u64::try_from(one.shown.size).unwrap_or_default();
                }
            }
            total -= one.shown.size;
            pruned.records.push(one.shown);
        }
        if !always_collects && pruned.records.is_empty() {
            return Ok(pruned);
        }
        self.ground().cache.forget(&forgotten);
        pruned.bytes += self.ground().engine.images.collect_after_builds();
        Ok(pruned)
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        let cache = &self.ground().cache;
        let mut kept = Vec::new();
        for record in cache.records()? {
            kept.push(Kept {
                shown: BuildCache {
                    id: record.id.clone(),
                    parents: Vec::new(),
                    kind: record.kind.clone(),
                    description: record.description.clone(),
                    in_use: cache.is_in_use(&record.id),
                    shared: false,
                    size: i64::try_from(record.size_bytes).unwrap_or(i64::MAX),
                    created_at: rfc3339(record.created_ns),
                    last_used_at: Some(rfc3339(record.used_ns)),
                    usage_count: record.uses,
                },
                used_ns: record.used_ns,
                is_private: false,
                place: Place::Record(record.id),
            });
        }
        let workshop = &self.ground().engine.workshop;
        for (record, folder, in_use) in self.ground().cache_mounts.list(workshop.folder()) {
            kept.push(Kept {
                shown: BuildCache {
                    id: record.name.clone(),
                    parents: Vec::new(),
                    kind: "exec.cachemount".to_owned(),
                    description: format!("{} with id \"{}\"", record.description, record.id),
                    in_use,
                    shared: false,
                    size: i64::try_from(workshop.folder_bytes(&folder.join("data"))).unwrap_or(i64::MAX),
                    created_at: rfc3339(record.created_ns),
                    last_used_at: Some(rfc3339(record.used_ns)),
                    usage_count: record.uses,
                },
                used_ns: record.used_ns,
                is_private: record.private,
                place: Place::Mount(folder),
            });
        }
        for (context, in_use) in self.ground().contexts.list() {
            kept.push(Kept {
                shown: BuildCache {
                    id: context.id.clone(),
                    parents: Vec::new(),
                    kind: "source.local".to_owned(),
                    description: format!("local source for {}", context.name),
                    in_use,
                    shared: false,
                    size: i64::try_from(workshop.folder_bytes(&context.path())).unwrap_or(i64::MAX),
                    created_at: rfc3339(context.created_ns),
                    last_used_at: Some(rfc3339(context.used_ns)),
                    usage_count: context.uses,
                },
                used_ns: context.used_ns,
                is_private: true,
                place: Place::Context(context.id),
            });
        }
        Ok(kept)
    }
}

/// What a prune without `all` leaves: BuildKit's internal and frontend records.
fn is_of_every_build(kept: &Kept) -> bool {
    matches!(kept.shown.kind.as_str(), "internal" | "frontend")
}

/// Down to how many bytes is removed; `None` removes everything.
fn stays(options: &PruneOptions, total: i64, free: impl FnOnce() -> i64) -> Option<i64> {
    let (reserved, most, wanted_free) = (options.reserved_bytes, options.max_used_bytes, options.min_free_bytes);
    if reserved <= 0 && most <= 0 && wanted_free <= 0 {
        return None;
    }
    let mut limit = if most > 0 { most } else { i64::MAX };
    if wanted_free > 0 {
        limit = limit.min(total - (wanted_free - free()).max(0));
    }
    if most <= 0 && wanted_free <= 0 {
        limit = reserved;
    }
    Some(limit.max(reserved))
}

fn free_bytes(folder: &std::path::Path) -> i64 {
    rustix::fs::statvfs(folder)
        .map(|found| i64::try_from(found.f_bavail.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX))
        .unwrap_or(i64::MAX)
}

/// Filters, read.
struct Chosen {
    unused_since_ns: Option<i64>,
    fields: BTreeMap<String, Vec<String>>,
}

impl Chosen {
    fn parse(filters: &Filters) -> Result<Self> {
        filters.validate(&FILTERS).map_err(|error| Failure::invalid(error.to_string()))?;
        let mut fields = BTreeMap::new();
        for name in FILTERS {
            let values: Vec<String> = filters.get(name).map(str::to_owned).collect();
            if !values.is_empty() {
                fields.insert(name.to_owned(), values);
            }
        }
        let ages: Vec<String> =
            ["until", "unused-for"].iter().filter_map(|name| fields.remove(*name)).flatten().collect();
        let unused_since_ns = match ages.as_slice() {
            [] => None,
            [age] => Some(
                ferry_engine::images::parse_moment(age, now_ns())
                    .ok_or_else(|| Failure::invalid(format!("invalid filter 'until=[{age}]'")))?,
            ),
            _ => return Err(Failure::invalid("filters expect only one value")),
        };
        Ok(Self { unused_since_ns, fields })
    }

    fn takes(&self, kept: &Kept) -> bool {
        if self.unused_since_ns.is_some_and(|since| kept.used_ns > since) {
            return false;
        }
        self.fields.iter().all(|(name, values)| values.iter().any(|value| takes_value(kept, name, value)))
    }
}

fn takes_value(kept: &Kept, name: &str, value: &str) -> bool {
    let is = |flag: bool| match value.to_lowercase().as_str() {
        "" | "1" | "true" | "t" => flag,
        _ => !flag,
    };
    match name {
        "id" => kept.shown.id.starts_with(value),
        "parent" => kept.shown.parents.iter().any(|parent| parent == value),
        "type" => kept.shown.kind == value,
        "description" => kept.shown.description.contains(value),
        "inuse" => is(kept.shown.in_use),
        "shared" => is(kept.shown.shared),
        "private" => is(kept.is_private || !kept.shown.shared),
        // `system prune` passes its labels on; what is cached has none.
        "label!" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bytes_that_stay() {
        let options = |reserved, most, free| PruneOptions {
            reserved_bytes: reserved,
            max_used_bytes: most,
            min_free_bytes: free,
            ..PruneOptions::default()
        };
        for (order, total, free, expected) in [
            (options(0, 0, 0), 100, 0, None),
            (options(10, 0, 0), 100, 0, Some(10)),
            (options(0, 50, 0), 100, 0, Some(50)),
            (options(60, 50, 0), 100, 0, Some(60)),
            (options(0, 0, 30), 100, 10, Some(80)),
            (options(0, 0, 30), 100, 40, Some(100)),
        ] {
            assert_eq!(stays(&order, total, || free), expected, "{order:?}");
        }
    }
}
