//! Listing images.

use std::collections::{BTreeMap, HashMap, HashSet};

use ferry_api::filters::Filters;
use ferry_api::image::{ManifestSummary, Summary};
use ferry_spec::{ChainId, Digest, Reference};
use ferry_store::ImageRecord;
use jiff::Timestamp;

use super::names::{familiar, is_dangling};
use super::summary::Overview;
use super::{Images, Inner, origins};
use crate::error::{Error, Result};

const FILTERS: &[&str] = &["dangling", "label", "label!", "before", "since", "reference", "until"];

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Intermediate images too; there are none without the classic builder.
    pub all: bool,
    /// `dangling`, `label`, `before`, `since`, `reference`, `until`.
    pub filters: Filters,
    /// Digests too; they are always told.
    pub digests: bool,
    /// Compute how many bytes are shared with other images.
    pub shared_size: bool,
    /// Tell the manifests of each image.
    pub manifests: bool,
    /// Tell with the manifests that are here where the image comes from.
    pub identity: bool,
}

impl Images {
    /// Lists images, newest first.
    ///
    /// API: `GET /images/json`
    ///
    /// # Errors
    /// InvalidArgument for a filter, NotFound for the image of `before` or `since`.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        self.blocking(move |inner| inner.list(&options)).await
    }
}

impl Inner {
    fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        options.filters.validate(FILTERS)?;
        let filter = Filter::read(self, &options.filters)?;
        let records: Vec<ImageRecord> = self.state().names.values().cloned().collect();
        let mut by_id: BTreeMap<Digest, Vec<ImageRecord>> = BTreeMap::new();
        for record in records.into_iter().filter(|record| filter.fits(self, record)) {
            by_id.entry(record.target.digest.clone()).or_default().push(record);
        }
        let images: Vec<(Vec<ImageRecord>, Overview)> = by_id
            .into_values()
            .map(|records| {
                let overview = self.overview(&records[0]);
                (records, overview)
            })
            .collect();
        let shares = options.shared_size.then(|| Shares::count(images.iter().map(|(_, overview)| overview)));
        let mut summaries: Vec<Summary> = images
            .into_iter()
            .map(|(records, overview)| {
                let shared = shares.as_ref().map_or(-1, |shares| shares.of(self, &overview));
                let mut summary = self.summary(&records, overview);
                summary.shared_size = shared;
                if !options.manifests {
                    summary.manifests = Vec::new();
                }
                if options.identity {
                    identify(&mut summary.manifests, &self.names_of(&records[0].target.digest));
                }
                summary
            })
            .collect();
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(summaries)
    }

    fn summary(&self, records: &[ImageRecord], overview: Overview) -> Summary {
        let target = &records[0].target;
        let named: Vec<&ImageRecord> = records.iter().filter(|record| !is_dangling(record)).collect();
        let best = overview.best.as_deref();
        let containers = self.users_of(&target.digest).len();
        Summary {
            containers: if best.is_some() { i64::try_from(containers).unwrap_or(i64::MAX) } else { -1 },
            created: best.and_then(|parsed| seconds(parsed.config.created.as_deref())).unwrap_or(0),
            id: target.digest.to_string(),
            labels: best.map(|parsed| parsed.config.config.labels.clone()),
            parent_id: String::new(),
            descriptor: Some(target.clone()),
            repo_digests: repo_digests(&named),
            repo_tags: repo_tags(&named),
            shared_size: -1,
            size: overview.total_bytes,
            manifests: overview.manifests,
        }
    }
}

/// Tells where an image comes from with those of its manifests that are here.
fn identify(manifests: &mut [ManifestSummary], records: &[ImageRecord]) {
    let identity = origins::identity(records);
    for manifest in manifests.iter_mut().filter(|manifest| manifest.available) {
        if let Some(data) = &mut manifest.image_data {
            data.identity.clone_from(&identity);
        }
    }
}

/// Returns `name:tag` for every name that has a tag.
pub(super) fn repo_tags(records: &[&ImageRecord]) -> Vec<String> {
    let tagged = records.iter().filter(|record| record.reference.tag().is_some());
    tagged.map(|record| familiar(record)).collect()
}

