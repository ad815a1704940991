//! What a client is made with.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Where `<host[:port]>/*.crt`, `*.cert` and `*.key` lie; `/etc/docker/certs.d`.
    pub certificates: Option<PathBuf>,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Patience.
    pub timeouts: Timeouts,
    /// How failures that may pass are met.
    pub retry: RetryPolicy,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            mirrors: Mirrors::default(),
            insecure: Vec::new(),
            proxies: Proxies::default(),
            certificates: Some(PathBuf::from("/etc/docker/certs.d")),
            user_agent: concat!("ferry/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
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
