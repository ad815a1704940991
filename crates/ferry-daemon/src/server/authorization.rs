//! Authorization plugins: each request, and each answer before it travels, is shown to them.
//!
//! They see what is executed: the path as it is read here, and the whole body of a JSON request, or the request is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_engine::plugins::Judged;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, StatusCode};

use super::socket::Peer;
use crate::app::App;
use crate::http::body::{Body, RequestBody};
use crate::http::error::ApiError;
use crate::http::reply::Outcome;
use crate::http::router::Target;

/// Most bytes of a body that a plugin is shown.
const BODY_LIMIT: usize = 4 << 20;
/// Headers with credentials.
const SECRET: [&str; 3] = ["authorization", "x-registry-config", "x-registry-auth"];

/// A request that the plugins have allowed, and what they were told.
pub(super) struct Allowed {
    pub(super) request: Request<RequestBody>,
    judged: Option<(Vec<String>, Judged)>,
}

/// Shows a request to the plugins.
pub(super) async fn allow(
    app: &App,
    request: Request<RequestBody>,
    target: &Target,
    peer: &Arc<Peer>,
) -> Result<Allowed, ApiError> {
    let names = app.engine.live_settings().authorization_plugins.clone();
    if names.is_empty() {
        return Ok(Allowed { request, judged: None });
    }
    let (head, mut body) = request.into_parts();
    let path = target.path();
    let is_shown = is_json(&head.headers) && !is_login(&path);
    let mut shown = String::new();
    if is_shown {
        let read =
            Limited::new(&mut body, BODY_LIMIT).collect().await.map_err(|error| refused_body(&*error))?.to_bytes();
        shown = STANDARD.encode(&read);
        body = body.replaced(read);
    }
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let judged = Judged {
        user: peer.common_name().unwrap_or_default(),
        user_authentication: if peer.certificates().is_empty() { String::new() } else { "TLS".to_owned() },
        request_method: head.method.to_string(),
        request_uri: format!("{path}{query}"),
        request_body: shown,
        request_headers: headers(&head.headers),
        request_peer_certificates: peer.certificates().iter().map(|der| STANDARD.encode(pem(der))).collect(),
        ..Judged::default()
    };
    app.engine.plugins.authorize(&names, &judged).await?;
    Ok(Allowed { request: Request::from_parts(head, body), judged: Some((names, judged)) })
}

impl Allowed {
    /// What is needed to show the answer.
    pub(super) fn into_parts(self) -> (Request<RequestBody>, Option<(Vec<String>, Judged)>) {
        (self.request, self.judged)
    }
}

/// Shows an answer to the plugins before it travels. A failure is told whatever they think of it.
pub(super) async fn allow_answer(app: &App, judged: Option<(Vec<String>, Judged)>, outcome: Outcome) -> Outcome {
    let Some((_, mut judged)) = judged else { return outcome };
    // Those that were switched off meanwhile are not asked.
    let names = app.engine.live_settings().authorization_plugins.clone();
    match &outcome {
        Ok(answer) => describe(&mut judged, answer),
        Err(error) => judged.response_status_code = error.status.as_u16(),
    }
    let verdict = app.engine.plugins.authorize(&names, &judged).await;
    match (outcome, verdict) {
        (Ok(_), Err(error)) => Err(error.into()),
        (outcome, _) => outcome,
    }
}

fn describe(judged: &mut Judged, answer: &Response<Body>) {
    judged.response_status_code = answer.status().as_u16();
    judged.response_headers = headers(answer.headers());
    if let Body::Full(Some(bytes)) = answer.body()
        && is_json(answer.headers())
        && !is_login(&judged.request_uri)
    {
        judged.response_body = STANDARD.encode(bytes);
    }
}

fn refused_body(error: &(dyn std::error::Error + Send + Sync + 'static)) -> ApiError {
    let text = if error.is::<LengthLimitError>() {
        format!("request body too large for authorization plugin: size exceeds {BODY_LIMIT} bytes")
    } else {
        format!("cannot read the request body: {error}")
    };
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Bodies with passwords are not shown.
fn is_login(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let is_version = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    let path = match path.split_once('/') {
        Some((version, rest)) if is_version(version) => rest,
        _ => path,
    };
    path.starts_with("auth")
}

fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = headers.iter().filter(|(name, _)| !SECRET.contains(&name.as_str()));
    shown
        .map(|(name, value)| (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// `Content-Type`, as Go writes names.
fn canonical(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for login in ["/auth", "/v1.41/auth", "/v1.41/auth/x"] {
            assert!(is_login(login), "{login}");
        }
        for other in ["/containers/auth/json", "/v1.41/info", "/vx/auth"] {
            assert!(!is_login(other), "{other}");
        }
        let mut map = HeaderMap::new();
        map.insert("x-registry-auth", "secret".parse().unwrap());
        map.insert("content-type", "application/json".parse().unwrap());
        assert_eq!(headers(&map), BTreeMap::from([("Content-Type".to_owned(), "application/json".to_owned())]));
    }
}
