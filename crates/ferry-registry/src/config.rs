//! What a client is made with.

use std::path::PathBuf;
use std::time::Duration;

use ferry_tls::Certificates;

use crate::error::{Error, Result};
use crate::{Mirrors, RetryPolicy};

/// Settings of a client, all values; the daemon's configuration fills them.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// URLs tried in order before the registries that they mirror.
    pub mirrors: Mirrors,
    /// `insecure-registries`: `host[:port]` or CIDR. Loopback addresses always count as insecure.
    pub insecure: Vec<String>,
    /// Proxies; loopback addresses are never reached through one.
    pub proxies: Proxies,
    /// Where `<host[:port]>/*.crt`, `*.cert` and `*.key` lie; the first folder that knows a host counts for it.
    pub certificates: Vec<PathBuf>,
    /// Authorities that are believed besides those of the host and of these folders.
    pub authorities: Option<Certificates>,
    /// Whether registries, though not their mirrors, are spoken to without TLS.
    pub plain_http: bool,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Patience.
    pub timeouts: Timeouts,
    /// How failures that may pass are met.
    pub retry: RetryPolicy,
    /// When a blob comes by several connections.
    pub ranges: RangePolicy,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            mirrors: Mirrors::default(),
            insecure: Vec::new(),
            proxies: Proxies::default(),
            certificates: ["/etc/ferry/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).into(),
            authorities: None,
            plain_http: false,
            user_agent: concat!("ferry/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            ranges: RangePolicy::default(),
        }
    }
}

/// Proxies, as their environment variables hold them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts reached directly, comma-separated.
    pub no_proxy: Option<String>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, name look-up and TLS included.
    pub connect: Duration,
    /// For the next bytes of an answer, its head included.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), stall: Duration::from_secs(60) }
    }
}

/// How large blobs are fetched where one connection does not bring them as fast as they could be taken.
#[derive(Debug, Clone, Copy)]
pub struct RangePolicy {
    /// Connections that may help, over all blobs; none turns it off.
    pub helpers: usize,
    /// Connections that may help one blob.
    pub helpers_of_a_blob: usize,
    /// Bytes that a helper fetches before it takes the next; what it is ahead is kept in memory.
    pub part_bytes: u64,
    /// How long bytes must have been waited for, most of the time, before one more helps.
    pub patience: Duration,
}

impl Default for RangePolicy {
    fn default() -> Self {
        Self { helpers: 4, helpers_of_a_blob: 3, part_bytes: 8 << 20, patience: Duration::from_millis(500) }
    }
}

/// How the registry of one request is reached, where that differs from what is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// Without TLS.
    pub plain_http: bool,
    /// PEM of authorities that are believed besides; empty for none.
    pub authorities: String,
}

impl Access {
    /// Puts this into a configuration.
    pub(crate) fn apply(&self, config: &mut ClientConfig) -> Result<()> {
        config.plain_http |= self.plain_http;
        if !self.authorities.is_empty() {
            let authorities = Certificates::parse(self.authorities.as_bytes()).and_then(Certificates::authorities);
            let authorities =
                authorities.map_err(|error| Error::Configuration(format!("cannot use the CA certificate: {error}")))?;
            config.authorities = Some(authorities);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_may_be_unusable() {
        let mut config = ClientConfig::default();
        Access { plain_http: true, ..Access::default() }.apply(&mut config).unwrap();
        assert!(config.plain_http && config.authorities.is_none());
        let access = Access { authorities: "no certificate".to_owned(), ..Access::default() };
        let error = access.apply(&mut config).unwrap_err();
        assert_eq!(error.to_string(), "cannot use the CA certificate: there is no certificate in it");
    }
}
