//! Removing names, and images with their last one.
//!
//! A name goes alone while the image has names in other repositories or with other tags. With its last name the image goes, unless
//! a container uses it. Running containers cannot be overruled; stopped ones and further names can, by force.

use ferry_api::filters::Filters;
use ferry_api::image::{DeleteItem, PruneReport};
use ferry_spec::reference::AnyReference;
use ferry_spec::{Digest, Platform, Reference};
use ferry_store::ImageRecord;

use super::list::Filter;
use super::names::{dangling_name, familiar, is_dangling, no_such_image, short};
use super::resolve::{id_prefix, platform_not_found};
use super::{Images, Inner};
use crate::error::{Error, ErrorKind, Result};

impl Images {
    /// Removes a name, or an image with all its names.
    ///
    /// API: `DELETE /images/{name}`
    ///
    /// # Errors
    /// NotFound; Conflict in Docker's words when containers or further names stand in the way.
    pub async fn remove(
        &self,
        reference: &str,
        force: bool,
        prune: bool,
        platforms: Vec<Platform>,
    ) -> Result<Vec<DeleteItem>> {
        // Parents exist for the classic builder alone, so there is nothing to prune.
        let _ = prune;
        if !platforms.is_empty() && !force {
            return Err(Error::invalid(
                "Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.",
            ));
        }
        let reference = reference.to_owned();
        self.blocking(move |inner| {
            let removed = match platforms.is_empty() {
                true => inner.remove(&reference, force),
                false => inner.remove_platforms(&reference, &platforms),
            };
            inner.collect();
            removed
        })
        .await
    }

    /// Removes images that no container uses: those without a name, or with `dangling=false` all.
    ///
    /// API: `POST /images/prune`
    ///
    /// # Errors
    /// InvalidArgument for a filter.
    pub async fn prune(&self, filters: Filters) -> Result<PruneReport> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let dangling_only = crate::filter::boolean(&filters, "dangling")?.unwrap_or(true);
        let mut others = filters;
        // Here it does not choose between the two kinds; it says whether named images may go as well.
        others.remove("dangling");
        self.blocking(move |inner| {
            let mut report = PruneReport::default();
            let filter = Filter::read(inner, &others)?;
            let records: Vec<ImageRecord> = inner.state().names.values().cloned().collect();
            for record in records {
                let used = !inner.users_of(&record.target.digest).is_empty();
                if used || (dangling_only && !is_dangling(&record)) || !filter.fits(inner, &record) {
                    continue;
                }
                match inner.remove(&record.reference.to_string(), false) {
                    Ok(removed) => report.images_deleted.get_or_insert_default().extend(removed),
                    // Somebody has removed it or begun to use it meanwhile.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                        tracing::debug!(image = %familiar(&record), error = %error.text(), "image not pruned");
                    }
                    Err(error) => return Err(error),
                }
            }
            report.space_reclaimed = inner.collect();
            Ok(report)
        })
        .await
    }
}

/// What may be overruled.
#[derive(Debug, Clone, Copy)]
struct Heed {
    stopped_containers: bool,
    further_names: bool,
}

impl Inner {
    fn remove(&self, text: &str, force: bool) -> Result<Vec<DeleteItem>> {
        let mut heed = Heed { stopped_containers: !force, further_names: !force };
        let exact = self.exact(text)?;
        let record = match &exact {
            Some(record) => record.clone(),
            None => self.find(text)?,
        };
        let id = &record.target.digest;
        let all = self.names_of(id);
        let by_id = id_prefix(text).is_some_and(|prefix| id.hex().starts_with(prefix));
        let Some(named) = exact.filter(|_| !by_id) else {
            let named = if by_id { None } else { Reference::parse(text).ok() };
            let same = same_references(named.as_ref(), &all);
            if let Some(named) = named.filter(|_| same.is_empty()) {
                return Err(no_such_image(&AnyReference::Named(named)));
            }
            if !by_id && same.len() != all.len() && id_prefix(text).is_none() {
                return self.untag(&same);
            }
            heed.further_names &= same.len() != all.len();
            return self.remove_all(id, &all, heed);
        };
        let same = same_references(Some(&named.reference), &all);
        if same.len() != all.len() {
            return self.untag(&same);
        }
        heed.further_names &= all.len() <= 1;
        if let Some((container, _)) = self.users_of(id).into_iter().next() {
            if !force {
                let reason =
                    format!("container {} is using its referenced image {}", short(&container), short(id.as_str()));
                return Err(conflict(&named.reference.familiar(), "must be forced", &reason));
            }
            return self.leave_nameless(&all);
        }
        self.remove_all(id, &all, heed)
    }

    /// Removes the content of single platforms; names and index stay.
    fn remove_platforms(&self, text: &str, platforms: &[Platform]) -> Result<Vec<DeleteItem>> {
        let record = self.find(text)?;
        let id = &record.target.digest;
        // Which of its platforms a container was made of is not known here, and its layers must not go.
        if let Some((container, running)) = self.users_of(id).into_iter().next() {
            let how = if running { "running" } else { "stopped" };
            let reason = format!("image is being used by {how} container {}", short(&container));
            return Err(conflict(short(id.as_str()), "cannot be forced", &reason));
        }
        let mut removed = Vec::new();
        for platform in platforms {
            let failed = |error: Error| {
                Error::new(
                    error.kind(),
                    format!("failed to delete platform {platform} for image {id}: {}", error.text()),
                )
            };
            let parsed = self.best(&record, Some(platform)).map_err(failed)?;
            let parsed = parsed.ok_or_else(|| failed(platform_not_found(&familiar(&record), Some(platform))))?;
            let gone = self.discard_manifests(std::slice::from_ref(&parsed.descriptor)).map_err(failed)?;
            removed.extend(
                gone.into_iter().map(|digest| DeleteItem { deleted: digest.to_string(), ..DeleteItem::default() }),
            );
        }
        Ok(removed)
    }

