//! Further processes in containers.

use bytes::Bytes;
use ferry_api::exec::{CreateRequest, CreateResponse, Inspect, StartRequest};
use http::Method;

use crate::connection::Client;
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::request::{Query, segment};

impl Client {
    /// API: `POST /containers/{id}/exec`
    ///
    /// # Errors
    /// 409 for a container that does not run.
    pub async fn exec_create(&self, container: &str, request: &CreateRequest) -> Result<CreateResponse> {
        self.post_json(&format!("/containers/{}/exec", segment(container)), &Query::new(), request).await
    }

    /// API: `POST /exec/{id}/start`, attached.
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn exec_attach(&self, id: &str, request: &StartRequest) -> Result<Hijacked> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Decode(error.to_string()))?;
        self.hijack(&format!("/exec/{}/start", segment(id)), &Query::new(), Some(body.into())).await
    }

    /// API: `POST /exec/{id}/start`, detached.
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn exec_start(&self, id: &str, request: &StartRequest) -> Result<()> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Decode(error.to_string()))?;
        let path = format!("/exec/{}/start", segment(id));
        self.call(Method::POST, &path, &Query::new(), Some(Bytes::from(body))).await.map(drop)
    }

    /// API: `GET /exec/{id}/json`
    ///
    /// # Errors
    /// 404 for an unknown exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<Inspect> {
        self.get(&format!("/exec/{}/json", segment(id)), &Query::new()).await
    }

    /// API: `POST /exec/{id}/resize`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let query = Query::new().with("h", height.to_string()).with("w", width.to_string());
        self.post_empty(&format!("/exec/{}/resize", segment(id)), &query).await
    }
}
