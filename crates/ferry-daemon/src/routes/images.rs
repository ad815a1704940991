//! `/images`: pull, import, load, list, inspect, tag, remove.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use ferry_api::image::{AuthConfig, RegistryAccess};
use ferry_api::json;
use ferry_api::stream::JsonMessage;
use ferry_api::version::Reply;
use ferry_engine::compare::CompareRequest;
use ferry_engine::images::{
    Access, AttestationOptions, CollectRequest, Credentials, ImportRequest, JsonMessageStream, ListOptions,
    PullRequest, PushRequest,
};
use ferry_spec::Platform;
use futures_util::{Stream, TryStreamExt};
use http_body_util::BodyDataStream;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;

use crate::http::body::{Body, BodySender, Gone, RequestBody};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post};
use crate::streams;

/// base64 for URLs, with or without padding: clients send both.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/images/json", list),
        post("/images/create", create),
        get("/images/search", search),
        get("/images/get", save),
        post("/images/load", load),
        post("/images/prune", prune),
        post("/images/collect", collect),
        get("/images/{name:.*}/json", inspect),
        get("/images/{name:.*}/attestations", attestations),
        get("/images/{name:.*}/layers", layers),
        get("/compare", compare),
        get("/images/{name:.*}/get", save),
        get("/images/{name:.*}/history", history),
        post("/images/{name:.*}/push", push),
        post("/images/{name:.*}/tag", tag),
        delete("/images/{name:.*}", remove),
        post("/auth", login),
        get("/distribution/{name:.*}/json", distribution),
    ]
}

async fn list(call: Call) -> Outcome {
    let manifests = call.at_least(47) && call.query.flag("manifests");
    let identity = call.at_least(54) && call.query.flag("identity");
    if identity && !manifests {
        return Err(ApiError::invalid("conflicting options: identity requires manifests=1"));
    }
    let mut filters = call.filters()?;
    if !call.at_least(25) && !filters.contains("reference") {
        // The only filter there was, then.
        if let Some(reference) = call.query.non_empty("filter") {
            filters.add("reference", reference);
        }
    }
    let options = ListOptions {
        all: call.query.flag("all"),
        filters,
        digests: call.query.flag("digests"),
        shared_size: call.at_least(42) && call.query.flag("shared-size"),
        manifests,
        identity,
    };
    let images = call.app.engine.images.list(options).await?;
    reply::shaped(Reply::ImageSummary, call.version, &images)
}

async fn create(call: Call) -> Outcome {
    let platform = if call.at_least(32) { platform_by_name(call.query.get("platform"))? } else { None };
    match call.query.non_empty("fromImage") {
        Some(image) => {
            let request = PullRequest {
                // `pull -a` sends the name with a colon at its end.
                reference: image.strip_suffix(':').unwrap_or(image).to_owned(),
                tag: call.query.non_empty("tag").map(str::to_owned),
                platform,
                auth: credentials(call.header("x-registry-auth")),
                access: access(call.header("x-ferry-registry-access"))?,
                ..PullRequest::default()
            };
            let progress = call.app.engine.images.pull(request).await?;
            Ok(progress_stream(call, progress))
        }
        None => import(call, platform).await,
    }
}

async fn import(call: Call, platform: Option<Platform>) -> Outcome {
    match call.query.get("fromSrc") {
        "-" => {}
        "" => return Err(ApiError::invalid("neither `fromImage` nor `fromSrc` was given")),
        url => return import_url(&call, url, platform).await,
    }
    let request = import_request(&call, "-", platform);
    let Call { app, peer, request: http, .. } = call;
    request.check()?;
    let id = app.engine.images.import(body_stream(http.into_body()), request).await?;
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(JsonMessage { status: id, ..JsonMessage::default() });
    Ok(streams::stream_body(peer, reply::JSON, |body| send_progress(body, receiver)))
}

async fn import_url(call: &Call, url: &str, platform: Option<Platform>) -> Outcome {
    let request = import_request(call, url, platform);
    let progress = call.app.engine.images.import_url(url, request).await?;
    Ok(streams::stream_body(Arc::clone(&call.peer), reply::JSON, |body| send_progress(body, progress)))
}

fn import_request(call: &Call, source: &str, platform: Option<Platform>) -> ImportRequest {
    let default = format!("Imported from {source}");
    ImportRequest {
        repository: call.query.get("repo").to_owned(),
        tag: call.query.get("tag").to_owned(),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        message: call.query.non_empty("message").map_or(default, str::to_owned),
        platform,
    }
}

async fn load(call: Call) -> Outcome {
    let platforms = archive_platforms(&call)?;
    let quiet = call.query.flag_or("quiet", true);
    let Call { app, peer, request, .. } = call;
    let progress = app.engine.images.load(body_stream(request.into_body()), quiet, platforms).await;
    Ok(streams::stream_body(peer, reply::JSON, |body| send_progress(body, progress)))
}

