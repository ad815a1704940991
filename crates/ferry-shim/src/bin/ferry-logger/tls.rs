//! TLS to a server.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim::forward::TlsFiles;
use ferry_tls::rustls::pki_types::ServerName;
use ferry_tls::rustls::{ClientConfig, ClientConnection, StreamOwned};
use ferry_tls::{Certificates, Identity, Trust, client_config};

use crate::dial::go_text;

/// A connection with TLS.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How long each step of the handshake may take.
const HANDSHAKE: Duration = Duration::from_millis(1600);

/// Shakes hands; `host` is `host:port`.
pub(crate) fn connect(mut stream: TcpStream, host: &str, config: ClientConfig) -> Result<TlsStream, String> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let bound = |stream: &TcpStream, time| stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time));
    bound(&stream, Some(HANDSHAKE)).map_err(|error| go_text(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| format!("tls: {}", go_text(&error)))?;
    }
    bound(&stream, None).map_err(|error| go_text(&error))?;
    Ok(StreamOwned::new(connection, stream))
}

/// Reads whom to trust and who to be.
pub(crate) fn config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let trust = match &files.authorities {
        _ if files.skip_verify => Trust::Anybody,
        Some(path) => {
            let what = "CA certificate";
            File::open(path)
                .map_err(|error| unusable(what, path, &format!("open {}: {}", path.display(), go_text(&error))))?;
            let read = Certificates::read(path).and_then(|certificates| certificates.authorities());
            Trust::Only(read.map_err(|error| unusable(what, path, &error))?)
        }
        // A host without a bundle of authorities trusts nobody, and says so at the handshake.
        None => Trust::Host,
    };
    let Some((certificate, key)) = &files.identity else {
        return client_config(trust, None, b"").map_err(|error| error.to_string());
    };
    let identity = Identity::read(certificates(certificate)?, key).map_err(|error| unusable("key", key, &error))?;
    client_config(trust, Some(identity), b"").map_err(|error| unusable("certificate", certificate, &error))
}

fn certificates(path: &Path) -> Result<Certificates, String> {
    Certificates::read(path).map_err(|error| unusable("certificate", path, &error))
}

fn unusable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("could not read {what} {:?}: {error}", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;

    use ferry_tls::rustls::ServerConnection;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/ferry-logger/test-certificates").join(name)
    }

    /// Takes one connection of a client that must show a certificate, and returns what it sent.
    fn serve(listener: TcpListener) -> std::thread::JoinHandle<Vec<u8>> {
        let identity = Identity::read(certificates(&file("server.pem")).unwrap(), &file("server.key")).unwrap();
        let config = ferry_tls::server_config(Some(certificates(&file("ca.pem")).unwrap()), identity, b"").unwrap();
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
            let connected = config(&files)
                .and_then(|config| connect(TcpStream::connect(address).unwrap(), &address.to_string(), config));
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
        assert!(config(&missing).unwrap_err().starts_with("could not read CA certificate \"/nonexistent\": open "));
    }
}
