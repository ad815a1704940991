//! Where a plugin listens, and connecting to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_tls::rustls::ClientConfig;
use ferry_tls::rustls::pki_types::ServerName;
use ferry_tls::{Certificates, Identity, Trust};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// An address of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// `host:port` with TLS.
    Tls(String, TlsFiles),
}

/// `TLSConfig` of a plugin's `.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct TlsFiles {
    /// Takes whatever certificate is shown.
    #[serde(rename = "InsecureSkipVerify")]
    pub(super) skip_verify: bool,
    /// Authorities.
    #[serde(rename = "CAFile")]
    pub(super) authorities: PathBuf,
    /// Our certificate.
    #[serde(rename = "CertFile")]
    pub(super) certificate: PathBuf,
    /// Its key.
    #[serde(rename = "KeyFile")]
    pub(super) key: PathBuf,
}

/// Bytes to and from a plugin.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Address {
    /// Reads `unix:///path`, `tcp://host:port`, `http://…` and `https://…`.
    pub(super) fn parse(text: &str, tls: Option<TlsFiles>) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Err("Unknown protocol".to_owned()) };
        let host = || rest.split('/').next().unwrap_or_default().to_owned();
        match scheme {
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => Ok(Self::Tcp(host())),
            "https" => Ok(Self::Tls(host(), tls.unwrap_or(TlsFiles { skip_verify: true, ..TlsFiles::default() }))),
            other => Err(format!("unsupported protocol of a plugin: {other}")),
        }
    }

    /// The name that stands for it in URLs.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "plugin.moby.localhost",
            Self::Tcp(host) | Self::Tls(host, _) => host,
        }
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if matches!(self, Self::Tls(..)) { "https" } else { "http" }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        match self {
            Self::Unix(path) => UnixStream::connect(path)
                .await
                .map(|stream| Box::new(stream) as Box<dyn Stream>)
                .map_err(|error| dial_failed("unix", &path.display().to_string(), &error)),
            Self::Tcp(host) => Ok(Box::new(tcp(host).await?)),
            Self::Tls(host, files) => {
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).trim_matches(['[', ']']);
                let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
                let connector = TlsConnector::from(Arc::new(config(files)?));
                let stream = connector.connect(name, tcp(host).await?).await;
                Ok(Box::new(stream.map_err(|error| format!("tls: {}", crate::error::os_text(&error)))?))
            }
        }
    }
}

async fn tcp(host: &str) -> Result<TcpStream, String> {
    TcpStream::connect(host).await.map_err(|error| dial_failed("tcp", host, &error))
}

fn dial_failed(network: &str, place: &str, error: &io::Error) -> String {
    format!("dial {network} {place}: connect: {}", crate::error::os_text(error))
}

fn config(files: &TlsFiles) -> Result<ClientConfig, String> {
    // As Docker: without authorities to check against, nothing is checked.
    let trust = if files.skip_verify || files.authorities.as_os_str().is_empty() {
        Trust::Anybody
    } else {
        Trust::Only(certificates(&files.authorities)?)
    };
    let identity = if files.certificate.as_os_str().is_empty() {
        None
    } else {
        let chain = Certificates::read(&files.certificate).map_err(|error| unusable(&files.certificate, &error))?;
        Some(Identity::read(chain, &files.key).map_err(|error| unusable(&files.key, &error))?)
    };
    ferry_tls::client_config(trust, identity, b"").map_err(|error| unusable(&files.certificate, &error))
}

fn certificates(path: &Path) -> Result<Certificates, String> {
    let read = Certificates::read(path).and_then(Certificates::authorities);
    read.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("could not use {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(Address::parse("unix:///a/b.sock", None).unwrap(), Address::Unix("/a/b.sock".into()));
        assert_eq!(Address::parse("tcp://host:1", None).unwrap(), Address::Tcp("host:1".into()));
        assert_eq!(Address::parse("http://host:1/x", None).unwrap(), Address::Tcp("host:1".into()));
        assert!(matches!(Address::parse("https://h:1", None).unwrap(), Address::Tls(host, files)
            if host == "h:1" && files.skip_verify));
        assert_eq!(Address::parse("/a/b.sock", None).unwrap_err(), "Unknown protocol");
    }
}
