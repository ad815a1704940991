//! Removing what was not used for long: by age, by number, by a budget of bytes.
//!
//! An image goes whole, with all its names, and never while a container uses it. What each way takes is decided first, over a list of images
//! with the moments of their last use (`choose`, pure), then removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ferry_api::image::{Collected, CollectedImage};
use ferry_spec::{Descriptor, Digest};
use ferry_store::{ImageRecord, Live};

use super::names::{familiar, is_dangling};
use super::{Images, Inner};
use crate::clock;
use crate::error::{Context, Error, Result};

/// How often what was noted is written and the budget is looked at.
const ROUND: Duration = Duration::from_secs(60);
/// An image that was used so lately is not taken for a budget by itself: whoever pulled it is about to use it.
const FRESH_NS: i64 = 60_000_000_000;

/// What to remove, and how sure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectRequest {
    /// Images that nobody used for so long, in nanoseconds.
    pub unused_for_ns: Option<i64>,
    /// Of each repository so many names that were used last stay in any case.
    pub keep_last: usize,
    /// As many as it takes to get below so many bytes.
    pub budget_bytes: Option<u64>,
    /// Only tell.
    pub dry_run: bool,
}

impl CollectRequest {
    /// Reads the parameters of a request; `unused-for` is a duration such as `14d` or `36h`.
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn parse(unused_for: &str, keep_last: &str, budget: &str, dry_run: bool) -> Result<Self> {
        let wrong = |name: &str, text: &str, wanted: &str| {
            Error::invalid(format!("invalid value {text:?} for {name}: expected {wanted}"))
        };
        let given = |text: &str| !text.is_empty();
        let age = || duration_ns(unused_for).ok_or_else(|| wrong("unused-for", unused_for, "a duration such as 14d"));
        let keep = || keep_last.parse().map_err(|_| wrong("keep-last", keep_last, "a number"));
        let bytes = || budget.parse().map_err(|_| wrong("budget", budget, "a number of bytes"));
        let request = Self {
            unused_for_ns: given(unused_for).then(age).transpose()?,
            keep_last: if given(keep_last) { keep()? } else { 0 },
            budget_bytes: given(budget).then(bytes).transpose()?,
            dry_run,
        };
        match request {
            Self { unused_for_ns: None, budget_bytes: None, .. } => {
                Err(Error::invalid("nothing is chosen: say `unused-for` or `budget`"))
            }
            request => Ok(request),
        }
    }
}

/// Reads `14d`, `2w`, `36h`, `1h30m`, `90s`.
pub(super) fn duration_ns(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let amount: i64 = rest[..digits].parse().ok()?;
        let seconds = match rest[digits..].chars().next()? {
            'w' => 7 * 24 * 3600,
            'd' => 24 * 3600,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(amount.checked_mul(seconds)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| total.checked_mul(1_000_000_000)).flatten()
}

/// An image with what the choice depends on.
#[derive(Debug, Clone)]
struct Candidate {
    records: Vec<ImageRecord>,
    last_used_ns: i64,
    in_use: bool,
    /// What it is made of.
    live: Live,
}

impl Candidate {
    fn id(&self) -> &Digest {
        &self.records[0].target.digest
    }
}

/// Every image at one moment.
struct Survey {
    all: Vec<Candidate>,
    /// What containers are made of, whether their images have names or not.
    by_containers: Live,
}

impl Survey {
    /// What would go with these: nothing else reaches it.
    fn only_reached_by(&self, chosen: &BTreeSet<usize>) -> Live {
        let mut live = Live::default();
        chosen.iter().for_each(|at| live.extend(self.all[*at].live.clone()));
        for (at, other) in self.all.iter().enumerate() {
            if !chosen.contains(&at) {
                live.remove_all_of(&other.live);
            }
        }
        live.remove_all_of(&self.by_containers);
        live
    }
}

impl Images {
    /// Removes images that nobody used for long, or says which it would.
    ///
    /// API: `POST /images/collect`, which Docker does not have.
    ///
    /// # Errors
    /// When content cannot be listed.
    pub async fn collect_unused(&self, request: CollectRequest) -> Result<Collected> {
        self.blocking(move |inner| inner.collect_unused(&request, i64::MAX)).await
    }

    /// Looks after the store while the engine runs, and no longer.
    pub(crate) fn start_upkeep(&self) {
        self.save_last_used();
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(ROUND);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(inner) = Weak::upgrade(&inner) else { return };
                let round = tokio::task::spawn_blocking(move || {
                    inner.save_last_used();
                    inner.keep_to_budget();
                });
                if let Err(error) = round.await {
                    tracing::error!(%error, "the image store was not looked after");
                }
            }
        });
    }
}

