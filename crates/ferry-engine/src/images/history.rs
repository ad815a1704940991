//! How an image came about.

use ferry_api::image::HistoryItem;
use ferry_spec::{ChainId, Platform};

use super::list::seconds;
use super::names::{familiar, is_dangling};
use super::resolve::platform_not_found;
use super::{Images, Inner};
use crate::error::{Error, Result};

impl Images {
    /// Tells the steps of an image's making, newest first.
    ///
    /// API: `GET /images/{name}/history`
    ///
    /// # Errors
    /// NotFound.
    pub async fn history(&self, reference: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let (reference, platform) = (reference.to_owned(), platform.cloned());
        self.blocking(move |inner| inner.history(&reference, platform.as_ref())).await
    }
}

impl Inner {
    fn history(&self, reference: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let record = self.find(reference)?;
        let parsed = self.best(&record, platform)?;
        let parsed = parsed.ok_or_else(|| platform_not_found(&familiar(&record), platform))?;
        let chains = ChainId::each_of(&parsed.config.rootfs.diff_ids);
        let mut sizes = chains.iter().map(|chain| self.layer_size(chain).unwrap_or_default());
        let mut items = Vec::new();
        for step in &parsed.config.history {
            let size = match step.empty_layer {
                true => 0,
                false => sizes.next().ok_or_else(|| Error::internal("unable to find the size of the layer"))?,
            };
            items.push(HistoryItem {
                comment: step.comment.clone(),
                created: seconds(step.created.as_deref()).unwrap_or_default(),
                created_by: step.created_by.clone(),
                id: "<missing>".to_owned(),
                size: i64::try_from(size).unwrap_or(i64::MAX),
                tags: None,
            });
        }
        items.reverse();
        if let Some(newest) = items.first_mut() {
            let names = self.names_of(&record.target.digest);
            let tags: Vec<String> = names.iter().filter(|name| !is_dangling(name)).map(familiar).collect();
            newest.id = record.target.digest.to_string();
            newest.tags = Some(tags).filter(|tags| !tags.is_empty());
        }
        Ok(items)
    }
}
