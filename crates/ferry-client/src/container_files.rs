//! Files of containers.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ferry_api::container::{FilesystemChange, PathStat};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::connection::{Client, decode};
use crate::error::{Error, Result};
use crate::request::{Payload, Query, segment, streamed};
use crate::stream::ByteStream;

/// How to commit.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Repository to name the image; empty for none.
    pub repository: String,
    /// Tag, `latest` when empty.
    pub tag: String,
    /// Comment in the history.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Its processes are frozen meanwhile.
    pub pause: bool,
    /// Dockerfile instructions for the configuration.
    pub changes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Committed {
    id: String,
}

impl Client {
    /// API: `HEAD /containers/{id}/archive`
    ///
    /// # Errors
    /// 404 for an unknown container or path.
    pub async fn container_stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        let query = Query::new().with("path", path);
        let address = archive(id);
        let (sender, response) = self.send(Method::HEAD, &address, &query, HeaderMap::new(), Payload::empty()).await?;
        let stat = path_stat(&response)?;
        // Nothing follows the head of an answer to this method.
        drop(response);
        self.give_back(sender);
        Ok(stat)
    }

    /// API: `GET /containers/{id}/archive`
    ///
    /// # Errors
    /// 404 for an unknown container or path.
    pub async fn container_read_archive(&self, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let query = Query::new().with("path", path);
        let (sender, response) =
            self.send(Method::GET, &archive(id), &query, HeaderMap::new(), Payload::empty()).await?;
        let stat = path_stat(&response)?;
        Ok((stat, ByteStream::new(sender, response)))
    }

    /// API: `PUT /containers/{id}/archive`
    ///
    /// # Errors
    /// 404 for an unknown container or path, 400 for what is no folder or must not be written.
    pub async fn container_write_archive(
        &self,
        id: &str,
        path: &str,
        no_overwrite: bool,
        copy_uid_gid: bool,
        tarball: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let mut query = Query::new().with("path", path).with("noOverwriteDirNonDir", no_overwrite.to_string());
        if copy_uid_gid {
            query = query.with("copyUIDGID", "true");
        }
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        let mut answer = self.stream(Method::PUT, &archive(id), &query, headers, streamed(tarball)).await?;
        while answer.next().await?.is_some() {}
        Ok(())
    }

    /// API: `GET /containers/{id}/export`
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_export(&self, id: &str) -> Result<ByteStream> {
        let path = format!("/containers/{}/export", segment(id));
        self.stream(Method::GET, &path, &Query::new(), HeaderMap::new(), Payload::empty()).await
    }

    /// API: `GET /containers/{id}/changes`
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        let path = format!("/containers/{}/changes", segment(id));
        let changes: Option<Vec<FilesystemChange>> = self.get(&path, &Query::new()).await?;
        Ok(changes.unwrap_or_default())
    }

    /// API: `POST /commit`. Returns the id of the image.
    ///
    /// # Errors
    /// 404 for an unknown container, 400 for a name or change that is none.
    pub async fn container_commit(&self, id: &str, options: &CommitOptions) -> Result<String> {
        let mut query = Query::new()
            .with("container", id)
            .with("repo", options.repository.clone())
            .with("tag", options.tag.clone())
            .with("comment", options.comment.clone())
            .with("author", options.author.clone());
        for change in &options.changes {
            query = query.with("changes", change.clone());
        }
        if !options.pause {
            query = query.with("pause", "0");
        }
        let body = Bytes::from_static(b"null");
        let answer: Committed = decode(&self.call(Method::POST, "/commit", &query, Some(body)).await?)?;
        Ok(answer.id)
    }
}

fn archive(id: &str) -> String {
    format!("/containers/{}/archive", segment(id))
}

fn path_stat(response: &Response<Incoming>) -> Result<PathStat> {
    let value = response.headers().get("x-docker-container-path-stat");
    let value = value.ok_or_else(|| Error::Decode("the answer does not say what the path is".to_owned()))?;
    let json = STANDARD.decode(value.as_bytes()).map_err(|error| Error::Decode(error.to_string()))?;
    decode(&json)
}