impl Inner {
    /// Removes what was not used for longest until images are within the budget, where there is one.
    pub(super) fn keep_to_budget(&self) {
        let Some(budget) = self.live.get().disk_budget_bytes else { return };
        let request = CollectRequest { budget_bytes: Some(budget), ..CollectRequest::default() };
        match self.collect_unused(&request, clock::now_ns() - FRESH_NS) {
            Ok(collected) if !collected.images.is_empty() => {
                tracing::info!(
                    images = collected.images.len(),
                    bytes = collected.space_reclaimed,
                    "kept to the budget"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot keep to the budget"),
        }
    }

    /// As [`Images::collect_unused`]; what was used after `fresh_ns` stays.
    fn collect_unused(&self, request: &CollectRequest, fresh_ns: i64) -> Result<Collected> {
        let images = self.survey();
        let total = match request.budget_bytes {
            Some(_) => self.store.bytes_on_disk().context("cannot measure image content")?,
            None => 0,
        };
        let bytes_of = |live: &Live| self.store.bytes_of(live);
        let chosen = choose(&images, request, clock::now_ns(), fresh_ns, total, &bytes_of);
        let mut in_order: Vec<usize> = chosen.iter().copied().collect();
        in_order.sort_by_key(|at| images.all[*at].last_used_ns);
        let mut report = Collected {
            images: in_order.iter().map(|at| self.describe(&images, *at)).collect(),
            space_reclaimed: bytes_of(&images.only_reached_by(&chosen)),
            dry_run: request.dry_run,
        };
        if request.dry_run {
            return Ok(report);
        }
        for at in &chosen {
            self.remove_unused(&images.all[*at])?;
        }
        report.space_reclaimed = self.collect();
        Ok(report)
    }

    /// Looks at every image once.
    fn survey(&self) -> Survey {
        let mut by_id: BTreeMap<Digest, Vec<ImageRecord>> = BTreeMap::new();
        for record in self.state().names.values() {
            by_id.entry(record.target.digest.clone()).or_default().push(record.clone());
        }
        let candidate = |(id, records): (Digest, Vec<ImageRecord>)| Candidate {
            last_used_ns: self.last_used(&records),
            in_use: !self.users_of(&id).is_empty(),
            live: self.store.reachable(&records[0].target),
            records,
        };
        Survey { all: by_id.into_iter().map(candidate).collect(), by_containers: self.reached_by_containers() }
    }

    fn reached_by_containers(&self) -> Live {
        let used: HashSet<Digest> = self.state().users.values().flatten().map(|user| user.image.clone()).collect();
        // The cache of builds keeps layers as containers do.
        let mut live = self.kept_by_builds();
        for id in used {
            live.extend(self.store.reachable(&Descriptor::new("", id, 0)));
        }
        live
    }

    fn describe(&self, images: &Survey, at: usize) -> CollectedImage {
        let one = &images.all[at];
        let alone = images.only_reached_by(&BTreeSet::from([at]));
        CollectedImage {
            id: one.id().to_string(),
            names: one.records.iter().filter(|record| !is_dangling(record)).map(familiar).collect(),
            unique_size: i64::try_from(self.store.bytes_of(&alone)).unwrap_or(i64::MAX),
            last_used: clock::rfc3339(one.last_used_ns),
        }
    }

    /// Removes an image unless somebody took it up meanwhile.
    fn remove_unused(&self, one: &Candidate) -> Result<()> {
        let id = one.id();
        let records = self.names_of(id);
        if !self.users_of(id).is_empty() || self.last_used(&records) > one.last_used_ns {
            return Ok(());
        }
        for record in &records {
            self.remove_name(&record.reference)?;
            if !is_dangling(record) {
                self.publish("untag", id.as_str(), &record.reference.familiar(), None);
            }
        }
        self.publish("delete", id.as_str(), id.as_str(), None);
        Ok(())
    }

    /// Bytes that go when every image without a container goes, with what nothing reaches at all.
    fn reclaimable(&self) -> Result<u64> {
        let total = self.store.bytes_on_disk().context("cannot measure image content")?;
        Ok(total.saturating_sub(self.store.bytes_of(&self.reached_by_containers())))
    }
}

/// Returns the places of the images that are to go, those of an age first, then for the budget as many as it takes.
fn choose(
    images: &Survey,
    request: &CollectRequest,
    now_ns: i64,
    fresh_ns: i64,
    total: u64,
    bytes_of: &dyn Fn(&Live) -> u64,
) -> BTreeSet<usize> {
    let kept_names = last_names(&images.all, request.keep_last);
    let may_go = |one: &Candidate| {
        let is_kept = one.records.iter().any(|record| kept_names.contains(&record.reference.to_string()));
        !one.in_use && !is_kept && one.last_used_ns <= fresh_ns
    };
    let mut order: Vec<usize> = (0..images.all.len()).filter(|at| may_go(&images.all[*at])).collect();
    order.sort_by_key(|at| images.all[*at].last_used_ns);
    let is_old = |at: &usize| {
        let limit = request.unused_for_ns.map(|age| now_ns.saturating_sub(age));
        limit.is_some_and(|limit| images.all[*at].last_used_ns < limit)
    };
    let mut chosen: BTreeSet<usize> = order.iter().copied().filter(is_old).collect();
    let Some(budget) = request.budget_bytes else { return chosen };
    for at in order {
        if total.saturating_sub(bytes_of(&images.only_reached_by(&chosen))) <= budget {
            break;
        }
        chosen.insert(at);
    }
    chosen
}

/// The names of each repository that were used last, `count` of each.
fn last_names(all: &[Candidate], count: usize) -> HashSet<String> {
    let mut by_repository: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for one in all {
        for record in one.records.iter().filter(|record| !is_dangling(record)) {
            let names = by_repository.entry(record.reference.name()).or_default();
            names.push((one.last_used_ns.max(record.updated_ns), record.reference.to_string()));
        }
    }
    let mut kept = HashSet::new();
    for mut names in by_repository.into_values() {
        names.sort_by(|one, other| other.cmp(one));
        kept.extend(names.into_iter().take(count).map(|(_, name)| name));
    }
    kept
}

impl Images {
    /// Measures what images take up and what of it can go.
    pub(crate) async fn measure(&self) -> Result<(u64, u64)> {
        self.blocking(|inner| {
            let total = inner.store.bytes_on_disk().context("cannot measure image content")?;
            Ok((total, inner.reclaimable()?))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_spec::Reference;

    #[test]
    fn ages_are_read() {
        let day = 24 * 3600 * 1_000_000_000;
        assert_eq!(duration_ns("14d"), Some(14 * day));
        assert_eq!(duration_ns("1w1d"), Some(8 * day));
        assert_eq!(duration_ns("1h30m"), Some(day / 16));
        for text in ["", "d", "14", "14y", "-1d", "1.5h", "99999999999999w"] {
            assert_eq!(duration_ns(text), None, "{text}");
        }
    }

    #[test]
    fn requests_are_read() {
        let all = CollectRequest::parse("2d", "3", "1000", true).unwrap();
        assert_eq!((all.keep_last, all.budget_bytes, all.dry_run), (3, Some(1000), true));
        assert!(CollectRequest::parse("", "3", "", false).unwrap_err().text().starts_with("nothing is chosen"));
        assert!(CollectRequest::parse("soon", "", "", false).unwrap_err().text().contains("\"soon\" for unused-for"));
        assert!(CollectRequest::parse("", "", "-1", false).is_err());
    }

    fn candidate(name: &str, used: i64) -> Candidate {
        Candidate {
            records: vec![ImageRecord {
                reference: Reference::parse(name).unwrap(),
                target: Descriptor::new("", Digest::sha256(name.as_bytes()), 1),
                updated_ns: 0,
                origins: ferry_store::Origins::default(),
            }],
            last_used_ns: used,
            in_use: false,
            live: Live { blobs: HashSet::from([Digest::sha256(name.as_bytes())]), ..Live::default() },
        }
    }

    #[test]
    fn a_budget_takes_what_was_not_used_for_longest() {
        let mut all = vec![candidate("a:1", 40), candidate("b:1", 10), candidate("c:1", 30), candidate("d:1", 20)];
        all[1].in_use = true;
        let images = Survey { all, by_containers: Live::default() };
        let ten_each = |live: &Live| 10 * live.blobs.len() as u64;
        let chosen = |budget, fresh_ns| -> Vec<String> {
            let request = CollectRequest { budget_bytes: Some(budget), ..CollectRequest::default() };
            let chosen = choose(&images, &request, 100, fresh_ns, 40, &ten_each);
            chosen.into_iter().map(|at| images.all[at].records[0].reference.familiar_name()).collect()
        };
        assert!(chosen(40, i64::MAX).is_empty());
        assert_eq!(chosen(39, i64::MAX), ["d"]);
        assert_eq!(chosen(20, i64::MAX), ["c", "d"]);
        assert_eq!(chosen(0, i64::MAX), ["a", "c", "d"], "not what is in use");
        assert_eq!(chosen(0, 20), ["d"], "nor what was used just now");
        let request = CollectRequest { unused_for_ns: Some(75), keep_last: 0, ..CollectRequest::default() };
        assert_eq!(choose(&images, &request, 100, i64::MAX, 0, &ten_each), BTreeSet::from([3]));
        let kept = CollectRequest { keep_last: 1, ..request };
        assert!(choose(&images, &kept, 100, i64::MAX, 0, &ten_each).is_empty());
    }

    #[test]
    fn the_last_names_of_each_repository_are_kept() {
        let all = [candidate("a:1", 1), candidate("a:2", 2), candidate("a:3", 3), candidate("b:1", 0)];
        let kept = last_names(&all, 2);
        assert!(kept.contains("docker.io/library/a:3") && kept.contains("docker.io/library/a:2"));
        assert!(kept.contains("docker.io/library/b:1") && !kept.contains("docker.io/library/a:1"));
        assert!(last_names(&all, 0).is_empty());
    }
}
