//! Networks.

use ferry_api::filters::Filters;
use ferry_api::network::{ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, PruneReport, Summary};
use http::Method;

use crate::connection::{Client, Raw, decode};
use crate::error::{Error, Result};
use crate::request::{Query, segment};

impl Client {
    /// API: `GET /networks`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<Summary>> {
        self.get("/networks", &Query::new().with_text("filters", &filters.to_parameter())).await
    }

    /// API: `GET /networks/{id}`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown network.
    pub async fn network_inspect(&self, id: &str, scope: &str, verbose: bool) -> Result<Raw> {
        let mut query = Query::new().with_text("scope", scope);
        if verbose {
            query = query.with("verbose", "true");
        }
        self.get_raw(&format!("/networks/{}", segment(id)), &query).await
    }

    /// API: `POST /networks/create`
    ///
    /// # Errors
    /// 400 for a bad configuration, 403 for what is predefined or overlaps, 404 for an unknown driver, 409 for a name that is taken.
    pub async fn network_create(&self, request: &CreateRequest) -> Result<CreateResponse> {
        self.post_json("/networks/create", &Query::new(), request).await
    }

    /// API: `DELETE /networks/{id}`
    ///
    /// # Errors
    /// 403 while containers are in it, 404 for an unknown network.
    pub async fn network_remove(&self, id: &str) -> Result<()> {
        self.delete(&format!("/networks/{}", segment(id)), &Query::new()).await.map(drop)
    }

    /// API: `POST /networks/{id}/connect`
    ///
    /// # Errors
    /// 403 where the container is in it already, 404 for an unknown network or container.
    pub async fn network_connect(&self, id: &str, request: &ConnectRequest) -> Result<()> {
        self.post_body(&format!("/networks/{}/connect", segment(id)), request).await
    }

    /// API: `POST /networks/{id}/disconnect`
    ///
    /// # Errors
    /// 403 where the container is not in it, 404 for an unknown network or container.
    pub async fn network_disconnect(&self, id: &str, request: &DisconnectRequest) -> Result<()> {
        self.post_body(&format!("/networks/{}/disconnect", segment(id)), request).await
    }

    /// API: `POST /networks/prune`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn network_prune(&self, filters: &Filters) -> Result<PruneReport> {
        let query = Query::new().with_text("filters", &filters.to_parameter());
        decode(&self.call(Method::POST, "/networks/prune", &query, None).await?)
    }

    /// Posts a document whose answer has no body.
    async fn post_body(&self, path: &str, body: &impl serde::Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::Decode(error.to_string()))?;
        self.call(Method::POST, path, &Query::new(), Some(bytes.into())).await.map(drop)
    }
}
