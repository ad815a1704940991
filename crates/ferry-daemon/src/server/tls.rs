//! TLS on TCP listeners: whom the daemon believes, and what it shows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_tls::{Certificates, HTTP_1, Identity, server_config};
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
}

/// Takes connections over into TLS.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let pair = |error: ferry_tls::Error| TlsError::KeyPair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            reason: error.to_string(),
        };
        let authorities = match &files.client_authority {
            Some(path) => Some(
                Certificates::read(path)
                    .and_then(Certificates::authorities)
                    .map_err(|error| TlsError::Authority { path: path.clone(), reason: error.to_string() })?,
            ),
            None => None,
        };
        let chain = Certificates::read(&files.certificate).map_err(pair)?;
        let identity = Identity::read(chain, &files.key).map_err(pair)?;
        let config = server_config(authorities, identity, HTTP_1).map_err(pair)?;
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
