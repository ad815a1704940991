//! Which hosts a registry name stands for, and which of them are insecure.

use std::net::IpAddr;

use reqwest::Url;

use crate::Credentials;
use crate::error::{Error, Result};

/// Where Docker Hub's registry answers.
pub(crate) const HUB_HOST: &str = "registry-1.docker.io";
/// Docker Hub's name in references.
pub(crate) const HUB_NAME: &str = "docker.io";

/// One host that may serve a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// URL up to and including `/v2/`.
    pub(crate) base: Url,
    /// Whether any certificate will do, and plain HTTP in its absence.
    pub(crate) insecure: bool,
    /// The registry that this endpoint mirrors.
    pub(crate) mirror_of: Option<String>,
    /// What the configuration says the user is there.
    pub(crate) credentials: Option<Credentials>,
}

impl Endpoint {
    /// Returns `host[:port]`, as credentials and certificates are filed under.
    pub(crate) fn host(&self) -> String {
        authority(&self.base)
    }

    /// Returns the same endpoint without TLS.
    pub(crate) fn plain(&self) -> Url {
        let mut url = self.base.clone();
        // Cannot fail: both schemes are special ones with a host.
        let _ = url.set_scheme("http");
        url
    }
}

/// Returns `host[:port]`, the port only when it is not the scheme's.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Mirrors by the registries that they stand in for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<(String, Vec<String>)>);

impl Mirrors {
    /// Adds mirrors for a registry: its name, `*.example.org` for all below, `*` for every one.
    pub fn add(&mut self, registry: impl Into<String>, mirrors: Vec<String>) {
        self.0.push((registry.into(), mirrors));
    }

    /// Returns the mirrors of a registry in the order to try: those under its own name before those under a wildcard, the longer one first.
    fn of(&self, registry: &str) -> Vec<&str> {
        let rank = |pattern: &str| match pattern.strip_prefix('*') {
            None => (pattern == registry).then_some(usize::MAX),
            Some("") => Some(0),
            Some(suffix) => registry.ends_with(suffix).then_some(suffix.len()),
        };
        let mut fitting: Vec<(usize, &Vec<String>)> =
            self.0.iter().filter_map(|(pattern, mirrors)| Some((rank(pattern)?, mirrors))).collect();
        fitting.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        fitting.into_iter().flat_map(|(_, mirrors)| mirrors).map(String::as_str).collect()
    }
}

/// Returns the endpoints of `registry`, in the order to try.
pub(crate) fn endpoints(registry: &str, mirrors: &Mirrors, insecure: &[Insecure]) -> Result<Vec<Endpoint>> {
    let mut found = Vec::new();
    for mirror in mirrors.of(registry) {
        let mut base = mirror_base(mirror)?;
        let credentials = take_credentials(&mut base);
        let insecure = is_insecure(&base, insecure);
        found.push(Endpoint { base, insecure, mirror_of: Some(registry.to_owned()), credentials });
    }
    let host = if registry == HUB_NAME { HUB_HOST } else { registry };
    let base = parse(&format!("https://{host}/v2/"), registry)?;
    let insecure = is_insecure(&base, insecure);
    found.push(Endpoint { base, insecure, mirror_of: None, credentials: None });
    Ok(found)
}

/// Takes user and password out of a URL, so that they are not shown and go where they belong alone.
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let decode = |text: &str| {
        let pairs = format!("k={}", text.replace('+', "%2B"));
        let query = Url::parse(&format!("http://h/?{pairs}")).ok()?;
        query.query_pairs().next().map(|(_, value)| value.into_owned())
    };
    let credentials = Credentials {
        username: decode(url.username())?,
        password: decode(url.password().unwrap_or_default())?,
        server_address: authority(url),
        ..Credentials::default()
    };
    // Cannot fail: a URL with a host has room for them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(credentials).filter(|given| !given.is_empty())
}

fn mirror_base(mirror: &str) -> Result<Url> {
    let with_scheme = if mirror.contains("://") { mirror.to_owned() } else { format!("https://{mirror}") };
    let trimmed = with_scheme.trim_end_matches('/');
    let suffix = if trimmed.ends_with("/v2") { "/" } else { "/v2/" };
    parse(&format!("{trimmed}{suffix}"), mirror)
}