async fn save(call: Call) -> Outcome {
    let names: Vec<String> = match call.value("name") {
        "" => call.query.all("names").map(str::to_owned).collect(),
        name => vec![name.to_owned()],
    };
    let platforms = archive_platforms(&call)?;
    let mut archive = call.app.engine.images.save(names, platforms).await?;
    Ok(streams::stream_body(call.peer, HeaderValue::from_static("application/x-tar"), |body| async move {
        while let Some(piece) = archive.recv().await {
            body.send(piece).await?;
        }
        Ok(())
    }))
}

/// Reads the platforms of `save` and `load`, which older versions have one of, or none.
fn archive_platforms(call: &Call) -> Result<Vec<Platform>, ApiError> {
    if !call.at_least(48) {
        return Ok(Vec::new());
    }
    if !call.at_least(52) && call.query.all("platform").count() > 1 {
        return Err(ApiError::invalid(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later",
        ));
    }
    call.query.all("platform").map(platform_by_json).filter_map(Result::transpose).collect()
}

pub(super) fn body_stream(body: RequestBody) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    BodyDataStream::new(body).map_err(io::Error::other)
}

pub(super) fn progress_stream(call: Call, progress: JsonMessageStream) -> hyper::Response<Body> {
    streams::stream_body(call.peer, reply::JSON, |body| send_progress(body, progress))
}

/// Sends messages as Docker does: each a line of its own, ended in the way of HTTP.
async fn send_progress(body: BodySender, mut progress: JsonMessageStream) -> Result<(), Gone> {
    while let Some(message) = progress.recv().await {
        match json::to_string_html(&message) {
            Ok(text) => body.send(text + "\r\n").await?,
            Err(error) => tracing::error!(%error, "cannot write a progress message"),
        }
    }
    Ok(())
}

async fn prune(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.images.prune(call.filters()?).await?)
}

/// Ferry's own: removes what nobody used for long.
async fn collect(call: Call) -> Outcome {
    let query = &call.query;
    let (unused_for, keep_last) = (query.get("unused-for"), query.get("keep-last"));
    let request = CollectRequest::parse(unused_for, keep_last, query.get("budget"), query.flag("dry-run"))?;
    reply::json(StatusCode::OK, &call.app.engine.images.collect_unused(request).await?)
}

/// Ferry's own: what the layers of an image hold.
async fn layers(call: Call) -> Outcome {
    let platform = platform_by_json(call.query.get("platform"))?;
    reply::json(StatusCode::OK, &call.app.engine.images.explore(call.value("name"), platform).await?)
}

/// Ferry's own: what is different between two images or containers.
async fn compare(call: Call) -> Outcome {
    let request = CompareRequest {
        from: call.query.get("from").to_owned(),
        to: call.query.get("to").to_owned(),
        platform: platform_by_json(call.query.get("platform"))?,
        auth: credentials(call.header("x-registry-auth")),
    };
    reply::json(StatusCode::OK, &call.app.engine.compare.compare(request).await?)
}

async fn inspect(call: Call) -> Outcome {
    let manifests = call.at_least(48) && call.query.flag("manifests");
    let platform = if call.at_least(49) { platform_by_json(call.query.get("platform"))? } else { None };
    if manifests && platform.is_some() {
        return Err(ApiError::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let mut image = call.app.engine.images.inspect(call.value("name"), platform.as_ref()).await?;
    if !manifests {
        image.manifests.clear();
    }
    if !call.at_least(53) {
        image.identity = None;
    }
    reply::shaped(Reply::ImageInspect, call.version, &image)
}

async fn history(call: Call) -> Outcome {
    let platform = if call.at_least(48) { platform_by_json(call.query.get("platform"))? } else { None };
    reply::json(StatusCode::OK, &call.app.engine.images.history(call.value("name"), platform.as_ref()).await?)
}

async fn attestations(call: Call) -> Outcome {
    if call.query.all("platform").count() > 1 {
        return Err(ApiError::invalid("only one platform value is currently supported"));
    }
    let options = AttestationOptions {
        platform: platform_by_json(call.query.get("platform"))?,
        types: call.query.all("type").map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        statement: call.query.flag("statement"),
    };
    reply::json(StatusCode::OK, &call.app.engine.images.attestations(call.value("name"), options).await?)
}

async fn push(call: Call) -> Outcome {
    // Older clients could send it, and older engines left it alone.
    let platform = if call.at_least(46) { platform_by_json(call.query.get("platform"))? } else { None };
    let request = PushRequest {
        reference: call.value("name").to_owned(),
        tag: call.query.get("tag").to_owned(),
        platform,
        auth: credentials(call.header("x-registry-auth")),
        access: access(call.header("x-ferry-registry-access"))?,
        target: None,
    };
    let progress = call.app.engine.images.push(request).await?;
    Ok(progress_stream(call, progress))
}

async fn login(mut call: Call) -> Outcome {
    let auth: AuthConfig = call.json().await?;
    let credentials = from_auth(auth).unwrap_or_default();
    reply::json(StatusCode::OK, &call.app.engine.images.login(&credentials).await?)
}

async fn distribution(call: Call) -> Outcome {
    let auth = credentials(call.header("x-registry-auth"));
    reply::json(StatusCode::OK, &call.app.engine.images.distribution(call.value("name"), auth).await?)
}

async fn search(call: Call) -> Outcome {
    let filters = call.filters()?;
    let limit = match call.query.non_empty("limit") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            ApiError::invalid(format!("invalid limit specified: strconv.Atoi: parsing {text:?}: invalid syntax"))
        })?,
    };
    let auth = credentials(call.header("x-registry-auth"));
    reply::json(StatusCode::OK, &call.app.engine.images.search(call.query.get("term"), limit, &filters, auth).await?)
}

