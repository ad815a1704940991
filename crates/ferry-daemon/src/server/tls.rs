//! TLS on TCP listeners: whom the daemon believes, and what it shows.
//!
//! The crypto provider is handed to the configuration, so nothing process-wide is installed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take over the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of a request that is answered without TLS, this much is read.
const UNREAD_LIMIT: u64 = 64 << 10;
/// First byte of every TLS connection.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Files of the daemon's TLS, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Whose certificates clients must have; `None` lets everybody in.
    pub(crate) client_authority: Option<PathBuf>,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("invalid TLS configuration: could not read CA certificate {path:?}: {reason}")]
    Authority { path: PathBuf, reason: String },
    #[error("invalid TLS configuration: Could not load X509 key pair (cert: {certificate:?}, key: {key:?}): {reason}")]
    KeyPair { certificate: PathBuf, key: PathBuf, reason: String },
    #[error("invalid TLS configuration: {0}")]
    Setup(String),
}

/// Takes connections over into TLS.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let builder = match &files.client_authority {
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| TlsError::Setup(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let pair = |reason: String| TlsError::KeyPair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            reason,
        };
        let chain = certificates(&files.certificate).map_err(pair)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| pair(error.to_string()))?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| pair(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with a client, in a bounded time.
    ///
    /// # Errors
    /// A client that speaks no TLS is told so; one without a good certificate is refused by the protocol.
    pub(crate) async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let shake = async {
            let mut first = [0u8; 1];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_RECORD {
                // As Go's server answers, which clients look for.
                let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
                stream.write_all(answer).await?;
                stream.shutdown().await?;
                // What is left unread would make the kernel take the answer back.
                let mut rest = stream.take(UNREAD_LIMIT);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks no TLS"));
            }
            self.0.accept(stream).await
        };
        match tokio::time::timeout(HANDSHAKE, shake).await {
            Ok(shaken) => shaken,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timeout")),
        }
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |reason: String| TlsError::Authority { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(failed)? {
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| error.to_string())
}
