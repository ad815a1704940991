//! TLS to a daemon: whom the client believes, and what it shows.

use std::fmt;
use std::io;
use std::sync::Arc;

use ferry_tls::rustls::pki_types::ServerName;
use ferry_tls::{Certificates, HTTP_1, Identity, Trust, client_config};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a client has of TLS, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Whose certificate the daemon must have; without it, one of the host's own list.
    pub authority: Option<Vec<u8>>,
    /// The client's own certificate and key.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// Any certificate of the daemon's will do.
    pub skip_verify: bool,
}

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Of the authority's file.
    #[error("failed to append certificates from PEM file")]
    Authority,
    /// Of the client's certificate or key.
    #[error("could not load X509 key pair: {0}")]
    Pair(String),
    /// Of the library.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// Makes connections into TLS ones.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    /// Reads the material.
    ///
    /// # Errors
    /// When any of it cannot be used.
    pub fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let identity = match &material.pair {
            Some((certificate, key)) => {
                Some(identity(certificate, key).map_err(|error| TlsError::Pair(error.to_string()))?)
            }
            None => None,
        };
        let config = client_config(trust(material)?, identity, HTTP_1).map_err(|error| match material.pair {
            // All else was looked at before.
            Some(_) => TlsError::Pair(error.to_string()),
            None => TlsError::Setup(error.to_string()),
        })?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands; `authority` is `host:port`.
    pub(crate) async fn connect(&self, authority: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, stream).await
    }
}

fn trust(material: &TlsMaterial) -> Result<Trust, TlsError> {
    let Some(pem) = material.authority.as_ref().filter(|_| !material.skip_verify) else {
        return Ok(if material.skip_verify { Trust::Anybody } else { Trust::Host });
    };
    // A given authority stands alone: whoever the host trusts otherwise is not asked.
    Certificates::parse(pem).and_then(Certificates::authorities).map(Trust::Only).map_err(|_| TlsError::Authority)
}

fn identity(certificate: &[u8], key: &[u8]) -> ferry_tls::Result<Identity> {
    Identity::parse(Certificates::parse(certificate)?, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_that_is_none_is_refused() {
        let authority = TlsMaterial { authority: Some(b"no certificate".to_vec()), ..TlsMaterial::default() };
        assert_eq!(Tls::new(&authority).unwrap_err().to_string(), "failed to append certificates from PEM file");
        let pair =
            TlsMaterial { pair: Some((Vec::new(), b"no key".to_vec())), skip_verify: true, ..TlsMaterial::default() };
        assert!(Tls::new(&pair).unwrap_err().to_string().starts_with("could not load X509 key pair: "));
        assert!(Tls::new(&TlsMaterial { skip_verify: true, ..TlsMaterial::default() }).is_ok());
    }
}
