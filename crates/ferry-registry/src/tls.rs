//! TLS settings: trusted roots, private certificates of `certs.d`, and insecure registries.
//!
//! The one place that names the crypto provider. It is handed to every configuration, so nothing process-wide is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// Makes the TLS settings for a host. `directory` holds its private certificates; `verify` is false for insecure registries.
pub(crate) fn client_config(directory: Option<&Path>, verify: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let files = directory.map(CertificateFiles::list).transpose()?.unwrap_or_default();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(format!("cannot set up TLS: {error}")))?;
    let builder = if verify {
        builder.with_root_certificates(roots(&files.authorities)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    let mut config = match files.pairs.first() {
        Some((certificate, key)) => {
            let chain = read_certificates(certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|error| unusable(certificate, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(authorities: &[PathBuf]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    // A host without a bundle of authorities can still use registries whose authority lies in `certs.d`.
    let loaded = rustls_native_certs::load_native_certs();
    for error in loaded.errors {
        tracing::debug!(%error, "cannot read a trusted certificate");
    }
    store.add_parsable_certificates(loaded.certs);
    for path in authorities {
        for certificate in read_certificates(path)? {
            store.add(certificate).map_err(|error| unusable(path, &error))?;
        }
    }
    Ok(store)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Configuration(format!("cannot use {}: {error}", path.display()))
}

/// The files of one host's directory, by Docker's naming.
#[derive(Default)]
struct CertificateFiles {
    /// `*.crt`.
    authorities: Vec<PathBuf>,
    /// `*.cert` with its `*.key`.
    pairs: Vec<(PathBuf, PathBuf)>,
}

impl CertificateFiles {
    fn list(directory: &Path) -> Result<Self> {
        let mut files = Self::default();
        for entry in fs::read_dir(directory).map_err(|error| unusable(directory, &error))? {
            let path = entry.map_err(|error| unusable(directory, &error))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.authorities.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(Error::Configuration(format!(
                            "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                            key.display(),
                            path.display()
                        )));
                    }
                    files.pairs.push((path, key));
                }
                _ => {}
            }
        }
        files.authorities.sort();
        files.pairs.sort();
        Ok(files)
    }
}

/// Takes whatever certificate an insecure registry shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