    /// Returns the record whose name `text` is, to the letter.
    fn exact(&self, text: &str) -> Result<Option<ImageRecord>> {
        let parsed = AnyReference::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(match parsed {
            AnyReference::Digest(_) => None,
            AnyReference::Named(named) => self.state().names.get(&named.with_default_tag()).cloned(),
        })
    }

    fn untag(&self, records: &[ImageRecord]) -> Result<Vec<DeleteItem>> {
        records.iter().map(|record| self.untag_one(record)).collect()
    }

    fn untag_one(&self, record: &ImageRecord) -> Result<DeleteItem> {
        self.remove_name(&record.reference)?;
        let untagged = record.reference.familiar();
        self.publish("untag", record.target.digest.as_str(), &untagged, None);
        Ok(DeleteItem { untagged, ..DeleteItem::default() })
    }

    /// Takes the names of an image that containers still use.
    fn leave_nameless(&self, all: &[ImageRecord]) -> Result<Vec<DeleteItem>> {
        let named: Vec<ImageRecord> = all.iter().filter(|record| !is_dangling(record)).cloned().collect();
        if let Some(first) = all.first() {
            self.write_name(&dangling_name(&first.target.digest), &first.target)?;
        }
        self.untag(&named)
    }

    fn remove_all(&self, id: &Digest, all: &[ImageRecord], heed: Heed) -> Result<Vec<DeleteItem>> {
        self.check(id, all, heed)?;
        let mut removed = Vec::new();
        for record in all {
            if is_dangling(record) {
                self.remove_name(&record.reference)?;
            } else {
                removed.push(self.untag_one(record)?);
            }
        }
        self.publish("delete", id.as_str(), id.as_str(), None);
        removed.push(DeleteItem { deleted: id.to_string(), ..DeleteItem::default() });
        Ok(removed)
    }

    fn check(&self, id: &Digest, all: &[ImageRecord], heed: Heed) -> Result<()> {
        let users = self.users_of(id);
        let short_id = short(id.as_str());
        if let Some((container, _)) = users.iter().find(|(_, running)| *running) {
            let reason = format!("image is being used by running container {}", short(container));
            return Err(conflict(short_id, "cannot be forced", &reason));
        }
        if let Some((container, _)) = users.first().filter(|_| heed.stopped_containers) {
            let reason = format!("image is being used by stopped container {}", short(container));
            return Err(conflict(short_id, "must be forced", &reason));
        }
        if heed.further_names && all.len() > 1 {
            return Err(conflict(short_id, "must be forced", "image is referenced in multiple repositories"));
        }
        Ok(())
    }
}

fn conflict(what: &str, force: &str, reason: &str) -> Error {
    Error::conflict(format!("conflict: unable to delete {what} ({force}) - {reason}"))
}

/// Returns the records that count as the same name: same repository and tag, with the digests of that repository when it has no
/// other tag. Without a name, the first record's is taken. Records that only keep the image always count.
fn same_references(named: Option<&Reference>, all: &[ImageRecord]) -> Vec<ImageRecord> {
    let all_tags = named.is_some_and(|named| named.digest().is_some() && named.tag().is_none());
    let mut repository = named.map(Reference::name);
    let mut tag = named.and_then(Reference::tag).map(str::to_owned);
    let mut same = Vec::new();
    let mut digests = Some(Vec::new());
    for record in all {
        if is_dangling(record) {
            same.push(record.clone());
            continue;
        }
        let reference = &record.reference;
        match &repository {
            None => {
                repository = Some(reference.name());
                tag = reference.tag().map(str::to_owned);
            }
            Some(name) if *name != reference.name() => continue,
            Some(_) if all_tags => {}
            Some(_) => match (reference.tag(), &tag) {
                (None, _) => {
                    if let Some(digests) = &mut digests {
                        digests.push(record.clone());
                    }
                    continue;
                }
                (Some(own), None) => tag = Some(own.to_owned()),
                (Some(own), Some(wanted)) if own != wanted => {
                    digests = None;
                    continue;
                }
                _ => {}
            },
        }
        same.push(record.clone());
    }
    same.extend(digests.into_iter().flatten());
    same
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_spec::Descriptor;

    fn records(names: &[&str]) -> Vec<ImageRecord> {
        let target = Descriptor::new("", Digest::sha256(b"t"), 1);
        let record = |name: &&str| ImageRecord {
            reference: Reference::parse(&name.replace('#', target.digest.as_str())).unwrap(),
            target: target.clone(),
            updated_ns: 0,
            origins: ferry_store::Origins::default(),
        };
        names.iter().map(record).collect()
    }

    fn same(named: Option<&str>, names: &[&str]) -> usize {
        let named = named.map(|name| Reference::parse(name).unwrap());
        same_references(named.as_ref(), &records(names)).len()
    }

    #[test]
    fn names_count_as_the_same_as_in_docker() {
        assert_eq!(same(Some("a:1"), &["a:1"]), 1);
        assert_eq!(same(Some("a:1"), &["a:1", "a:2"]), 1);
        assert_eq!(same(Some("a:1"), &["a:1", "b:1"]), 1);
        assert_eq!(same(Some("a:1"), &["a:1", "a@#"]), 2);
        assert_eq!(same(Some("a:1"), &["a:1", "a:2", "a@#"]), 1);
        assert_eq!(same(None, &["a:1", "b:1"]), 1);
        assert_eq!(same(None, &["a:1"]), 1);
        assert_eq!(same(Some("c:1"), &["a:1"]), 0);
    }
}
