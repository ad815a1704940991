//! TLS to a daemon: whom the client believes, and what it shows.
//!
//! The crypto provider is handed to the configuration, so nothing process-wide is installed.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let builder = if material.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots(material.authority.as_deref())?)
        };
        let mut config = match &material.pair {
            Some((certificate, key)) => {
                let pair = |error: &dyn fmt::Display| TlsError::Pair(error.to_string());
                let chain = certificates(certificate).map_err(|error| pair(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| pair(&error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| pair(&error))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
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

fn roots(authority: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match authority {
        // A given authority stands alone: whoever the host trusts otherwise is not asked.
        Some(pem) => {
            for certificate in certificates(pem).map_err(|_| TlsError::Authority)? {
                roots.add(certificate).map_err(|_| TlsError::Authority)?;
            }
            if roots.is_empty() {
                return Err(TlsError::Authority);
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// For those who asked not to look.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
