//! Volumes.

use ferry_api::filters::Filters;
use ferry_api::volume::{CreateRequest, ListResponse, PruneReport, Volume};
use http::Method;

use crate::connection::{Client, Raw, decode};
use crate::error::Result;
use crate::request::{Query, segment};

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

    /// API: `POST /volumes/prune`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<PruneReport> {
        let query = Query::new().with_text("filters", &filters.to_parameter());
        decode(&self.call(Method::POST, "/volumes/prune", &query, None).await?)
    }
}
