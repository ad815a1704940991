//! Single exchanges and redirects: one HTTP client per kind of host, a bound on silence and on sizes.
//!
//! Knows nothing of registries. An `Authorization` header is sent to the origin it was made for and dropped at the first
//! redirect that leaves it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::ClientConfig;
use crate::endpoint::{Insecure, authority, is_insecure, is_loopback, same_origin};
use crate::error::{Error, NameLookupError, RegistryMessage, RequestFailure, Result};
use crate::retry::retry_after;
use crate::tls::{self, CertificateFiles};
use crate::upload::Upload;

/// Most redirects that one request follows.
const REDIRECT_LIMIT: usize = 10;
/// Longest head of an answer, in bytes.
const HEADERS_LIMIT: usize = 64 * 1024;
/// Most of an error body that is read, in bytes.
const ERROR_BODY_LIMIT: u64 = 64 * 1024;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Only for the origin of `url`.
    pub(crate) authorization: Option<HeaderValue>,
    /// A form, for token servers.
    pub(crate) form: Option<String>,
    /// Bytes to send.
    pub(crate) upload: Option<Upload>,
    /// Whether any certificate of `url`'s host will do.
    pub(crate) insecure: bool,
    /// The registry, as `host[:port]`, on whose behalf this is asked: who vouches for it may vouch for a host without files of its own.
    pub(crate) on_behalf_of: Option<String>,
    /// Whether that registry's client certificate may be shown.
    pub(crate) shows_identity: bool,
    /// Whether a digest vouches for the answer, so that it may come over plain HTTP.
    pub(crate) verified_later: bool,
}

impl Ask {
    /// Asks for `url` and nothing else.
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            form: None,
            upload: None,
            insecure: false,
            on_behalf_of: None,
            shows_identity: false,
            verified_later: false,
        }
    }
}

