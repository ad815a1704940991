//! Searching: the one thing that Docker still asks the first version of the protocol for.
//!
//! Docker Hub is asked directly; another registry is first asked whether it speaks that version at all.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use serde::Deserialize;

use crate::client::Client;
use crate::endpoint::{Endpoint, HUB_NAME, endpoints};
use crate::error::{Error, Result};
use crate::token::{Authorizer, Home};
use crate::transport::{Ask, shown};
use crate::{Credentials, Mirrors, RetryPolicy};

/// Where Docker Hub is searched.
const HUB_SEARCH: &str = "https://index.docker.io/v1/";
/// Longest answer, in bytes.
const LIMIT: u64 = 4 << 20;

/// One repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// How often it was given a star.
    pub star_count: i64,
    /// Whether Docker looks after it.
    pub is_official: bool,
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: String,
}

impl Client {
    /// Searches a registry, `docker.io` for the Hub, for at most `limit` repositories.
    ///
    /// # Errors
    /// [`Error::SearchEndpoint`] for a registry that cannot be searched.
    pub async fn search(
        &self,
        registry: &str,
        term: &str,
        limit: u32,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>> {
        let endpoint = endpoints(registry, &Mirrors::default(), self.transport.insecure())?
            .pop()
            .expect("a registry is always one of its endpoints");
        let base = match registry == HUB_NAME {
            true => Url::parse(HUB_SEARCH).expect("the constant is a URL"),
            false => self.searchable(&endpoint).await?,
        };
        let mut url = base.join("search").map_err(|error| Error::Configuration(error.to_string()))?;
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let own = credentials.filter(|given| given.host(registry) == endpoint.host() && !given.username.is_empty());
        let authorization = match own {
            Some(given) if url.scheme() == "https" => {
                Some(Authorizer::new(Some(given.clone()), String::new(), Home::of(&endpoint)).basic()?)
            }
            _ => None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-docker-token"), HeaderValue::from_static("true"));
        let ask = Ask { headers, authorization, insecure: endpoint.insecure, ..Ask::get(url) };
        let policy: RetryPolicy = self.transport.config.retry;
        let body = policy
            .run(false, || async {
                let answer = self.transport.ask(ask.clone()).await?;
                if answer.status().is_success() {
                    return answer.body(LIMIT).await;
                }
                Err(answer.into_error().await)
            })
            .await?;
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            results: Option<Vec<Found>>,
        }
        let body: Body = serde_json::from_slice(&body).map_err(|error| Error::Protocol {
            url: shown(&ask.url),
            reason: format!("error decoding registry search results: {error}"),
        })?;
        Ok(body.results.unwrap_or_default())
    }

    /// Finds out how a registry's search can be reached.
    async fn searchable(&self, endpoint: &Endpoint) -> Result<Url> {
        let with_tls = first_version(&endpoint.base);
        let over_tls = match self.ping(&with_tls, endpoint.insecure).await {
            Ok(()) => return Ok(with_tls),
            Err(error) => error,
        };
        let host = endpoint.host();
        if !endpoint.insecure {
            return Err(Error::SearchEndpoint(format!(
                "invalid registry endpoint {with_tls}: {over_tls}. If this private registry supports only HTTP or HTTPS with an unknown CA \
                 certificate, add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have access to the \
                 registry's CA certificate, no need for the flag; place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
            )));
        }
        let plain = first_version(&endpoint.plain());
        self.ping(&plain, true).await.map_err(|error| {
            let text = format!(
                "invalid registry endpoint {:?}. HTTPS attempt: {over_tls}. HTTP attempt: {error}",
                plain.as_str()
            );
            Error::SearchEndpoint(text)
        })?;
        Ok(plain)
    }

    async fn ping(&self, base: &Url, insecure: bool) -> Result<()> {
        let url = base.join("_ping").map_err(|error| Error::Configuration(error.to_string()))?;
        // Any answer will do: that there is one is what counts.
        self.transport.ask(Ask { insecure, ..Ask::get(url) }).await.map(drop)
    }
}

fn first_version(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path("/v1/");
    url
}