/// Returns `name@digest` for every repository that names the image.
pub(super) fn repo_digests(records: &[&ImageRecord]) -> Vec<String> {
    let mut found: Vec<String> = records
        .iter()
        .map(|record| {
            let there = record.origins.pushed.get(&record.reference.name()).unwrap_or(&record.target.digest);
            record.reference.repository().with_digest(there.clone()).familiar()
        })
        .collect();
    found.dedup();
    found
}

/// Returns Unix seconds of an RFC 3339 time.
pub(super) fn seconds(time: Option<&str>) -> Option<i64> {
    time?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// In how many images each layer and blob occurs.
struct Shares {
    chains: HashMap<ChainId, u32>,
    content: HashMap<Digest, u32>,
}

impl Shares {
    fn count<'a>(overviews: impl Iterator<Item = &'a Overview>) -> Self {
        let mut shares = Self { chains: HashMap::new(), content: HashMap::new() };
        for overview in overviews {
            for chain in overview.chains.iter().collect::<HashSet<_>>() {
                *shares.chains.entry(chain.clone()).or_default() += 1;
            }
            for digest in overview.content.iter().map(|(digest, _)| digest).collect::<HashSet<_>>() {
                *shares.content.entry(digest.clone()).or_default() += 1;
            }
        }
        shares
    }

    fn of(&self, inner: &Inner, overview: &Overview) -> i64 {
        let chains: HashSet<&ChainId> = overview.chains.iter().filter(|chain| self.chains[chain] > 1).collect();
        let content: HashMap<&Digest, u64> = overview
            .content
            .iter()
            .filter(|(digest, _)| self.content[digest] > 1)
            .map(|(digest, size)| (digest, *size))
            .collect();
        let unpacked: u64 = chains.into_iter().filter_map(|chain| inner.layer_size(chain)).sum();
        i64::try_from(unpacked + content.into_values().sum::<u64>()).unwrap_or(i64::MAX)
    }
}

/// Filters with what they need looked up.
pub(super) struct Filter<'a> {
    filters: &'a Filters,
    /// Images made before these moments.
    before: Vec<i64>,
    /// Images made after these moments.
    since: Vec<i64>,
    /// Names written before these moments.
    until: Vec<i64>,
    dangling: Option<bool>,
}

impl<'a> Filter<'a> {
    pub(super) fn read(inner: &Inner, filters: &'a Filters) -> Result<Self> {
        let created = |name: &str| -> Result<Vec<i64>> {
            let mut moments = Vec::new();
            for text in filters.get(name) {
                let record = inner.find(text)?;
                let parsed = inner.best(&record, None)?;
                moments.extend(parsed.and_then(|parsed| created_ns(parsed.config.created.as_deref())));
            }
            Ok(moments)
        };
        let now = crate::clock::now_ns();
        let until = filters.get("until").map(|text| {
            parse_moment(text, now).ok_or_else(|| {
                Error::invalid(format!(
                    "invalid value for 'until' filter: failed to parse value as time or duration: invalid seconds {text:?}: invalid syntax"
                ))
            })
        });
        Ok(Self {
            filters,
            before: created("before")?,
            since: created("since")?,
            until: until.collect::<Result<_>>()?,
            dangling: crate::filter::boolean(filters, "dangling")?,
        })
    }

    pub(super) fn fits(&self, inner: &Inner, record: &ImageRecord) -> bool {
        self.dangling.is_none_or(|wanted| wanted == is_dangling(record))
            && self.until.iter().all(|moment| record.updated_ns < *moment)
            && self.fits_reference(&record.reference)
            && self.fits_content(inner, record)
    }

    fn fits_reference(&self, reference: &Reference) -> bool {
        crate::filter::any_of(self.filters, "reference", |pattern| {
            let forms = [reference.familiar(), reference.familiar_name(), reference.to_string(), reference.name()];
            forms.iter().any(|form| matches_path(pattern, form))
        })
    }

