//! The daemon itself.

use ferry_api::filters::Filters;
use ferry_api::system::{DiskUsage, Usage};
use http::{HeaderMap, Method};

use crate::connection::{Client, Raw};
use crate::error::Result;
use crate::request::{Payload, Query};
use crate::stream::ByteStream;

/// Disk usage as daemons before 1.52 tell it.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OlderUsage {
    layers_size: i64,
    images: Option<Vec<ferry_api::image::Summary>>,
    containers: Option<Vec<ferry_api::container::Summary>>,
    volumes: Option<Vec<ferry_api::volume::Volume>>,
    build_cache: Option<Vec<ferry_api::system::BuildCache>>,
}

impl OlderUsage {
    fn into_newer(self) -> DiskUsage {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let images = self.images.unwrap_or_default();
        let containers = self.containers.unwrap_or_default();
        let volumes = self.volumes.unwrap_or_default();
        let cache = self.build_cache.unwrap_or_default();
        let runs =
            |one: &&ferry_api::container::Summary| matches!(one.state.as_str(), "running" | "paused" | "restarting");
        let of = |volume: &ferry_api::volume::Volume| volume.usage_data.clone().unwrap_or_default();
        DiskUsage {
            image_usage: Some(Usage {
                active_count: count(images.iter().filter(|image| image.containers > 0).count()),
                reclaimable: self.layers_size
                    - images
                        .iter()
                        .filter(|image| image.containers != 0)
                        .map(|image| image.size - image.shared_size.max(0))
                        .sum::<i64>(),
                total_count: count(images.len()),
                total_size: self.layers_size,
                items: images,
            }),
            container_usage: Some(Usage {
                active_count: count(containers.iter().filter(runs).count()),
                reclaimable: containers.iter().filter(|one| !runs(one)).map(|one| one.size_rw).sum(),
                total_count: count(containers.len()),
                total_size: containers.iter().map(|one| one.size_rw).sum(),
                items: containers,
            }),
            volume_usage: Some(Usage {
                active_count: count(volumes.iter().filter(|volume| of(volume).ref_count > 0).count()),
                reclaimable: volumes
                    .iter()
                    .filter(|volume| of(volume).ref_count == 0)
                    .map(|volume| of(volume).size)
                    .sum(),
                total_count: count(volumes.len()),
                total_size: volumes.iter().map(|volume| of(volume).size.max(0)).sum(),
                items: volumes,
            }),
            build_cache_usage: Some(Usage {
                active_count: count(cache.iter().filter(|record| record.in_use).count()),
                reclaimable: cache
                    .iter()
                    .filter(|record| !record.in_use && !record.shared)
                    .map(|record| record.size)
                    .sum(),
                total_count: count(cache.len()),
                total_size: cache.iter().filter(|record| !record.shared).map(|record| record.size).sum(),
                items: cache,
            }),
        }
    }
}

impl Client {
    /// API: `GET /system/storage`, ferry's own
    ///
    /// # Errors
    /// 404 from a daemon that is not ferry's.
    pub async fn storage(&self) -> Result<ferry_api::system::StorageFacts> {
        self.get("/system/storage", &Query::new()).await
    }

    /// API: `GET /system/df`; older daemons answer in another form, which is read as well.
    ///
    /// # Errors
    /// 400 for an unknown kind.
    pub async fn disk_usage(&self, verbose: bool) -> Result<DiskUsage> {
        let query = Query::new().with_flag("verbose", verbose);
        let raw = self.get_raw("/system/df", &query).await?;
        let is_newer = raw.value()?.get("ImageUsage").is_some();
        if is_newer { raw.typed() } else { Ok(raw.typed::<OlderUsage>()?.into_newer()) }
    }

    /// API: `GET /system/df` of one kind of objects.
    ///
    /// # Errors
    /// 400 for an unknown kind.
    pub async fn disk_usage_of(&self, kind: &str) -> Result<DiskUsage> {
        let query = Query::new().with("type", kind).with_flag("verbose", true);
        let raw = self.get_raw("/system/df", &query).await?;
        let is_newer = raw.value()?.get("BuildCacheUsage").is_some();
        if is_newer { raw.typed() } else { Ok(raw.typed::<OlderUsage>()?.into_newer()) }
    }

    /// API: `GET /version`, untouched.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn server_version(&self) -> Result<Raw> {
        self.get_raw("/version", &Query::new()).await
    }

    /// API: `GET /info`, untouched.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn info(&self) -> Result<Raw> {
        self.get_raw("/info", &Query::new()).await
    }

    /// API: `GET /events`
    ///
    /// # Errors
    /// 400 for a bad filter or time.
    pub async fn events(&self, since: &str, until: &str, filters: &Filters) -> Result<ByteStream> {
        let query = Query::new()
            .with_text("since", since)
            .with_text("until", until)
            .with_text("filters", &filters.to_parameter());
        self.stream(Method::GET, "/events", &query, HeaderMap::new(), Payload::empty()).await
    }
}
