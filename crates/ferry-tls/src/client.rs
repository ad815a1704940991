//! The side that connects.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Identity, Result, Trust, add, provider};

/// Sets up a client that believes `trust` and shows `identity`; `protocol` is what it wants to speak, or empty.
///
/// # Errors
/// [`crate::Error::Unusable`] for an authority or an identity.
pub fn client_config(trust: Trust, identity: Option<Identity>, protocol: &[u8]) -> Result<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match roots(trust)? {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.0, identity.key)?,
        None => builder.with_no_client_auth(),
    };
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    Ok(config)
}

/// Returns the authorities that count, or nothing where everybody is believed.
fn roots(trust: Trust) -> Result<Option<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => return Ok(None),
        Trust::Only(authorities) => add(&mut roots, authorities)?,
        Trust::Host => add_those_of_the_host(&mut roots),
        Trust::HostAnd(authorities) => {
            add_those_of_the_host(&mut roots);
            add(&mut roots, authorities)?;
        }
    }
    Ok(Some(roots))
}

/// A host without a list trusts nobody, which the handshake tells; entries that nobody understands are passed over.
fn add_those_of_the_host(roots: &mut RootCertStore) {
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
}

/// Takes whatever certificate is shown: for those who asked not to look.
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Certificates, Error};

    #[test]
    fn everybody_may_be_believed_and_nobody() {
        assert!(client_config(Trust::Anybody, None, b"").unwrap().alpn_protocols.is_empty());
        let nobody = client_config(Trust::Only(Certificates::default()), None, crate::HTTP_1).unwrap();
        assert_eq!(nobody.alpn_protocols, [crate::HTTP_1]);
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert!(matches!(Certificates::parse(b"no certificate").unwrap().authorities(), Err(Error::NoCertificate)));
        let garbled = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Certificates::parse(garbled).unwrap().authorities(), Err(Error::Unusable(_))));
        assert!(matches!(Identity::parse(Certificates::default(), b"no key"), Err(Error::Pem(_))));
        assert!(Certificates::read(std::path::Path::new("/no/such")).is_err());
    }
}
