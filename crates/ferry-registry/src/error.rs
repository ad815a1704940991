//! What goes wrong with a registry, in the words that Docker's clients know.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use ferry_spec::Digest;
use ferry_tls::rustls;
use serde::Deserialize;

/// Result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer came, or not a whole one.
    #[error("failed to do request: {method} \"{url}\": {failure}")]
    Request {
        /// `Get`, `Head` or `Post`.
        method: &'static str,
        /// What was asked for, without credentials and signatures.
        url: String,
        /// Why there is no answer.
        failure: RequestFailure,
    },
    /// The registry has no such thing.
    #[error("{what}: not found")]
    NotFound {
        /// Reference or URL.
        what: String,
    },
    /// The registry does not let this user at it.
    #[error(
        "pull access denied, repository does not exist or may require authorization: server message: {message}: authorization failed"
    )]
    Denied {
        /// What the registry says, `insufficient_scope` for the Hub.
        message: String,
    },
    /// The registry wants user name and password, and there are none.
    #[error(
        "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"
    )]
    NoCredentials,
    /// The registry does not let this user write.
    #[error("push access denied, repository does not exist or may require authorization: {message}")]
    PushDenied {
        /// What the registry says.
        message: String,
    },
    /// The registry does not take these credentials.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// Where they were shown.
        url: String,
        /// What it answered.
        status: http::StatusCode,
    },
    /// The token server of a registry does not take these credentials.
    #[error("Get {url:?}: {}", login_reason(source))]
    LoginToken {
        /// The registry.
        url: String,
        /// What the token server answered.
        #[source]
        source: Box<Error>,
    },
    /// Another status than hoped for.
    #[error("unexpected status from {method} request to {url}: {status}{}", Listed(messages))]
    Status {
        /// `GET`, `HEAD` or `POST`.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The status.
        status: http::StatusCode,
        /// What the registry says about it.
        messages: Vec<RegistryMessage>,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
    /// No token could be had.
    #[error("failed to authorize: failed to fetch {kind} token")]
    Token {
        /// `anonymous` or `oauth`.
        kind: &'static str,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The way to authenticate that the registry asks for is unknown or unsafe.
    #[error("failed to authorize: {0}")]
    Challenge(String),
    /// Content that is not what its digest says.
    #[error("failed commit on ref \"{what}\": unexpected commit digest {actual}, expected {expected}")]
    Digest {
        /// What was fetched.
        what: String,
        /// What came.
        actual: Digest,
        /// What was asked for.
        expected: Digest,
    },
    /// The registry's own word about a digest disagrees.
    #[error("{url}: the registry says {header} in Docker-Content-Digest, expected {expected}")]
    DigestHeader {
        /// What was fetched.
        url: String,
        /// What the header holds.
        header: String,
        /// What was asked for.
        expected: Digest,
    },
    /// Content of another length than its descriptor says.
    #[error("{url}: unexpected size {actual}, expected {expected}")]
    Size {
        /// What was fetched.
        url: String,
        /// How much came or was announced, at least.
        actual: u64,
        /// What the descriptor says.
        expected: u64,
    },
    /// All of a blob, where a part of it was asked for.
    #[error("{url}: the registry sends the whole instead of a range")]
    RangeIgnored {
        /// What was fetched.
        url: String,
    },
    /// More than will be read.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was fetched.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// An answer that is no manifest.
    #[error("{url}: unexpected media type {media_type} for a manifest")]
    MediaType {
        /// What was fetched.
        url: String,
        /// What came.
        media_type: String,
    },
    /// Too many redirects, or one that may not be followed.
    #[error("{url}: {reason}")]
    Redirect {
        /// Where the redirect stood.
        url: String,
        /// Why it was not followed.
        reason: String,
    },
    /// An answer that is not of the protocol.
    #[error("{url}: {reason}")]
    Protocol {
        /// What was fetched.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A registry that cannot be searched.
    #[error("{0}")]
    SearchEndpoint(String),
    /// The client's configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
}

/// Why a request got no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// The host's name is not known.
    #[error("dial tcp: lookup {host}: {reason}")]
    NameLookup {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// The host does not take the connection.
    #[error("dial tcp {address}: {reason}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why, as Go words it.
        reason: String,
    },
    /// The connection is not secure.
    #[error("{0}")]
    Tls(String),
    /// The host speaks plain HTTP where TLS was expected.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainHttp,
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("no progress for {} seconds", .0.as_secs_f64())]
    Stalled(Duration),
}

/// One entry of a registry's error body.
///
/// Spec: OCI distribution, error codes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegistryMessage {
    /// `DENIED`, `TOOMANYREQUESTS`, …
    #[serde(default)]
    pub code: String,
    /// Text for people.
    #[serde(default)]
    pub message: String,
    /// More of it, of any form; only texts are for people.
    #[serde(default)]
    pub detail: serde_json::Value,
}

impl RegistryMessage {
    /// Reads the entries of an error body; other bodies have none.
    pub(crate) fn parse_all(body: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<RegistryMessage>,
        }
        #[derive(Deserialize)]
        struct TokenBody {
            details: String,
        }
        if let Ok(body) = serde_json::from_slice::<Body>(body) {
            return body.errors;
        }
        // The Hub's token server has a form of its own.
        serde_json::from_slice::<TokenBody>(body)
            .map(|body| {
                let (code, message) = ("UNAUTHORIZED".to_owned(), "authentication required".to_owned());
                vec![Self { code, message, detail: body.details.into() }]
            })
            .unwrap_or_default()
    }

    /// Returns what is to be told to people: the text, else the code in words, and the detail when it is a text.
    #[must_use]
    pub fn text(&self) -> String {
        let text = match self.message.as_str() {
            "" => self.code.to_ascii_lowercase().replace('_', " "),
            message => message.to_owned(),
        };
        match self.detail.as_str() {
            Some(detail) if !detail.is_empty() => format!("{text} - {detail}"),
            _ => text,
        }
    }
}

