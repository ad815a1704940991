//! Keeping what builds leave within bounds: rules that are applied a while after builds began, and after a start.
//!
//! What is not said is as in BuildKit: a share of the disk, and what is easily made again goes before the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferry_api::filters::Filters;

use crate::builder::Builder;
use crate::usage::PruneOptions;

/// So long after a build began the rules are applied; of builds meanwhile nothing comes.
const AFTER_BUILDS: Duration = Duration::from_secs(60);
/// The same after a start.
const AFTER_START: Duration = Duration::from_secs(1);

/// What may stay where nobody says so: hundredths of the disk.
const RESERVED_PERCENT: u64 = 10;
const MAX_USED_PERCENT: u64 = 80;
const MIN_FREE_PERCENT: u64 = 20;
/// The least that may stay of what is easily made again.
const LEAST_TEMPORARY: i64 = 512_000_000;
/// How much of what may stay that may be, in hundredths.
const TEMPORARY_PERCENT: f64 = std::f64::consts::E * std::f64::consts::PI * 1.618_033_988_749_895;

/// When the builder removes what it keeps by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    Off,
    /// By BuildKit's own rules, with these bounds; all zero are shares of the disk.
    Bounds {
        /// So many bytes may stay.
        reserved_bytes: i64,
        /// No more than so many bytes may stay.
        max_used_bytes: i64,
        /// So many bytes shall be free on the disk.
        min_free_bytes: i64,
    },
    /// By these rules, one after the other.
    Rules(Vec<PruneOptions>),
}

impl Default for Policy {
    fn default() -> Self {
        Self::Bounds { reserved_bytes: 0, max_used_bytes: 0, min_free_bytes: 0 }
    }
}

/// What the daemon's configuration says of builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// When the builder removes what it keeps.
    pub policy: Policy,
    /// What steps never get, whoever asks for it.
    pub denied: Denied,
}

/// Rights that no step gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Denied {
    /// The host's network.
    pub host_network: bool,
    /// Every right.
    pub insecure: bool,
    /// Devices of the host.
    pub devices: bool,
}

/// Applies the rules; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Gc {
    policy: Arc<Policy>,
    is_waiting: Arc<AtomicBool>,
}

impl Gc {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), is_waiting: Arc::default() }
    }
}

impl Builder {
    /// Applies the rules of the configuration soon, for a daemon that has just started.
    pub fn collect_after_start(&self) {
        self.collect_after(AFTER_START);
    }

    /// Applies them a while after a build.
    pub(crate) fn collect_after_build(&self) {
        self.collect_after(AFTER_BUILDS);
    }

    fn collect_after(&self, pause: Duration) {
        let gc = self.gc();
        if *gc.policy == Policy::Off || gc.is_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let builder = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            builder.gc().is_waiting.store(false, Ordering::Release);
            builder.collect().await;
        });
    }

    async fn collect(&self) {
        let total = disk_bytes(self.ground().engine.workshop.folder());
        for rule in rules(&self.gc().policy, total) {
            match self.prune_for_itself(rule).await {
                Ok(pruned) if pruned.records.is_empty() => {}
                Ok(pruned) => {
                    let (records, bytes) = (pruned.records.len(), pruned.bytes);
                    tracing::info!(records, bytes, "build cache brought within its bounds");
                }
                Err(failure) => tracing::warn!(error = %failure, "build cache not brought within its bounds"),
            }
        }
    }
}

/// All bytes of the disk; `None` when nobody knows.
fn disk_bytes(folder: &std::path::Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|found| found.f_blocks.saturating_mul(found.f_frsize))
}

fn rules(policy: &Policy, disk_bytes: Option<u64>) -> Vec<PruneOptions> {
    let (reserved, most, free) = match policy {
        Policy::Off => return Vec::new(),
        Policy::Rules(rules) => return rules.clone(),
        Policy::Bounds { reserved_bytes: 0, max_used_bytes: 0, min_free_bytes: 0 } => match disk_bytes {
            Some(total) => {
                let share = |percent| share(total, percent);
                (share(RESERVED_PERCENT), share(MAX_USED_PERCENT), share(MIN_FREE_PERCENT))
            }
            None => (2_000_000_000, 0, 0),
        },
        Policy::Bounds { reserved_bytes, max_used_bytes, min_free_bytes } => {
            (*reserved_bytes, *max_used_bytes, *min_free_bytes)
        }
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a share of bytes, near enough")]
    let temporary = (reserved as f64 / 100. * TEMPORARY_PERCENT).round() as i64;
    let unused_for = |time: &str| {
        let mut filters = Filters::default();
        filters.add("unused-for", time);
        filters
    };
    let of_all = |filters, all| PruneOptions {
        all,
        filters,
        reserved_bytes: reserved,
        max_used_bytes: most,
        min_free_bytes: free,
    };
    let mut easily_made = unused_for("48h");
    for kind in ["source.local", "exec.cachemount", "source.git.checkout"] {
        easily_made.add("type", kind);
    }
    vec![
        PruneOptions {
            filters: easily_made,
            max_used_bytes: temporary.max(LEAST_TEMPORARY),
            ..PruneOptions::default()
        },
        of_all(unused_for("1440h"), false),
        of_all(Filters::default(), false),
        of_all(Filters::default(), true),
    ]
}

/// A share of the disk as BuildKit rounds it: whole gigabytes, one more than there are gibibytes.
fn share(total: u64, percent: u64) -> i64 {
    let gibibytes = (total / 100).saturating_mul(percent) >> 30;
    i64::try_from((gibibytes + 1).saturating_mul(1_000_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shares_of_the_disk_unless_they_are_said() {
        let found = rules(&Policy::default(), Some(100 << 30));
        let bounds = |rule: &PruneOptions| (rule.all, rule.reserved_bytes, rule.max_used_bytes, rule.min_free_bytes);
        let [gigabytes_10, gigabytes_80, gigabytes_20] = [10, 80, 20].map(|count: i64| (count, count + 1));
        let near = |found: i64, (least, most): (i64, i64)| (least..=most).contains(&(found / 1_000_000_000));
        assert_eq!(found.len(), 4);
        let (all, reserved, most, free) = bounds(&found[2]);
        assert!(
            !all && near(reserved, gigabytes_10) && near(most, gigabytes_80) && near(free, gigabytes_20),
            "{found:?}"
        );
        assert!(found[3].all && found[0].max_used_bytes > LEAST_TEMPORARY && found[0].reserved_bytes == 0);
        assert_eq!(found[0].filters.get("type").count(), 3);

        let said = Policy::Bounds { reserved_bytes: 7, max_used_bytes: 0, min_free_bytes: 0 };
        let found = rules(&said, Some(100 << 30));
        assert_eq!(bounds(&found[1]), (false, 7, 0, 0));
        assert_eq!(found[0].max_used_bytes, LEAST_TEMPORARY);
        assert_eq!(rules(&Policy::Off, None), []);
        assert_eq!(rules(&Policy::default(), None)[3].reserved_bytes, 2_000_000_000);
    }
}