/// The head of an answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) method: Method,
    response: reqwest::Response,
    stall: std::time::Duration,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns the value of a header when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the announced length of the body; that of the whole for `HEAD`.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Returns the next bytes, or `None` at the end of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let stall = self.stall;
        match tokio::time::timeout(stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                let failure = match RequestFailure::of(&error, "", 0) {
                    RequestFailure::Broken(text) => RequestFailure::Broken(text),
                    other => RequestFailure::Broken(other.to_string()),
                };
                Err(failed(&self.method, self.response.url(), failure))
            }
            Err(_) => Err(failed(&self.method, self.response.url(), RequestFailure::Stalled(stall))),
        }
    }

    /// Reads the whole body, refusing more than `limit` bytes.
    pub(crate) async fn body(mut self, limit: u64) -> Result<Vec<u8>> {
        let too_large = |url: &Url| Error::TooLarge { what: shown(url), limit };
        if self.method != Method::HEAD && self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(self.url()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large(self.url()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Turns an answer with an unwelcome status into an error, with what its body says.
    pub(crate) async fn into_error(self) -> Error {
        let method = if self.method == Method::HEAD { "HEAD" } else { shouted(&self.method) };
        let (url, status) = (shown(self.url()), self.status());
        let retry_after = retry_after(self.headers(), Timestamp::now());
        // The status says enough when the body cannot be read.
        let body = self.body(ERROR_BODY_LIMIT).await.unwrap_or_default();
        Error::Status { method, url, status, messages: RegistryMessage::parse_all(&body), retry_after }
    }
}

/// Sends requests.
pub(crate) struct Transport {
    pub(crate) config: ClientConfig,
    /// Connections that may help others to a large blob, over all blobs.
    pub(crate) helpers: Arc<Semaphore>,
    insecure: Vec<Insecure>,
    clients: Mutex<HashMap<Profile, reqwest::Client>>,
}

/// What two hosts must have in common to share a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Profile {
    certificates: Option<CertificateFiles>,
    shows_identity: bool,
    verify: bool,
    direct: bool,
}

impl Profile {
    /// Tells whether this is what `other` was, before somebody changed certificates.
    fn replaces(&self, other: &Self) -> bool {
        match (&self.certificates, &other.certificates) {
            (Some(new), Some(old)) => new != old && new.is_of_the_host_of(old),
            _ => false,
        }
    }
}

impl Transport {
    pub(crate) fn new(config: ClientConfig) -> Self {
        let insecure = config.insecure.iter().map(|text| Insecure::parse(text)).collect();
        let helpers = Arc::new(Semaphore::new(config.ranges.helpers));
        Self { config, helpers, insecure, clients: Mutex::default() }
    }

    /// Tells whether the host of a URL is one that need not prove who it is.
    pub(crate) fn is_insecure(&self, url: &Url) -> bool {
        is_insecure(url, &self.insecure)
    }

    pub(crate) fn insecure(&self) -> &[Insecure] {
        &self.insecure
    }

    /// Makes a request, following redirects; any status is an answer.
    pub(crate) async fn ask(&self, mut ask: Ask) -> Result<Answer> {
        let origin = ask.url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.exchange(&ask).await?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let target = redirect_target(&answer, ask.verified_later)?;
            if !same_origin(&target, &origin) {
                ask.authorization = None;
                ask.shows_identity = false;
                ask.insecure = self.is_insecure(&target);
            }
            ask.url = target;
        }
        let reason = format!("stopped after {REDIRECT_LIMIT} redirects");
        Err(Error::Redirect { url: shown(&ask.url), reason })
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer> {
        let client = self.client(ask)?;
        let mut request = client.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        if let Some(authorization) = &ask.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(form) = &ask.form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.clone());
        }
        if let Some(upload) = &ask.upload {
            request = request.header(CONTENT_LENGTH, upload.length).body(upload.body());
        }
        let stall = self.config.timeouts.stall;
        let response = match while_it_moves(stall, ask.upload.as_ref(), request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let host = ask.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
                let port = ask.url.port_or_known_default().unwrap_or_default();
                return Err(failed(&ask.method, &ask.url, RequestFailure::of(&error, host, port)));
            }
            Err(_) => return Err(failed(&ask.method, &ask.url, RequestFailure::Stalled(stall))),
        };
        let head: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if head > HEADERS_LIMIT {
            let what = format!("the head of {}", shown(&ask.url));
            return Err(Error::TooLarge { what, limit: HEADERS_LIMIT as u64 });
        }
        Ok(Answer { method: ask.method.clone(), response, stall })
    }

    fn client(&self, ask: &Ask) -> Result<reqwest::Client> {
        let direct = is_loopback(&ask.url);
        let (certificates, shows_identity) = self.certificates(ask);
        let profile = Profile { certificates, shows_identity, verify: !(ask.insecure || direct), direct };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = self.build(&profile)?;
        clients.retain(|known, _| !profile.replaces(known));
        clients.insert(profile, client.clone());
        Ok(client)
    }

    /// Finds the files that count for a request, and whether the client certificate among them is meant for it.
    fn certificates(&self, ask: &Ask) -> (Option<CertificateFiles>, bool) {
        if ask.url.scheme() != "https" {
            return (None, false);
        }
        let folders = &self.config.certificates;
        if let Some(own) = CertificateFiles::of(folders, &authority(&ask.url)) {
            return (Some(own), true);
        }
        let of_registry = ask.on_behalf_of.as_ref().and_then(|host| CertificateFiles::of(folders, host));
        (of_registry, ask.shows_identity)
    }

    fn build(&self, profile: &Profile) -> Result<reqwest::Client> {
        let tls = tls::client_config(&tls::Wanted {
            files: profile.certificates.as_ref(),
            authorities: self.config.authorities.as_ref(),
            shows_identity: profile.shows_identity,
            verify: profile.verify,
        })?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.config.timeouts.connect)
            .http1_only()
            .referer(false)
            .no_proxy()
            .dns_resolver(SystemResolver);
        if !profile.direct {
            for proxy in self.proxies()? {
                builder = builder.proxy(proxy);
            }
        }
        builder.build().map_err(|error| Error::Configuration(format!("cannot set up HTTP: {error}")))
    }

    fn proxies(&self) -> Result<Vec<reqwest::Proxy>> {
        let proxies = &self.config.proxies;
        let exceptions = proxies.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        let unusable = |error: reqwest::Error| Error::Configuration(format!("cannot use the proxy: {error}"));
        let mut found = Vec::new();
        if let Some(url) = proxies.http.as_deref().filter(|url| !url.is_empty()) {
            found.push(reqwest::Proxy::http(url).map_err(unusable)?.no_proxy(exceptions.clone()));
        }
        if let Some(url) = proxies.https.as_deref().filter(|url| !url.is_empty()) {
            found.push(reqwest::Proxy::https(url).map_err(unusable)?.no_proxy(exceptions));
        }
        Ok(found)
    }
}

