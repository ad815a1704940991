//! One request to one host of a repository: scheme, authentication, and what statuses mean.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;

use crate::client::{Host, Inner};
use crate::endpoint::same_origin;
use crate::error::{Error, RequestFailure, Result};
use crate::transport::{Answer, Ask, shown};
use crate::upload::Upload;

/// Query parameter that tells a mirror which registry is meant.
const NAMESPACE: &str = "ns";

/// What is asked of a host.
pub(crate) struct Wanted<'a> {
    pub(crate) method: Method,
    /// Below the repository: `manifests/latest`, `blobs/sha256:…`.
    pub(crate) what: String,
    pub(crate) headers: &'a HeaderMap,
    /// Whether a digest vouches for the answer.
    pub(crate) verified_later: bool,
}

impl Inner {
    /// Asks `host`, authenticating as it demands. Any status but one for missing authentication is an answer.
    pub(crate) async fn ask(&self, host: &Host, wanted: &Wanted<'_>) -> Result<Answer> {
        self.ask_with(host, wanted, None, None).await
    }

    /// As [`Inner::ask`], with a body, or at a URL that the host has named. Another host gets no credentials.
    pub(crate) async fn ask_with(
        &self,
        host: &Host,
        wanted: &Wanted<'_>,
        upload: Option<Upload>,
        url: Option<Url>,
    ) -> Result<Answer> {
        // Another request may find out meanwhile; what counts is how this one was made.
        let was_plain = host.plain.load(Ordering::Relaxed);
        let first = self.ask_as_is(host, wanted, &upload, &url).await;
        let fall_back = match &first {
            Err(error) => url.is_none() && host.may_fall_back(was_plain, error),
            Ok(_) => false,
        };
        let answer = if fall_back {
            host.plain.store(true, Ordering::Relaxed);
            self.ask_as_is(host, wanted, &upload, &url).await
        } else {
            first
        };
        if answer.is_ok() {
            host.contacted.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn ask_as_is(
        &self,
        host: &Host,
        wanted: &Wanted<'_>,
        upload: &Option<Upload>,
        url: &Option<Url>,
    ) -> Result<Answer> {
        let transport = &self.transport;
        let home = self.url(host, "")?;
        let url = match url {
            Some(url) => url.clone(),
            None => self.url(host, &wanted.what)?,
        };
        let is_home = same_origin(&url, &home);
        let mut ask = Ask {
            method: wanted.method.clone(),
            headers: wanted.headers.clone(),
            insecure: if is_home { host.endpoint.insecure } else { transport.is_insecure(&url) },
            on_behalf_of: Some(host.endpoint.host()),
            shows_identity: is_home,
            verified_later: wanted.verified_later,
            upload: upload.clone(),
            ..Ask::get(url)
        };
        if !is_home {
            return transport.ask(ask).await;
        }
        ask.authorization = host.authorizer.authorization(transport).await?;
        let mut refusals = 0;
        loop {
            let answer = transport.ask(ask.clone()).await?;
            let refused = answer.status() == StatusCode::UNAUTHORIZED && same_origin(answer.url(), &ask.url);
            if !refused {
                if ask.authorization.is_some() && answer.status().as_u16() < 400 {
                    host.authorizer.worked().await;
                }
                return Ok(answer);
            }
            refusals += u32::from(ask.authorization.is_some());
            let renewed = host.authorizer.renew(transport, answer, ask.authorization.as_ref(), refusals).await?;
            ask.authorization = Some(renewed);
        }
    }

    fn url(&self, host: &Host, what: &str) -> Result<Url> {
        let base = if host.plain.load(Ordering::Relaxed) { host.endpoint.plain() } else { host.endpoint.base.clone() };
        let mut url = base
            .join(&format!("{}/{what}", self.path))
            .map_err(|error| Error::Configuration(format!("invalid repository {:?}: {error}", self.name)))?;
        if let Some(registry) = &host.endpoint.mirror_of {
            url.query_pairs_mut().append_pair(NAMESPACE, registry);
        }
        Ok(url)
    }
}

impl Host {
    /// Tells whether the next try should be made without TLS: the host is insecure and has nothing that speaks TLS.
    fn may_fall_back(&self, was_plain: bool, error: &Error) -> bool {
        let untried = !was_plain && self.endpoint.base.scheme() == "https";
        // Without a port in its name, plain HTTP would be at another one.
        let closed = self.endpoint.base.port().is_none()
            && matches!(error, Error::Request { failure: RequestFailure::Connect { .. }, .. });
        untried && self.endpoint.insecure && (error.is_plain_http() || closed)
    }
}

/// Lets answers with content through and makes errors of the others. `what` is how the thing is called when it is missing.
pub(crate) async fn expect_content(answer: Answer, what: impl FnOnce(&Answer) -> String) -> Result<Answer> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND => Err(Error::NotFound { what: what(&answer) }),
        _ => Err(answer.into_error().await),
    }
}

/// Names a missing thing by its URL, as containerd does.
pub(crate) fn content_at(answer: &Answer) -> String {
    format!("content at {} not found", shown(answer.url()))
}
