//! Authentication towards one host: basic, or bearer tokens from the realm that the host names.
//!
//! Tokens are kept per scope until they expire or are refused. A token server answers one request at a time; the others wait
//! for its answer and share it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::Credentials;
use crate::challenge::{Bearer, Challenge, challenges};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::transport::{Answer, Ask, Transport};

/// Longest answer of a token server, in bytes.
const TOKEN_LIMIT: u64 = 1024 * 1024;
/// What token servers know this program as: the name that they have always heard.
const CLIENT_ID: &str = "docker";
/// How long a token is good for when its server does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// What is known about authenticating towards one host.
pub(crate) struct Authorizer {
    credentials: Option<Credentials>,
    scope: String,
    home: Home,
    state: Mutex<State>,
}

/// The registry for whose sake token servers are asked.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// `host[:port]`.
    authority: String,
    host: String,
    insecure: bool,
}

impl Home {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let host = endpoint.base.host_str().unwrap_or_default().to_owned();
        Self { authority: endpoint.host(), host, insecure: endpoint.insecure }
    }

    /// Tells whether a token server is as little to be proved as the registry: one on the same host, or one that is listed.
    fn lends_to(&self, transport: &Transport, realm: &Url) -> bool {
        transport.is_insecure(realm) || self.insecure && realm.host_str() == Some(&self.host)
    }
}

#[derive(Default)]
struct State {
    scheme: Option<Challenge>,
    tokens: HashMap<String, Token>,
    /// Whether some token was ever good enough here.
    worked: bool,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

impl Authorizer {
    /// `credentials` are those for this host; `scope` is what is asked for unless the host says otherwise.
    pub(crate) fn new(credentials: Option<Credentials>, scope: String, home: Home) -> Self {
        Self { credentials: credentials.filter(|given| !given.is_empty()), scope, home, state: Mutex::default() }
    }

    /// Returns what to send with a first request, as far as it is known.
    pub(crate) async fn authorization(&self, transport: &Transport) -> Result<Option<HeaderValue>> {
        if let Some(token) = self.credentials.as_ref().map(|given| &given.registry_token).filter(|it| !it.is_empty()) {
            return Ok(Some(secret(&format!("Bearer {token}"))?));
        }
        let mut state = self.state.lock().await;
        match state.scheme.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic().map(Some),
            Some(Challenge::Bearer(bearer)) => self.shared_token(transport, &bearer, &mut state).await.map(Some),
        }
    }

    /// Notes that a token was good enough.
    pub(crate) async fn worked(&self) {
        self.state.lock().await.worked = true;
    }

    /// Returns what to send after a refusal. `used` is what was sent, `refusals` how often something sent was refused.
    pub(crate) async fn renew(
        &self,
        transport: &Transport,
        answer: Answer,
        used: Option<&HeaderValue>,
        refusals: u32,
    ) -> Result<HeaderValue> {
        let Some(challenge) = challenges(answer.headers()).into_iter().next() else {
            return Err(answer.into_error().await);
        };
        let bearer = match &challenge {
            Challenge::Basic if used.is_some() => return Err(answer.into_error().await),
            Challenge::Basic => {
                self.state.lock().await.scheme = Some(challenge);
                return self.basic();
            }
            Challenge::Bearer(bearer) => bearer.clone(),
        };
        let mut state = self.state.lock().await;
        let final_refusal = match refusals {
            0 | 1 => false,
            // Tokens that work once are fetched for one request alone when sharing them does not do.
            2 => !state.worked,
            _ => true,
        };
        if final_refusal || used.is_some() && self.has_registry_token() {
            return Err(match bearer.error {
                Some(message) => Error::Denied { message },
                None => answer.into_error().await,
            });
        }
        state.scheme = Some(challenge);
        if refusals == 2 {
            return Ok(self.fetch(transport, &bearer).await?.header);
        }
        state.tokens.retain(|_, token| Some(&token.header) != used);
        self.shared_token(transport, &bearer, &mut state).await
    }

    fn has_registry_token(&self) -> bool {
        self.credentials.as_ref().is_some_and(|given| !given.registry_token.is_empty())
    }

    /// Returns user name and password as a header.
    pub(crate) fn basic(&self) -> Result<HeaderValue> {
        let given = self.credentials.as_ref().ok_or(Error::NoCredentials)?;
        secret(&basic(given))
    }