    fn fits_content(&self, inner: &Inner, record: &ImageRecord) -> bool {
        let needs_content = ["label", "label!", "before", "since"].iter().any(|name| self.filters.contains(name));
        if !needs_content {
            return true;
        }
        let created = || {
            let parsed = inner.best(record, None).ok().flatten()?;
            created_ns(parsed.config.created.as_deref())
        };
        let in_time = (self.before.is_empty() && self.since.is_empty())
            || created().is_some_and(|moment| {
                self.before.iter().all(|limit| moment < *limit) && self.since.iter().all(|limit| moment > *limit)
            });
        in_time
            && inner.manifests(&record.target).iter().any(|parsed| {
                let labels = &parsed.config.config.labels;
                self.filters.matches_labels("label", labels) && crate::filter::no_labels(self.filters, "label!", labels)
            })
    }
}

fn created_ns(time: Option<&str>) -> Option<i64> {
    let time: Timestamp = time?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Reads a moment as Unix seconds, a date, or a duration before now such as `1h30m`.
#[must_use]
pub fn parse_moment(text: &str, now_ns: i64) -> Option<i64> {
    if let Some(before) = parse_duration(text) {
        return now_ns.checked_sub(before);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        // Docker takes fractions here; nanoseconds do not matter.
        return Some((seconds * 1e9) as i64);
    }
    let time = text.parse::<Timestamp>().ok().or_else(|| {
        let local: jiff::civil::DateTime = text.parse().ok()?;
        local.to_zoned(jiff::tz::TimeZone::system()).ok().map(|zoned| zoned.timestamp())
    })?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Reads a duration as Go writes it, in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            _ => return None,
        };
        total += amount * unit;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total as i64)
}

/// Matches as Go's `path.Match`: `*` and `?` do not match a slash, `[a-z]` and `[^a-z]` are classes, `\` takes the next one as it is.
fn matches_path(pattern: &str, text: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    let Some(first) = pattern_chars.next() else { return text.is_empty() };
    let rest = pattern_chars.as_str();
    let mut text_chars = text.chars();
    let next = text_chars.next();
    let remaining = text_chars.as_str();
    match first {
        '*' => matches_path(rest, text) || next.is_some_and(|c| c != '/' && matches_path(pattern, remaining)),
        '?' => next.is_some_and(|c| c != '/') && matches_path(rest, remaining),
        '[' => {
            let Some((class, rest)) = rest.split_once(']') else { return false };
            next.is_some_and(|c| in_class(class, c)) && matches_path(rest, remaining)
        }
        '\\' => {
            let mut escaped = rest.chars();
            escaped.next().is_some_and(|c| next == Some(c)) && matches_path(escaped.as_str(), remaining)
        }
        plain => next == Some(plain) && matches_path(rest, remaining),
    }
}

fn in_class(class: &str, c: char) -> bool {
    let (class, negated) = class.strip_prefix('^').map_or((class, false), |class| (class, true));
    let members: Vec<char> = class.chars().collect();
    let mut at = 0;
    let mut found = false;
    while at < members.len() {
        let range_end = (members.get(at + 1) == Some(&'-')).then(|| members.get(at + 2)).flatten();
        found |= range_end.map_or(members[at] == c, |&end| (members[at]..=end).contains(&c));
        at += if range_end.is_some() { 3 } else { 1 };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("app", "app", true),
            ("app*", "app:latest", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a?p", "app", true),
            ("[a-c]pp", "bpp", true),
            ("[^a-c]pp", "bpp", false),
            (r"a\*", "a*", true),
            ("*:1", "app:1", true),
            ("", "", true),
        ] {
            assert_eq!(matches_path(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn moments_are_read() {
        let hour = 3_600_000_000_000;
        assert_eq!(parse_moment("1h30m", 2 * hour), Some(hour / 2));
        assert_eq!(parse_moment("10", 0), Some(10_000_000_000));
        assert_eq!(parse_moment("1970-01-01T01:00:00Z", 0), Some(hour));
        assert_eq!(parse_moment("soon", 0), None);
    }
}