impl fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        match (code.is_empty(), self.message.is_empty()) {
            (_, true) => f.write_str(&code),
            (true, false) => f.write_str(&self.message),
            (false, false) => write!(f, "{code}: {}", self.message),
        }
    }
}

/// Repeats what a token server said, or why there is nothing to repeat.
fn login_reason(source: &Error) -> String {
    match source.messages() {
        [] => source.to_string(),
        messages => messages.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

struct Listed<'a>(&'a [RegistryMessage]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|message| write!(f, ": {message}"))
    }
}

impl Error {
    /// Tells whether the registry could not be reached at all: its name is unknown or no connection comes about.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Request { failure, .. } => {
                matches!(failure, RequestFailure::NameLookup { .. } | RequestFailure::Connect { .. })
            }
            Self::Token { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }

    /// Tells whether the same request may succeed a little later.
    ///
    /// A host that was `contacted` before may be restarting when it takes no connection.
    pub(crate) fn may_pass(&self, contacted: bool) -> bool {
        match self {
            Self::Request { failure, .. } => match failure {
                RequestFailure::Broken(_) => true,
                RequestFailure::Connect { .. } => contacted,
                _ => false,
            },
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
            // The token server was asked often enough already.
            _ => false,
        }
    }

    /// Tells whether the transfer broke, rather than bringing something that nobody should have.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Request { .. } | Self::Status { .. } | Self::Token { .. })
    }

    /// Returns how long the registry asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Token { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Returns what the registry said, if anything.
    #[must_use]
    pub fn messages(&self) -> &[RegistryMessage] {
        match self {
            Self::Status { messages, .. } => messages,
            Self::Token { source, .. } | Self::LoginToken { source, .. } => source.messages(),
            _ => &[],
        }
    }

    /// Tells that the peer speaks plain HTTP on a port that was tried with TLS.
    pub(crate) fn is_plain_http(&self) -> bool {
        matches!(self, Self::Request { failure: RequestFailure::PlainHttp, .. })
    }
}

impl RequestFailure {
    /// Finds out what a transport error means. `host` and `port` are where the request went.
    pub(crate) fn of(error: &reqwest::Error, host: &str, port: u16) -> Self {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let causes = Causes::of(error);
        if let Some(lookup) = causes.name_lookup {
            return Self::NameLookup { host: host.to_owned(), reason: lookup };
        }
        if let Some(tls) = causes.tls {
            return crate::tls::failure(&tls);
        }
        if error.is_connect() {
            let reason = if error.is_timeout() {
                "i/o timeout".to_owned()
            } else {
                causes.io.map_or_else(|| causes.last.clone(), |kind| io_reason("connect", kind, &causes.last))
            };
            return Self::Connect { address, reason };
        }
        Self::Broken(causes.io.map_or_else(|| causes.last.clone(), |kind| io_reason("read", kind, &causes.last)))
    }
}

fn io_reason(call: &str, kind: io::ErrorKind, text: &str) -> String {
    match kind {
        io::ErrorKind::ConnectionRefused => format!("{call}: connection refused"),
        io::ErrorKind::ConnectionReset => format!("{call}: connection reset by peer"),
        io::ErrorKind::HostUnreachable => format!("{call}: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("{call}: network is unreachable"),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        _ => text.to_owned(),
    }
}

/// A look-up that failed, recognisable in the chain of a transport error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NameLookupError(pub(crate) String);

/// What the chain of a transport error holds.
#[derive(Default)]
struct Causes {
    name_lookup: Option<String>,
    tls: Option<rustls::Error>,
    io: Option<io::ErrorKind>,
    last: String,
}

impl Causes {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut causes = Self::default();
        let mut current = Some(error);
        while let Some(error) = current {
            causes.last = error.to_string();
            if let Some(lookup) = error.downcast_ref::<NameLookupError>() {
                causes.name_lookup = Some(lookup.0.clone());
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                causes.tls = Some(tls.clone());
            }
            current = match error.downcast_ref::<io::Error>() {
                // `io::Error::source` skips the error that it wraps.
                Some(io) => {
                    causes.io = Some(io.kind());
                    io.get_ref().map(|inner| inner as &(dyn StdError + 'static))
                }
                None => error.source(),
            };
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_messages_read_as_docker_prints_them() {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit."}]}"#;
        let messages = RegistryMessage::parse_all(body);
        assert_eq!(messages[0].to_string(), "toomanyrequests: You have reached your unauthenticated pull rate limit.");
        assert_eq!(RegistryMessage::parse_all(b"<html>"), []);
        assert_eq!(
            RegistryMessage::parse_all(br#"{"details":"incorrect username or password"}"#)[0].text(),
            "authentication required - incorrect username or password"
        );
        let denied = br#"{"errors":[{"code":"DENIED","detail":[{"Type":"repository"}]}]}"#;
        assert_eq!(RegistryMessage::parse_all(denied)[0].text(), "denied");
    }
}
