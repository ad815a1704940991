//! Images from a registry that are looked at and not kept.

use std::sync::Arc;

use ferry_registry::Credentials;
use ferry_spec::Platform;
use ferry_store::{ImageRecord, Origins};

use super::layers::Hold;
use super::resolve::{ResolvedImage, platform_not_found};
use super::{Images, pull};
use crate::error::{Context, Result};

/// An image without a name: it goes when this does.
pub(crate) struct Look {
    /// It, whose lease ends first.
    pub(crate) image: ResolvedImage,
    _hold: Arc<Hold>,
}

impl Images {
    /// Brings an image here without giving it a name, as far as it is not here.
    ///
    /// # Errors
    /// As a pull.
    pub(crate) async fn fetch_for_a_look(
        &self,
        name: &str,
        platform: Option<Platform>,
        auth: Option<Credentials>,
    ) -> Result<Look> {
        let inner = &self.inner;
        let lease = Arc::new(inner.store.lease());
        let hold = Hold::take(inner);
        let key = pull::TransferKey::of(name, platform.clone(), auth)?;
        let (reference, target) = inner.fetch_unnamed(&key, &hold).await?;
        let record = ImageRecord { reference, target, updated_ns: 0, origins: Origins::default() };
        let image = self
            .blocking(move |inner| {
                let parsed = inner.best(&record, platform.as_ref())?;
                let name = record.reference.familiar();
                let parsed = parsed.ok_or_else(|| platform_not_found(&name, platform.as_ref()))?;
                Ok(ResolvedImage {
                    id: record.target.digest,
                    manifest: parsed.descriptor.digest.clone(),
                    descriptor: parsed.descriptor.clone(),
                    config_digest: parsed.manifest.config.digest.clone(),
                    config: parsed.config.clone(),
                    chain_id: parsed.chain_id(),
                    platform: parsed.platform(),
                    reference_names: Vec::new(),
                    lease,
                })
            })
            .await
            .context("cannot read what was fetched")?;
        Ok(Look { image, _hold: hold })
    }
}