async fn tag(call: Call) -> Outcome {
    call.app.engine.images.tag(call.value("name"), call.query.get("repo"), call.query.get("tag")).await?;
    Ok(reply::status(StatusCode::CREATED))
}

async fn remove(call: Call) -> Outcome {
    if call.value("name").trim().is_empty() {
        return Err(ApiError::invalid("image name cannot be blank"));
    }
    let platforms = if call.at_least(50) {
        call.query.all("platforms").map(platform_by_json).filter_map(Result::transpose).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let (force, prune) = (call.query.flag("force"), !call.query.flag("noprune"));
    let removed = call.app.engine.images.remove(call.value("name"), force, prune, platforms).await?;
    reply::json(StatusCode::OK, &removed)
}

/// Reads `os[/arch[/variant]]`.
fn platform_by_name(text: &str) -> Result<Option<Platform>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    Platform::parse(text).map(Some).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Reads a platform in its JSON form.
fn platform_by_json(text: &str) -> Result<Option<Platform>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let platform: Platform = json::from_slice(text.as_bytes())
        .map_err(|error| ApiError::invalid(format!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() && platform.architecture.is_empty() && platform.variant.is_some() {
        return Err(ApiError::invalid("optional platform fields provided, but OS and Architecture are missing"));
    }
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(ApiError::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(platform))
}

/// Reads `X-Registry-Auth`. Docker takes what it cannot read as nobody, and so does this.
pub(super) fn credentials(header: &str) -> Option<Credentials> {
    let bytes = BASE64.decode(header.trim()).ok()?;
    from_auth(json::from_slice(&bytes).ok()?)
}

/// Reads how the registry is to be reached.
fn access(header: &str) -> Result<Access, ApiError> {
    let header = header.trim();
    if header.is_empty() {
        return Ok(Access::default());
    }
    let bytes = BASE64.decode(header).ok();
    // Read strictly, not as Go would: a wish for another way to a registry must not be passed over.
    let access: Option<RegistryAccess> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let access =
        access.ok_or_else(|| ApiError::invalid("X-Ferry-Registry-Access is not base64 of what it should hold"))?;
    Ok(Access { plain_http: access.plain_http, authorities: access.authorities })
}

pub(super) fn from_auth(auth: AuthConfig) -> Option<Credentials> {
    let (mut username, mut password) = (auth.username, auth.password);
    if username.is_empty() && !auth.auth.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        (username, password) = text.split_once(':').map(|(user, secret)| (user.to_owned(), secret.to_owned()))?;
    }
    Some(Credentials {
        username,
        password,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
        server_address: auth.serveraddress,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_padded_or_not() {
        let json = br#"{"username":"u","password":"p?>","serveraddress":"r.example"}"#;
        let padded = BASE64.encode(json);
        for header in [padded.clone(), padded.trim_end_matches('=').to_owned()] {
            let found = credentials(&header).unwrap();
            assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p?>"));
            assert_eq!(found.server_address, "r.example");
        }
        assert!(credentials("").is_none() && credentials("???").is_none());
    }

    #[test]
    fn an_access_is_read_or_refused() {
        assert_eq!(access("").unwrap(), Access::default());
        let read = access(&BASE64.encode(br#"{"plainHttp":true,"authorities":"PEM"}"#)).unwrap();
        assert_eq!(read, Access { plain_http: true, authorities: "PEM".to_owned() });
        for wrong in ["???", &BASE64.encode("{"), &BASE64.encode(r#"{"other":true}"#)] {
            assert_eq!(access(wrong).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn platforms_have_two_forms() {
        assert!(platform_by_name("").unwrap().is_none());
        assert_eq!(platform_by_name("linux/arm64").unwrap().unwrap().architecture, "arm64");
        assert_eq!(platform_by_json(r#"{"os":"linux","architecture":"amd64"}"#).unwrap().unwrap().os, "linux");
        assert_eq!(platform_by_json("{").unwrap_err().status, StatusCode::BAD_REQUEST);
        assert_eq!(
            platform_by_json(r#"{"os":"linux"}"#).unwrap_err().message,
            "both OS and Architecture must be provided"
        );
    }
}
