//! Where a daemon listens, read from a host text such as `unix:///run/ferry.sock`.

use std::path::PathBuf;

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(String),
}

/// A host text that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// No scheme or an unknown one.
    #[error("unable to parse docker host `{0}`")]
    Unparsable(String),
    /// Known, but not built.
    #[error("{scheme}:// daemon addresses are not implemented")]
    NotImplemented {
        /// The scheme.
        scheme: String,
    },
}

impl Endpoint {
    /// Reads a host text.
    ///
    /// # Errors
    /// When there is no scheme, or one that cannot be served.
    pub fn parse(host: &str) -> Result<Self, EndpointError> {
        Self::parse_with_port(host, 2375)
    }

    /// Reads a host text; an address without a port has this one.
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn parse_with_port(host: &str, port: u16) -> Result<Self, EndpointError> {
        let unparsable = || EndpointError::Unparsable(host.to_owned());
        let (scheme, address) = host.split_once("://").ok_or_else(unparsable)?;
        if address.is_empty() {
            return Err(unparsable());
        }
        match scheme {
            "unix" => Ok(Self::Unix(PathBuf::from(address))),
            "tcp" | "http" => {
                let authority = address.split('/').next().unwrap_or(address);
                let has_port = authority
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
                Ok(Self::Tcp(if has_port { authority.to_owned() } else { format!("{authority}:{port}") }))
            }
            "ssh" | "https" | "npipe" | "fd" => Err(EndpointError::NotImplemented { scheme: scheme.to_owned() }),
            _ => Err(unparsable()),
        }
    }

    /// The authority that request URLs show in error texts.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Unix(path) => path.to_string_lossy().replace('/', "%2F"),
            Self::Tcp(address) => address.clone(),
        }
    }

    /// The `Host` header.
    pub(crate) fn host_header(&self) -> &str {
        match self {
            Self::Unix(_) => "api.moby.localhost",
            Self::Tcp(address) => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(Endpoint::parse("unix:///run/x.sock"), Ok(Endpoint::Unix("/run/x.sock".into())));
        assert_eq!(Endpoint::parse("tcp://127.0.0.1"), Ok(Endpoint::Tcp("127.0.0.1:2375".into())));
        assert_eq!(Endpoint::parse_with_port("tcp://h", 2376), Ok(Endpoint::Tcp("h:2376".into())));
        assert_eq!(Endpoint::parse("tcp://[::1]:99/x"), Ok(Endpoint::Tcp("[::1]:99".into())));
        assert!(matches!(Endpoint::parse("ssh://me@host"), Err(EndpointError::NotImplemented { .. })));
        assert_eq!(Endpoint::parse("nope"), Err(EndpointError::Unparsable("nope".into())));
        assert_eq!(Endpoint::parse("unix://"), Err(EndpointError::Unparsable("unix://".into())));
    }
}