fn parse(url: &str, given: &str) -> Result<Url> {
    let url = Url::parse(url).map_err(|error| Error::Configuration(format!("invalid registry {given:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Error::Configuration(format!("invalid registry {given:?}: neither http nor https")));
    }
    Ok(url)
}

/// One entry of `insecure-registries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Insecure {
    /// A registry by its `host[:port]`.
    Host(String),
    /// Every address in a network.
    Network(IpAddr, u8),
}

impl Insecure {
    /// Reads an entry.
    pub(crate) fn parse(text: &str) -> Self {
        text.split_once('/')
            .and_then(|(address, bits)| Some(Self::Network(address.parse().ok()?, bits.parse().ok()?)))
            .unwrap_or_else(|| {
                let host = text.split_once("://").map_or(text, |(_, rest)| rest);
                Self::Host(host.trim_end_matches('/').to_owned())
            })
    }

    fn covers(&self, authority: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Host(host) => host == authority,
            Self::Network(network, bits) => address.is_some_and(|address| in_network(address, *network, *bits)),
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same_prefix = |a: u128, b: u128, width: u8| bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same_prefix(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same_prefix(a.into(), b.into(), 128),
        _ => false,
    }
}

/// Tells whether a host need not prove who it is.
pub(crate) fn is_insecure(base: &Url, insecure: &[Insecure]) -> bool {
    let address = address(base);
    is_loopback(base) || insecure.iter().any(|entry| entry.covers(&authority(base), address))
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Tells whether `url` names this machine, by `localhost` or by an address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|address| address.is_loopback())
}

/// Tells whether two URLs have the same scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(registry: &str, mirrors: &[&str], insecure: &[&str]) -> Vec<(String, bool)> {
        let mut named = Mirrors::default();
        named.add(HUB_NAME, mirrors.iter().map(|&text| text.to_owned()).collect());
        let insecure: Vec<Insecure> = insecure.iter().map(|text| Insecure::parse(text)).collect();
        endpoints(registry, &named, &insecure)
            .unwrap()
            .into_iter()
            .map(|endpoint| (endpoint.base.to_string(), endpoint.insecure))
            .collect()
    }

    #[test]
    fn hub_has_mirrors_before_itself() {
        assert_eq!(
            found("docker.io", &["http://127.0.0.1:5001", "https://mirror.example/hub/v2/"], &[]),
            [
                ("http://127.0.0.1:5001/v2/".to_owned(), true),
                ("https://mirror.example/hub/v2/".to_owned(), false),
                ("https://registry-1.docker.io/v2/".to_owned(), false),
            ]
        );
        assert_eq!(found("example.org", &["http://m"], &[]).len(), 1);
    }

    #[test]
    fn mirrors_of_a_registry_come_before_those_of_a_wildcard() {
        let mut mirrors = Mirrors::default();
        for (registry, mirror) in [("*", "any"), ("*.io", "io"), ("quay.io", "own"), ("docker.io", "hub")] {
            mirrors.add(registry, vec![mirror.to_owned()]);
        }
        assert_eq!(mirrors.of("quay.io"), ["own", "io", "any"]);
        assert_eq!(mirrors.of("ghcr.io"), ["io", "any"]);
        assert_eq!(mirrors.of("docker.io"), ["hub", "io", "any"]);
        assert_eq!(mirrors.of("example.org:5000"), ["any"]);
    }

    #[test]
    fn a_mirror_may_have_a_user_of_its_own() {
        let mut mirrors = Mirrors::default();
        mirrors.add("quay.io", vec!["https://me:p%40ss@mirror.example/q".to_owned()]);
        let endpoint = &endpoints("quay.io", &mirrors, &[]).unwrap()[0];
        assert_eq!(endpoint.base.as_str(), "https://mirror.example/q/v2/");
        let given = endpoint.credentials.as_ref().unwrap();
        assert_eq!((given.username.as_str(), given.password.as_str()), ("me", "p@ss"));
    }

    #[test]
    fn loopback_and_listed_registries_are_insecure() {
        for (registry, insecure, expected) in [
            ("127.9.9.9:5000", &[][..], true),
            ("localhost", &[], true),
            ("[::1]:5000", &[], true),
            ("10.1.2.3:5000", &[], false),
            ("10.1.2.3:5000", &["10.0.0.0/8"], true),
            ("11.1.2.3", &["10.0.0.0/8"], false),
            ("example.org:5000", &["example.org"], false),
            ("example.org:5000", &["example.org:5000"], true),
            ("example.org", &["http://example.org/"], true),
        ] {
            assert_eq!(found(registry, &[], insecure)[0].1, expected, "{registry} {insecure:?}");
        }
    }

    #[test]
    fn origins_differ_by_port_and_scheme() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a/x"), &url("https://a:443/y")));
        assert!(!same_origin(&url("https://a/x"), &url("http://a/x")));
        assert!(!same_origin(&url("http://a:1/x"), &url("http://a:2/x")));
    }
}