/// Waits for an answer as long as `upload` gets on; without one, no longer than `stall`.
async fn while_it_moves<T>(
    stall: Duration,
    upload: Option<&Upload>,
    work: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    let taken = || upload.map_or(0, Upload::taken);
    let mut work = std::pin::pin!(work);
    loop {
        let before = taken();
        match tokio::time::timeout(stall, &mut work).await {
            Err(_) if taken() != before => {}
            outcome => return outcome,
        }
    }
}

fn redirect_target(answer: &Answer, verified_later: bool) -> Result<Url> {
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| format!("{} response missing Location header", answer.status().as_u16()));
    location
        .and_then(|location| target_of(answer.url(), location, verified_later))
        .map_err(|reason| Error::Redirect { url: shown(answer.url()), reason })
}

/// Returns where a redirect leads, or why it is not followed.
fn target_of(from: &Url, location: &str, verified_later: bool) -> Result<Url, String> {
    let mut target = from.join(location).map_err(|error| format!("invalid redirect to {location:?}: {error}"))?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(format!("redirect to {:?}, which is neither http nor https", target.scheme()));
    }
    if from.scheme() == "https" && target.scheme() == "http" && !verified_later {
        return Err("redirect from https to http".to_owned());
    }
    // User info in a redirect would become credentials that nobody stored.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Ok(target)
}

/// Returns a URL as it may be shown: without user info and without the signature in its query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

fn shouted(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        _ => "GET",
    }
}

fn failed(method: &Method, url: &Url, failure: RequestFailure) -> Error {
    // Go's `net/http` writes methods this way in its errors.
    let method = match method.as_str() {
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        _ => "Get",
    };
    Error::Request { method, url: shown(url), failure }
}

/// Looks names up as the system does, with an error that [`RequestFailure::of`] knows.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|error| {
                let text = error.to_string();
                let reason = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason);
                let unknown = reason.contains("not known") || reason.contains("No address");
                NameLookupError(if unknown { "no such host" } else { reason }.to_owned())
            })?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_to_the_rules() {
        let from = |scheme: &str| Url::parse(&format!("{scheme}://r.example/v2/a/blobs/x")).unwrap();
        for (scheme, location, verified_later, expected) in [
            ("https", "/other", false, Ok("https://r.example/other")),
            ("https", "https://user:secret@s.example/x?sig=1", false, Ok("https://s.example/x?sig=1")),
            ("https", "http://s.example/x", false, Err("redirect from https to http")),
            ("https", "http://s.example/x", true, Ok("http://s.example/x")),
            ("http", "http://s.example/x", false, Ok("http://s.example/x")),
            ("https", "file:///etc/passwd", true, Err("redirect to \"file\", which is neither http nor https")),
            ("https", "https://", true, Err("invalid redirect to \"https://\": empty host")),
        ] {
            let found = target_of(&from(scheme), location, verified_later).map(|url| url.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{scheme} {location}");
        }
    }
}
