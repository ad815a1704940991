//! TLS as every part of ferry sets it up: towards registries, between client and daemon, towards log servers.
//!
//! Owns: reading certificates and keys, whom the other side is believed to be ([`Trust`]), what is shown to it ([`Identity`]), and the
//! choice of the crypto provider, which is handed to each configuration, so that nothing process-wide is installed.
//!
//! Leaves out: connections, time limits, and the words in which a program names its files; an [`Error`] tells the reason alone.

mod client;
mod server;

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::client_config;
pub use rustls;
pub use server::server_config;

/// Result of setting TLS up.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is offered during the handshake by those who speak HTTP.
pub const HTTP_1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read, or is no PEM.
    #[error("{0}")]
    Pem(String),
    /// PEM in which there is no certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// A certificate, or a pair of certificate and key, that cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl From<rustls::pki_types::pem::Error> for Error {
    fn from(error: rustls::pki_types::pem::Error) -> Self {
        Self::Pem(error.to_string())
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Certificates of one file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates(Vec<CertificateDer<'static>>);

impl Certificates {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Pem`]; a file without certificates is none.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// [`Error::Pem`]; text without certificates is none.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        Ok(Self(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?))
    }

    /// Tells whether these can be authorities: there are some, and each can be one.
    ///
    /// # Errors
    /// [`Error::NoCertificate`], [`Error::Unusable`].
    pub fn authorities(self) -> Result<Self> {
        if self.0.is_empty() {
            return Err(Error::NoCertificate);
        }
        add(&mut RootCertStore::empty(), self.clone())?;
        Ok(self)
    }

    /// Puts others behind these.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

/// What is shown to the other side: a certificate, what vouches for it, and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Certificates,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Pairs a certificate with the key in a file.
    ///
    /// # Errors
    /// [`Error::Pem`] for the key.
    pub fn read(chain: Certificates, key: &Path) -> Result<Self> {
        Ok(Self { chain, key: PrivateKeyDer::from_pem_file(key)? })
    }

    /// Pairs a certificate with the key in PEM.
    ///
    /// # Errors
    /// [`Error::Pem`] for the key.
    pub fn parse(chain: Certificates, key: &[u8]) -> Result<Self> {
        Ok(Self { chain, key: PrivateKeyDer::from_pem_slice(key)? })
    }
}

/// Whom a client believes.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those on the host's list.
    Host,
    /// Those on the host's list, and these.
    HostAnd(Certificates),
    /// These and nobody else.
    Only(Certificates),
    /// Everybody, unseen.
    Anybody,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Adds authorities; one that is no authority is an error.
fn add(store: &mut RootCertStore, authorities: Certificates) -> Result<()> {
    for certificate in authorities.0 {
        store.add(certificate)?;
    }
    Ok(())
}
