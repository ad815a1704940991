//! TLS to a server.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim::forward::TlsFiles;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

use crate::dial::go_text;

/// A connection with TLS.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How long each step of the handshake may take.
const HANDSHAKE: Duration = Duration::from_millis(1600);

/// Shakes hands; `host` is `host:port`.
pub(crate) fn connect(mut stream: TcpStream, host: &str, files: &TlsFiles) -> Result<TlsStream, String> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config(files)?), name).map_err(|error| error.to_string())?;
    let bound = |stream: &TcpStream, time| stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time));
    bound(&stream, Some(HANDSHAKE)).map_err(|error| go_text(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| format!("tls: {}", go_text(&error)))?;
    }
    bound(&stream, None).map_err(|error| go_text(&error))?;
    Ok(StreamOwned::new(connection, stream))
}

fn config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if files.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(files.authorities.as_deref())?)
    };
    let Some((certificate, key)) = &files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("key", key, &error))?;
    builder.with_client_auth_cert(chain, key_der).map_err(|error| unusable("certificate", certificate, &error))
}

fn roots(authorities: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| unusable("CA certificate", path, &error))?;
            }
        }
        None => {
            // A host without a bundle of authorities trusts nobody, and says so at the handshake.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("certificate", path, &error))
}

fn unusable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("could not read {what} {:?}: {error}", path.display().to_string())
}

/// Takes whatever certificate the server shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;

    use rustls::server::WebPkiClientVerifier;
    use rustls::{ServerConfig, ServerConnection};

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/ferry-logger/test-certificates").join(name)
    }

    /// Takes one connection of a client that must show a certificate, and returns what it sent.
    fn serve(listener: TcpListener) -> std::thread::JoinHandle<Vec<u8>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = Arc::new(roots(Some(&file("ca.pem"))).unwrap());
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider)).build().unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&file("server.pem")).unwrap(), key)
            .unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
            let mut received = Vec::new();
            // A client that is refused, or refuses, ends without a word.
            let _ = stream.read_to_end(&mut received);
            received
        })
    }

    #[test]
    fn both_sides_prove_who_they_are() {
        let files = |authorities: Option<&str>, skip_verify| TlsFiles {
            authorities: authorities.map(file),
            identity: Some((file("client.pem"), file("client.key"))),
            skip_verify,
        };
        for (files, accepted) in
            [(files(Some("ca.pem"), false), true), (files(None, true), true), (files(Some("client.pem"), false), false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = serve(listener);
            let connected = connect(TcpStream::connect(address).unwrap(), &address.to_string(), &files);
            assert_eq!(connected.is_ok(), accepted, "{files:?}: {:?}", connected.err());
            if let Ok(mut stream) = connected {
                stream.write_all(b"line").unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                drop(stream);
                assert_eq!(server.join().unwrap(), b"line");
            }
        }
        let missing = TlsFiles { authorities: Some("/nonexistent".into()), ..TlsFiles::default() };
        assert!(config(&missing).unwrap_err().starts_with("could not read certificate \"/nonexistent\""));
    }
}