    // The state stays locked while the token server answers: that is what makes the others wait for one answer.
    async fn shared_token(&self, transport: &Transport, bearer: &Bearer, state: &mut State) -> Result<HeaderValue> {
        let scope = self.scope_of(bearer);
        if let Some(token) = state.tokens.get(&scope).filter(|token| token.good_until > Instant::now()) {
            return Ok(token.header.clone());
        }
        let token = self.fetch(transport, bearer).await?;
        state.tokens.insert(scope, token.clone());
        Ok(token.header)
    }

    /// Returns what is needed and what the host asks for, together.
    fn scope_of(&self, bearer: &Bearer) -> String {
        merged_scopes(&self.scope, bearer.scope.as_deref().unwrap_or_default())
    }

    /// Fetches a token that proves who the user is and allows nothing; returns it with the identity token that the server gives out.
    pub(crate) async fn log_in(&self, transport: &Transport, bearer: &Bearer) -> Result<(HeaderValue, String)> {
        let bearer = Bearer { scope: None, ..bearer.clone() };
        let mut ask = self.token_ask(transport, &bearer)?;
        match &mut ask.form {
            Some(form) => form.push_str("&access_type=offline"),
            None => {
                ask.url.query_pairs_mut().append_pair("client_id", CLIENT_ID).append_pair("offline_token", "true");
            }
        }
        let body = self.token_body(transport, ask).await?;
        let token = parse_token(&body)?;
        Ok((token.header, refresh_token(&body)))
    }

    async fn fetch(&self, transport: &Transport, bearer: &Bearer) -> Result<Token> {
        let ask = self.token_ask(transport, bearer)?;
        parse_token(&self.token_body(transport, ask).await?)
    }

    async fn token_body(&self, transport: &Transport, ask: Ask) -> Result<Vec<u8>> {
        let kind = if self.credentials.is_some() { "oauth" } else { "anonymous" };
        transport
            .config
            .retry
            .run(false, || async {
                let answer = transport.ask(ask.clone()).await?;
                if answer.status().is_success() {
                    answer.body(TOKEN_LIMIT).await
                } else {
                    Err(answer.into_error().await)
                }
            })
            .await
            .map_err(|source| Error::Token { kind, source: Box::new(source) })
    }

