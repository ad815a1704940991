//! Who the user is towards a registry.

use std::fmt;

/// Credentials as clients send them along with a request; any part may be empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or personal access token.
    pub password: String,
    /// Refresh token, used instead of user name and password.
    pub identity_token: String,
    /// Bearer token, sent as it is.
    pub registry_token: String,
    /// Registry that all this is for; empty stands for the registry of the image.
    pub server_address: String,
}

impl Credentials {
    /// Tells whether there is nothing to authenticate with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// Returns the host that these credentials may be sent to; `registry` is the one of the image.
    pub(crate) fn host<'a>(&'a self, registry: &'a str) -> &'a str {
        let address = self.server_address.as_str();
        let host = address.split_once("://").map_or(address, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        match if host.is_empty() { registry } else { host } {
            "docker.io" | "index.docker.io" => crate::endpoint::HUB_HOST,
            host => host,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets never reach a log.
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_belong_to_one_host() {
        for (address, registry, host) in [
            ("", "docker.io", "registry-1.docker.io"),
            ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"),
            ("https://index.docker.io/v1/", "example.org", "registry-1.docker.io"),
            ("", "localhost:5000", "localhost:5000"),
            ("http://example.org:5000/v2/", "x", "example.org:5000"),
            ("example.org", "x", "example.org"),
        ] {
            let credentials = Credentials { server_address: address.to_owned(), ..Credentials::default() };
            assert_eq!(credentials.host(registry), host, "{address}");
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let credentials = Credentials { username: "u".into(), password: "hunter2".into(), ..Credentials::default() };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
