//! Checking credentials against a registry.

use http::StatusCode;
use reqwest::Url;

use crate::challenge::{Challenge, challenges};
use crate::client::Client;
use crate::endpoint::{Endpoint, HUB_HOST, HUB_NAME, endpoints};
use crate::error::{Error, Result};
use crate::token::{Authorizer, Home};
use crate::transport::{Answer, Ask, Transport, shown};
use crate::{Credentials, Mirrors};

impl Client {
    /// Logs in at the registry that the credentials are for, Docker Hub when they name none. Returns the identity token that the registry
    /// gives out to be kept instead of the password, or nothing.
    ///
    /// # Errors
    /// [`Error::Token`] or [`Error::Login`] for credentials that are not good enough.
    pub async fn login(&self, credentials: &Credentials) -> Result<String> {
        let registry = server_name(&credentials.server_address);
        let endpoint = endpoints(&registry, &Mirrors::default(), self.transport.insecure())?
            .pop()
            .expect("a registry is always one of its endpoints");
        match login_at(&self.transport, endpoint.base.clone(), &endpoint, credentials).await {
            Err(error) if endpoint.insecure && endpoint.base.scheme() == "https" && !is_refusal(&error) => {
                tracing::debug!(%error, "login over TLS failed at an insecure registry, trying without");
                login_at(&self.transport, endpoint.plain(), &endpoint, credentials).await
            }
            outcome => outcome,
        }
    }
}

/// Tells whether the registry was heard, and said no.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Login { .. } | Error::LoginToken { .. } | Error::Challenge(_) | Error::NoCredentials)
}

/// Returns the registry's name in an address as `login` takes it.
fn server_name(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "" | "docker.io" | "index.docker.io" | HUB_HOST => HUB_NAME.to_owned(),
        host => host.to_owned(),
    }
}

async fn login_at(transport: &Transport, url: Url, endpoint: &Endpoint, credentials: &Credentials) -> Result<String> {
    let on_behalf_of = Some(endpoint.host());
    let ask = Ask { insecure: endpoint.insecure, on_behalf_of, shows_identity: true, ..Ask::get(url.clone()) };
    let first = transport.ask(ask.clone()).await?;
    let Some(challenge) = challenges(first.headers()).into_iter().next() else {
        return finish(first, String::new());
    };
    let authorizer = Authorizer::new(Some(credentials.clone()), String::new(), Home::of(endpoint));
    let (authorization, identity_token) = match &challenge {
        Challenge::Basic => (authorizer.basic()?, String::new()),
        Challenge::Bearer(bearer) => authorizer.log_in(transport, bearer).await.map_err(|error| at(&url, error))?,
    };
    let answer = transport.ask(Ask { authorization: Some(authorization), ..ask }).await?;
    finish(answer, identity_token)
}

fn finish(answer: Answer, identity_token: String) -> Result<String> {
    match answer.status() {
        StatusCode::OK => Ok(identity_token),
        status => Err(Error::Login { url: shown(answer.url()), status }),
    }
}

/// Names the registry that sent the user to a token server.
fn at(url: &Url, error: Error) -> Error {
    match error {
        Error::Token { source, .. } => Error::LoginToken { url: shown(url), source },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_many_forms() {
        for (address, name) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://example.org:5000/v2/", "example.org:5000"),
        ] {
            assert_eq!(server_name(address), name, "{address}");
        }
    }
}
