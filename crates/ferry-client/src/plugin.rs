//! Managed plugins.

use std::io;

use bytes::Bytes;
use ferry_api::filters::Filters;
use ferry_api::plugin::{Plugin, Privilege};
use futures_util::Stream;
use http::{HeaderMap, Method};

use crate::connection::{Client, Raw, json_headers};
use crate::error::{Error, Result};
use crate::image::auth_header;
use crate::request::{Payload, Query, segment, streamed};
use crate::stream::ByteStream;

impl Client {
    /// API: `GET /plugins`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn plugin_list(&self, filters: &Filters) -> Result<Vec<Plugin>> {
        self.get("/plugins", &Query::new().with_text("filters", &filters.to_parameter())).await
    }

    /// API: `GET /plugins/{name}/json`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown plugin.
    pub async fn plugin_inspect(&self, name: &str) -> Result<Raw> {
        self.get_raw(&format!("/plugins/{}/json", segment(name)), &Query::new()).await
    }

    /// API: `DELETE /plugins/{name}`
    ///
    /// # Errors
    /// 409 for a plugin that runs or is used.
    pub async fn plugin_remove(&self, name: &str, force: bool) -> Result<()> {
        let query = Query::new().with_flag("force", force);
        self.delete(&format!("/plugins/{}", segment(name)), &query).await.map(drop)
    }

    /// API: `POST /plugins/{name}/enable`
    ///
    /// # Errors
    /// What the plugin or the daemon says.
    pub async fn plugin_enable(&self, name: &str, timeout_s: i64) -> Result<()> {
        let query = Query::new().with("timeout", timeout_s.to_string());
        self.call(Method::POST, &format!("/plugins/{}/enable", segment(name)), &query, None).await.map(drop)
    }

    /// API: `POST /plugins/{name}/disable`
    ///
    /// # Errors
    /// 409 for a plugin that is used.
    pub async fn plugin_disable(&self, name: &str, force: bool) -> Result<()> {
        let query = Query::new().with_flag("force", force);
        self.call(Method::POST, &format!("/plugins/{}/disable", segment(name)), &query, None).await.map(drop)
    }

    /// API: `POST /plugins/{name}/set`
    ///
    /// # Errors
    /// 500 for what may not be set.
    pub async fn plugin_set(&self, name: &str, args: &[String]) -> Result<()> {
        let path = format!("/plugins/{}/set", segment(name));
        self.call(Method::POST, &path, &Query::new(), Some(json(&args)?)).await.map(drop)
    }

    /// API: `GET /plugins/privileges`; `auth` is the ready `X-Registry-Auth` value.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn plugin_privileges(&self, remote: &str, auth: &str) -> Result<Vec<Privilege>> {
        let query = Query::new().with("remote", remote);
        let list: Option<Vec<Privilege>> =
            self.get_with_headers("/plugins/privileges", &query, auth_header(auth)?).await?;
        Ok(list.unwrap_or_default())
    }

    /// API: `POST /plugins/pull`
    ///
    /// # Errors
    /// 400 for a name that is taken; everything later is told in the stream.
    pub async fn plugin_pull(
        &self,
        remote: &str,
        name: &str,
        privileges: &[Privilege],
        auth: &str,
    ) -> Result<ByteStream> {
        let query = Query::new().with("remote", remote).with("name", name);
        let body = Payload::Whole(json(&privileges)?);
        self.stream(Method::POST, "/plugins/pull", &query, headers(auth)?, body).await
    }

    /// API: `POST /plugins/{name}/upgrade`
    ///
    /// # Errors
    /// 409 for a plugin that runs; everything later is told in the stream.
    pub async fn plugin_upgrade(
        &self,
        name: &str,
        remote: &str,
        privileges: &[Privilege],
        auth: &str,
    ) -> Result<ByteStream> {
        let query = Query::new().with("remote", remote);
        let path = format!("/plugins/{}/upgrade", segment(name));
        let body = Payload::Whole(json(&privileges)?);
        self.stream(Method::POST, &path, &query, headers(auth)?, body).await
    }

    /// API: `POST /plugins/{name}/push`
    ///
    /// # Errors
    /// 404 for an unknown plugin; everything later is told in the stream.
    pub async fn plugin_push(&self, name: &str, auth: &str) -> Result<ByteStream> {
        let path = format!("/plugins/{}/push", segment(name));
        self.stream(Method::POST, &path, &Query::new(), auth_header(auth)?, Payload::empty()).await
    }

    /// API: `POST /plugins/create`
    ///
    /// # Errors
    /// 409 for a name that is taken, 500 for what is no plugin.
    pub async fn plugin_create(
        &self,
        name: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let query = Query::new().with("name", name);
        self.stream(Method::POST, "/plugins/create", &query, HeaderMap::new(), streamed(archive)).await.map(drop)
    }
}

fn json(value: &impl serde::Serialize) -> Result<Bytes> {
    Ok(serde_json::to_vec(value).map_err(|error| Error::Decode(error.to_string()))?.into())
}

/// Of a request with JSON and credentials.
fn headers(auth: &str) -> Result<HeaderMap> {
    let mut headers = json_headers();
    headers.extend(auth_header(auth)?);
    Ok(headers)
}
