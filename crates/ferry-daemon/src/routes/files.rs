//! Files of containers: archives in and out, exports, changes, commits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::container::{Config, PathStat};
use ferry_api::json;
use ferry_engine::containers::{ArchiveStream, CommitOptions, UnpackOptions};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;

use super::images::body_stream;
use crate::http::body::{Body, Gone};
use crate::http::call::Call;
use crate::http::encoding::{Encoding, Packer};
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, get, post, route};
use crate::streams;

/// What `HEAD` and `GET` say about the path.
const PATH_STAT: &str = "x-docker-container-path-stat";

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::HEAD, "/containers/{name:.*}/archive", stat),
        get("/containers/{name:.*}/archive", read),
        route(Method::PUT, "/containers/{name:.*}/archive", write),
        get("/containers/{name:.*}/export", export),
        get("/containers/{name:.*}/changes", changes),
        post("/commit", commit),
    ]
}

/// The path that an archive is about.
fn path(call: &Call) -> Result<&str, ApiError> {
    call.query.non_empty("path").ok_or_else(|| ApiError::invalid("bad parameter: path cannot be empty"))
}

async fn stat(call: Call) -> Outcome {
    let stat = call.app.engine.containers.stat_path(call.value("name"), path(&call)?).await?;
    let mut response = reply::status(StatusCode::OK);
    tell(&mut response, &stat)?;
    Ok(response)
}

async fn read(call: Call) -> Outcome {
    let (stat, archive) = call.app.engine.containers.read_archive(call.value("name"), path(&call)?).await?;
    let encoding = Encoding::accepted(call.header("accept-encoding"));
    let mut response = archive_body(call, archive, HeaderValue::from_static("application/x-tar"), encoding);
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    tell(&mut response, &stat)?;
    Ok(response)
}

fn tell(response: &mut Response<Body>, stat: &PathStat) -> Result<(), ApiError> {
    let failed = |error: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let text = serde_json::to_vec(stat).map_err(|error| failed(error.to_string()))?;
    let value = HeaderValue::from_str(&STANDARD.encode(text)).map_err(|error| failed(error.to_string()))?;
    response.headers_mut().insert(PATH_STAT, value);
    Ok(())
}

async fn write(call: Call) -> Outcome {
    let options = UnpackOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let (name, path) = (call.value("name").to_owned(), path(&call)?.to_owned());
    let Call { app, request, .. } = call;
    let body = body_stream(request.into_body());
    app.engine.containers.write_archive(&name, &path, options, body).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn export(call: Call) -> Outcome {
    let archive = call.app.engine.containers.export(call.value("name")).await.map_err(|error| {
        let error = ApiError::from(error);
        match error.status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                let message = format!("Error exporting container {}: {}", call.value("name"), error.message);
                ApiError { message, ..error }
            }
            _ => error,
        }
    })?;
    Ok(archive_body(call, archive, HeaderValue::from_static("application/octet-stream"), None))
}

fn archive_body(
    call: Call,
    archive: ArchiveStream,
    content_type: HeaderValue,
    encoding: Option<Encoding>,
) -> Response<Body> {
    let mut response =
        streams::stream_body(call.peer, content_type.clone(), |body| send(Packer::new(body, encoding), archive));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

async fn send(mut body: Packer, mut archive: ArchiveStream) -> Result<(), Gone> {
    while let Some(piece) = archive.next().await {
        tokio::select! {
            sent = body.send(piece) => sent?,
            () = archive.until_removed() => return Err(Gone),
        }
    }
    body.finish().await
}

async fn changes(call: Call) -> Outcome {
    let changes = call.app.engine.containers.changes(call.value("name")).await?;
    // Docker's list of nothing is none at all.
    reply::json(StatusCode::OK, &Some(changes).filter(|changes| !changes.is_empty()))
}

/// The body of a commit; clients send `null` for a container's own configuration.
#[derive(Default)]
struct CommitBody(Option<Config>);

impl<'de> Deserialize<'de> for CommitBody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match value {
            serde_json::Value::Null => Ok(Self(None)),
            value if value.as_object().is_some_and(serde_json::Map::is_empty) => Ok(Self(None)),
            value => json::from_value(value).map(|config| Self(Some(config))).map_err(serde::de::Error::custom),
        }
    }
}

async fn commit(mut call: Call) -> Outcome {
    let CommitBody(config) = call.json_or_default().await?;
    let options = CommitOptions {
        repository: call.query.get("repo").to_owned(),
        tag: call.query.get("tag").to_owned(),
        comment: call.query.get("comment").to_owned(),
        author: call.query.get("author").to_owned(),
        pause: call.query.flag_or("pause", true),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        config,
    };
    let id = call.app.engine.containers.commit(call.query.get("container"), options).await?;
    reply::json(StatusCode::CREATED, &serde_json::json!({ "Id": id }))
}
