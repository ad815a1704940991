//! Volumes.

use std::io;

use bytes::Bytes;
use ferry_api::filters::Filters;
use ferry_api::volume::{CreateRequest, ListResponse, PruneReport, Volume, VolumeUse};
use futures_util::Stream;
use http::{HeaderMap, Method};

use crate::connection::{Client, Raw, decode};
use crate::error::Result;
use crate::request::{Payload, Query, segment, streamed};
use crate::stream::ByteStream;

/// How a volume is copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeCopy<'a> {
    /// Name of the copy; empty is made up for a snapshot.
    pub to: &'a str,
    /// Note whose snapshot it is.
    pub snapshot: bool,
    /// Pause containers that could write to it meanwhile.
    pub pause: bool,
    /// Copy it though containers could write to it.
    pub live: bool,
}

impl Client {
    /// API: `GET /volumes`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn volume_list(&self, filters: &Filters) -> Result<ListResponse> {
        self.get("/volumes", &Query::new().with_text("filters", &filters.to_parameter())).await
    }

    /// API: `POST /volumes/create`
    ///
    /// # Errors
    /// 400 for a bad name or an unknown driver.
    pub async fn volume_create(&self, request: &CreateRequest) -> Result<Volume> {
        self.post_json("/volumes/create", &Query::new(), request).await
    }

    /// API: `GET /volumes/{name}`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown volume.
    pub async fn volume_inspect(&self, name: &str) -> Result<Raw> {
        self.get_raw(&format!("/volumes/{}", segment(name)), &Query::new()).await
    }

    /// API: `DELETE /volumes/{name}`
    ///
    /// # Errors
    /// 409 for a volume in use.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let query = Query::new().with_flag("force", force);
        self.delete(&format!("/volumes/{}", segment(name)), &query).await.map(drop)
    }

    /// API: `POST /volumes/{name}/copy`, ferry's own
    ///
    /// # Errors
    /// 404 for an unknown volume, 409 for a name that is taken and while containers may write to it.
    pub async fn volume_copy(&self, name: &str, copy: &VolumeCopy<'_>) -> Result<Volume> {
        let query = Query::new().with_text("to", copy.to).with_flag("snapshot", copy.snapshot);
        let query = query.with_flag("pause", copy.pause).with_flag("live", copy.live);
        decode(&self.call(Method::POST, &format!("/volumes/{}/copy", segment(name)), &query, None).await?)
    }

    /// API: `POST /volumes/{name}/rename`, ferry's own
    ///
    /// # Errors
    /// 409 for a name that is taken, and while a container runs with it.
    pub async fn volume_rename(&self, name: &str, to: &str) -> Result<()> {
        let query = Query::new().with("to", to);
        self.call(Method::POST, &format!("/volumes/{}/rename", segment(name)), &query, None).await.map(drop)
    }

    /// API: `GET /volumes/{name}/archive`, ferry's own
    ///
    /// # Errors
    /// 404 for an unknown volume.
    pub async fn volume_export(&self, name: &str) -> Result<ByteStream> {
        let path = format!("/volumes/{}/archive", segment(name));
        self.stream(Method::GET, &path, &Query::new(), HeaderMap::new(), Payload::empty()).await
    }

    /// API: `PUT /volumes/{name}/archive`, ferry's own
    ///
    /// # Errors
    /// 404 for an unknown volume, 409 while a container runs with it, and where it has files that are not to be replaced, 500 for what is no
    /// archive.
    pub async fn volume_import(
        &self,
        name: &str,
        replace: bool,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let path = format!("/volumes/{}/archive", segment(name));
        let query = Query::new().with_flag("replace", replace);
        self.stream(Method::PUT, &path, &query, HeaderMap::new(), streamed(archive)).await.map(drop)
    }

    /// API: `GET /volumes/{name}/usage`, ferry's own
    ///
    /// # Errors
    /// 404 for an unknown volume.
    pub async fn volume_use(&self, name: &str) -> Result<VolumeUse> {
        self.get(&format!("/volumes/{}/usage", segment(name)), &Query::new()).await
    }

    /// API: `POST /volumes/prune`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<PruneReport> {
        let query = Query::new().with_text("filters", &filters.to_parameter());
        decode(&self.call(Method::POST, "/volumes/prune", &query, None).await?)
    }
}
