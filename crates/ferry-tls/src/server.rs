//! The side that is connected to.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::{Certificates, Error, Identity, Result, add, provider};

/// Sets up a server that shows `identity`; clients must have a certificate of one of `authorities`, or need none. `protocol` is what it
/// speaks, or empty.
///
/// # Errors
/// [`Error::Unusable`] for an authority or the identity.
pub fn server_config(authorities: Option<Certificates>, identity: Identity, protocol: &[u8]) -> Result<ServerConfig> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            add(&mut roots, authorities)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| Error::Unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(identity.chain.0, identity.key)?;
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    Ok(config)
}
