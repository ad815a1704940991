//! Image names: reading what users typed, and the names of images that have none.

use ferry_spec::reference::{AnyReference, ReferenceError};
use ferry_spec::{Descriptor, Digest, Reference};
use ferry_store::{ImageRecord, Origins};

use super::Inner;
use crate::clock;
use crate::error::{Context, Error, Result};

/// Repository of images without a name. The top-level domain is reserved, so no registry can have it.
pub(super) const DANGLING: &str = "dangling.ferry.invalid/image";

/// Reads a name that is to be written: with a tag (`latest` by default) or a digest.
///
/// # Errors
/// InvalidArgument with Docker's text.
pub(super) fn parse_name(text: &str) -> Result<Reference> {
    let reference = Reference::parse_with_default_tag(text).map_err(|error| Error::invalid(error.to_string()))?;
    if is_reserved(&reference) {
        return Err(Error::invalid(ReferenceError::Format.to_string()));
    }
    Ok(reference)
}

/// Joins the two parameters that many requests have.
pub(super) fn parse_repo_and_tag(repo: &str, tag: &str) -> Result<Reference> {
    let invalid = |error: ReferenceError| Error::invalid(error.to_string());
    let reference = Reference::parse(repo).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if tag.is_empty() {
        return parse_name(repo);
    }
    parse_name(&reference.repository().with_tag(tag).map_err(invalid)?.to_string())
}

/// Returns the name under which an image without names is kept.
pub(super) fn dangling_name(id: &Digest) -> Reference {
    Reference::parse(DANGLING).expect("the name is valid").with_digest(id.clone())
}

/// Tells whether a record only keeps an image that has no name.
pub(super) fn is_dangling(record: &ImageRecord) -> bool {
    is_reserved(&record.reference)
}

fn is_reserved(reference: &Reference) -> bool {
    reference.name() == DANGLING
}

/// Returns a name as users see it; the id for an image without one.
pub(super) fn familiar(record: &ImageRecord) -> String {
    if is_dangling(record) { record.target.digest.to_string() } else { record.reference.familiar() }
}

/// Returns the first twelve digits of an id, as in messages.
pub(super) fn short(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// The error of an image that is not here.
pub(super) fn no_such_image(parsed: &AnyReference) -> Error {
    Error::not_found(match parsed {
        AnyReference::Digest(digest) => format!("No such image: {digest}"),
        AnyReference::Named(named) => format!("No such image: {}", named.clone().with_default_tag().familiar()),
    })
}

impl Inner {
    /// Makes `reference` mean `target`. The image it meant before is kept without a name if it has no other.
    pub(super) fn write_name(&self, reference: &Reference, target: &Descriptor) -> Result<()> {
        self.write_name_of(reference, target, &Origins::default())
    }

    /// The same for an image of which it is now known where it comes from.
    pub(super) fn write_name_of(&self, reference: &Reference, target: &Descriptor, origins: &Origins) -> Result<()> {
        // A name that lasts leads to layers that last.
        self.store.settle().context("cannot bring layers to the disk")?;
        let mut state = self.state();
        let before = state.names.get(reference).map(|record| record.target.clone());
        if let Some(before) = before.filter(|before| before.digest != target.digest) {
            let others = state.names.values().filter(|record| record.target.digest == before.digest).count();
            if others == 1 {
                self.put(&mut state, &dangling_name(&before.digest), &before, &Origins::default())?;
            }
        }
        self.put(&mut state, reference, target, origins)?;
        self.spread(&mut state, &target.digest, origins)?;
        let placeholder = dangling_name(&target.digest);
        if *reference != placeholder {
            self.take(&mut state, &placeholder)?;
        }
        Ok(())
    }

    /// Notes where an image comes from, with each of its names.
    pub(super) fn add_origins(&self, id: &Digest, origins: &Origins) -> Result<()> {
        self.spread(&mut self.state(), id, origins)
    }

    /// Removes a name; the caller decides what becomes of the image.
    pub(super) fn remove_name(&self, reference: &Reference) -> Result<()> {
        self.take(&mut self.state(), reference)
    }

    fn put(
        &self,
        state: &mut super::State,
        reference: &Reference,
        target: &Descriptor,
        origins: &Origins,
    ) -> Result<()> {
        // What an index said about the target is no part of the target.
        let target = Descriptor::new(target.media_type.clone(), target.digest.clone(), target.size);
        let mut known = super::origins::of(state, &target.digest);
        known.extend(origins);
        let record = ImageRecord { reference: reference.clone(), target, updated_ns: clock::now_ns(), origins: known };
        self.keep(state, record)
    }

    /// Tells the other names of an image where it comes from.
    fn spread(&self, state: &mut super::State, id: &Digest, origins: &Origins) -> Result<()> {
        let ignorant = state.names.values().filter(|record| record.target.digest == *id).filter_map(|record| {
            let mut record = record.clone();
            record.origins.extend(origins);
            Some(record).filter(|told| state.names.get(&told.reference) != Some(told))
        });
        let told: Vec<ImageRecord> = ignorant.collect();
        told.into_iter().try_for_each(|record| self.keep(state, record))
    }

    fn keep(&self, state: &mut super::State, record: ImageRecord) -> Result<()> {
        self.store.put_image(&record).context("cannot write the image name")?;
        state.names.insert(record.reference.clone(), record);
        Ok(())
    }

    fn take(&self, state: &mut super::State, reference: &Reference) -> Result<()> {
        if state.names.remove(reference).is_some() {
            self.store.remove_image(reference).context("cannot remove the image name")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_the_reserved_name() {
        let id = Digest::sha256(b"x");
        assert!(parse_name(&dangling_name(&id).to_string()).is_err());
        assert!(parse_repo_and_tag(DANGLING, "latest").is_err());
    }

    #[test]
    fn names_get_a_tag_once() {
        for (repo, tag, expected) in [
            ("app", "", "docker.io/library/app:latest"),
            ("app:1", "", "docker.io/library/app:1"),
            ("app:1", "2", "docker.io/library/app:2"),
            ("localhost:5000/app", "v", "localhost:5000/app:v"),
        ] {
            assert_eq!(parse_repo_and_tag(repo, tag).unwrap().to_string(), expected);
        }
        assert_eq!(parse_repo_and_tag("app", "a b").unwrap_err().text(), "invalid tag format");
        assert_eq!(parse_repo_and_tag("../x", "").unwrap_err().text(), "invalid reference format");
    }

    #[test]
    fn ids_are_shortened() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
