//! Tagging: one more name for an image.

use ferry_spec::Digest;

use super::names::parse_repo_and_tag;
use super::{Images, Inner};
use crate::error::Result;

impl Images {
    /// Makes `repo:tag` mean what `source` names.
    ///
    /// API: `POST /images/{name}/tag`
    ///
    /// # Errors
    /// NotFound for the source, InvalidArgument for the name.
    pub async fn tag(&self, source: &str, repo: &str, tag: &str) -> Result<()> {
        let name = parse_repo_and_tag(repo, tag)?;
        let source = source.to_owned();
        self.blocking(move |inner| {
            // Until it has the new name the image may lose the one by which it was found.
            let _lease = inner.store.lease();
            let target = inner.find(&source)?.target;
            inner.write_name(&name, &target)?;
            inner.publish("tag", target.digest.as_str(), &name.familiar(), Some(&target.digest));
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// Tells that something happened to an image. `labelled` is the image whose labels go along, while it is here.
    pub(super) fn publish(&self, action: &str, id: &str, name: &str, labelled: Option<&Digest>) {
        let labels = labelled
            .and_then(|digest| self.names_of(digest).into_iter().next())
            .and_then(|record| self.best(&record, None).ok().flatten())
            .map(|parsed| parsed.config.config.labels.clone());
        let mut attributes = labels.unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.publish("image", action, id, attributes);
    }
}
