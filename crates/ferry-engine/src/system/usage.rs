//! What lies on the disk: `GET /system/df`.

use ferry_api::container::Summary as Container;
use ferry_api::filters::Filters;
use ferry_api::system::{DiskUsage, Usage};

use super::{System, as_i64};
use crate::containers::ListOptions as ContainerOptions;
use crate::error::{Error, Result};
use crate::images::ListOptions as ImageOptions;

/// Which kinds of objects are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageKinds {
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

impl UsageKinds {
    /// All of them.
    pub const ALL: Self = Self { images: true, containers: true, volumes: true, build_cache: true };
    const NONE: Self = Self { images: false, containers: false, volumes: false, build_cache: false };

    /// Reads the names that the API has for them; none at all are all of them.
    ///
    /// # Errors
    /// InvalidArgument for an unknown name.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut kinds = None;
        for name in names {
            let kinds = kinds.get_or_insert(Self::NONE);
            match name {
                "image" => kinds.images = true,
                "container" => kinds.containers = true,
                "volume" => kinds.volumes = true,
                "build-cache" => kinds.build_cache = true,
                other => return Err(Error::invalid(format!("unknown object type: {other}"))),
            }
        }
        Ok(kinds.unwrap_or(Self::ALL))
    }
}

impl System {
    /// Measures what images, containers and volumes take up.
    ///
    /// API: `GET /system/df`
    ///
    /// # Errors
    /// When something cannot be measured.
    pub async fn disk_usage(&self, kinds: UsageKinds) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if kinds.images {
            usage.image_usage = Some(self.image_usage().await?);
        }
        if kinds.containers {
            usage.container_usage = Some(self.container_usage().await?);
        }
        if kinds.volumes {
            usage.volume_usage = Some(self.volume_usage().await?);
        }
        if kinds.build_cache {
            usage.build_cache_usage = Some(Usage::default());
        }
        Ok(usage)
    }

    async fn image_usage(&self) -> Result<Usage<ferry_api::image::Summary>> {
        let options = ImageOptions { shared_size: true, filters: Filters::default(), ..ImageOptions::default() };
        let items = self.images.list(options).await?;
        let (total, reclaimable) = self.images.measure().await?;
        Ok(Usage {
            total_count: as_i64(items.len()),
            active_count: as_i64(items.iter().filter(|image| image.containers > 0).count()),
            total_size: i64::try_from(total).unwrap_or(i64::MAX),
            reclaimable: i64::try_from(reclaimable).unwrap_or(i64::MAX),
            items,
        })
    }

    async fn container_usage(&self) -> Result<Usage<Container>> {
        let options = ContainerOptions { all: true, size: true, ..ContainerOptions::default() };
        let mut items = self.containers.list(options).await?;
        for item in &mut items {
            item.image_manifest_descriptor = None;
        }
        let is_active = |one: &&Container| matches!(one.state.as_str(), "running" | "paused" | "restarting");
        Ok(Usage {
            total_count: as_i64(items.len()),
            active_count: as_i64(items.iter().filter(is_active).count()),
            total_size: items.iter().map(|one| one.size_rw).sum(),
            reclaimable: items.iter().filter(|one| !is_active(one)).map(|one| one.size_rw).sum(),
            items,
        })
    }

    async fn volume_usage(&self) -> Result<Usage<ferry_api::volume::Volume>> {
        let items = self.volumes.usage().await?;
        let of = |volume: &ferry_api::volume::Volume| volume.usage_data.clone().unwrap_or_default();
        Ok(Usage {
            total_count: as_i64(items.len()),
            active_count: as_i64(items.iter().filter(|volume| of(volume).ref_count > 0).count()),
            total_size: items.iter().map(|volume| of(volume).size).sum(),
            reclaimable: items.iter().filter(|volume| of(volume).ref_count == 0).map(|volume| of(volume).size).sum(),
            items,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read() {
        assert_eq!(UsageKinds::parse([]).unwrap(), UsageKinds::ALL);
        let some = UsageKinds::parse(["image", "build-cache"]).unwrap();
        assert!(some.images && some.build_cache && !some.containers && !some.volumes);
        assert_eq!(UsageKinds::parse(["x"]).unwrap_err().text(), "unknown object type: x");
    }
}