    fn token_ask(&self, transport: &Transport, bearer: &Bearer) -> Result<Ask> {
        let mut url = Url::parse(&bearer.realm)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
            .ok_or_else(|| Error::Challenge(format!("invalid token auth challenge realm {:?}", bearer.realm)))?;
        let insecure = self.home.lends_to(transport, &url);
        if self.credentials.is_some() && url.scheme() == "http" && !insecure {
            return Err(Error::Challenge(format!(
                "credentials are not sent to {:?}, which is not https",
                bearer.realm
            )));
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(bearer.service.as_deref().map(|service| ("service", service)));
        let scope = self.scope_of(bearer);
        let each_scope = || scope.split(' ').filter(|one| !one.is_empty()).map(|one| ("scope", one));
        let Some(given) = &self.credentials else {
            fields.extend(each_scope());
            url.query_pairs_mut().extend_pairs(fields);
            return Ok(self.ask_at(url, insecure));
        };
        if given.identity_token.is_empty() {
            fields.push(("account", given.username.as_str()));
            fields.extend(each_scope());
            url.query_pairs_mut().extend_pairs(fields);
            let authorization = Some(secret(&basic(given))?);
            return Ok(Ask { authorization, ..self.ask_at(url, insecure) });
        }
        fields.extend([
            ("scope", scope.as_str()),
            ("client_id", CLIENT_ID),
            ("grant_type", "refresh_token"),
            ("refresh_token", given.identity_token.as_str()),
        ]);
        // A base URL serves as the encoder of a form.
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut().extend_pairs(fields);
        let form = form.query().map(str::to_owned);
        Ok(Ask { method: Method::POST, form, ..self.ask_at(url, insecure) })
    }

    fn ask_at(&self, url: Url, insecure: bool) -> Ask {
        let on_behalf_of = Some(self.home.authority.clone());
        Ask { insecure, on_behalf_of, shows_identity: true, ..Ask::get(url) }
    }
}

/// Joins lists of `type:name:actions`, each thing once with all its actions.
fn merged_scopes(own: &str, asked: &str) -> String {
    let mut merged: Vec<(&str, Vec<&str>)> = Vec::new();
    for scope in own.split(' ').chain(asked.split(' ')).filter(|scope| !scope.is_empty()) {
        let (thing, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
        let at = merged.iter().position(|(known, _)| *known == thing).unwrap_or_else(|| {
            merged.push((thing, Vec::new()));
            merged.len() - 1
        });
        for action in actions.split(',') {
            if !action.is_empty() && !merged[at].1.contains(&action) {
                merged[at].1.push(action);
            }
        }
    }
    let write = |(thing, actions): &(&str, Vec<&str>)| match &actions[..] {
        [] => (*thing).to_owned(),
        actions => format!("{thing}:{}", actions.join(",")),
    };
    merged.iter().map(write).collect::<Vec<_>>().join(" ")
}

fn refresh_token(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        refresh_token: Option<String>,
    }
    serde_json::from_slice::<Body>(body).ok().and_then(|body| body.refresh_token).unwrap_or_default()
}

fn basic(given: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", given.username, given.password)))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::Challenge("the token has characters that a header cannot hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_token(body: &[u8]) -> Result<Token> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| Error::Challenge(format!("unable to decode token response: {error}")))?;
    let token =
        [body.token, body.access_token].into_iter().flatten().find(|token| !token.is_empty()).ok_or_else(|| {
            Error::Challenge("authorization server did not include a token in the response".to_owned())
        })?;
    let life = body.expires_in.filter(|&seconds| seconds > 0).map_or(DEFAULT_LIFE, Duration::from_secs);
    // Renewed a little early, since the clock of the registry decides. A day is as good as for ever.
    let life = life.min(Duration::from_secs(86_400)).mul_f64(0.9);
    Ok(Token { header: secret(&format!("Bearer {token}"))?, good_until: Instant::now() + life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_under_two_names() {
        for body in
            [r#"{"token":"t"}"#, r#"{"access_token":"t","expires_in":300}"#, r#"{"token":"","access_token":"t"}"#]
        {
            assert_eq!(parse_token(body.as_bytes()).unwrap().header, "Bearer t", "{body}");
        }
        assert!(parse_token(b"{}").is_err());
        assert!(parse_token(b"<html>").is_err());
    }

    #[test]
    fn scopes_are_joined() {
        for (own, asked, expected) in [
            ("repository:a:pull", "", "repository:a:pull"),
            ("repository:a:pull", "repository:a:pull", "repository:a:pull"),
            ("repository:a:pull,push", "repository:a:pull", "repository:a:pull,push"),
            ("repository:h:5/a:pull", "repository:b:pull,push", "repository:h:5/a:pull repository:b:pull,push"),
            ("", "", ""),
        ] {
            assert_eq!(merged_scopes(own, asked), expected);
        }
    }

    #[test]
    fn passwords_are_sent_over_plain_http_only_to_those_who_are_listed() {
        let credentials = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
        let insecure = vec!["listed.example".to_owned(), "10.0.0.0/8".to_owned()];
        let transport = Transport::new(crate::ClientConfig { insecure, ..crate::ClientConfig::default() });
        let ask = |registry: &str, realm: &str| {
            let endpoint = crate::endpoint::endpoints(registry, &crate::Mirrors::default(), transport.insecure());
            let home = Home::of(&endpoint.unwrap()[0]);
            let authorizer = Authorizer::new(Some(credentials.clone()), "s".into(), home);
            authorizer.token_ask(&transport, &Bearer { realm: realm.into(), ..Bearer::default() })
        };
        for (registry, realm, sent) in [
            ("example.org", "http://example.org/token", false),
            ("example.org", "http://elsewhere.example/token", false),
            ("example.org", "file:///token", false),
            ("example.org", "http://127.0.0.1:5/token", true),
            ("example.org", "http://10.1.2.3/token", true),
            ("listed.example", "http://listed.example:5001/token", true),
            ("listed.example", "http://elsewhere.example/token", false),
        ] {
            assert_eq!(ask(registry, realm).is_ok(), sent, "{registry} {realm}");
        }
        let ask = ask("example.org", "https://auth.example/token?x=1").unwrap();
        assert_eq!(ask.url.as_str(), "https://auth.example/token?x=1&account=u&scope=s");
        assert!(ask.authorization.is_some() && !ask.insecure && ask.shows_identity);
        assert_eq!(ask.on_behalf_of.as_deref(), Some("example.org"));
    }
}
