//! TLS settings of one host: its files in the `certs.d` folders, whom else to believe, and insecure registries.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ferry_tls::rustls::{
    self, AlertDescription as Alert, CertificateError as Certificate, ClientConfig, InvalidMessage,
};
use ferry_tls::{Certificates, HTTP_1, Identity, Trust};

use crate::error::{Error, RequestFailure, Result};

/// What a connection is to be made with.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The files that count for the host.
    pub(crate) files: Option<&'a CertificateFiles>,
    /// Authorities that are believed besides.
    pub(crate) authorities: Option<&'a Certificates>,
    /// Whether the client's own certificate is shown.
    pub(crate) shows_identity: bool,
    /// False for insecure registries.
    pub(crate) verify: bool,
}

/// Makes the TLS settings for a host.
pub(crate) fn client_config(wanted: &Wanted<'_>) -> Result<ClientConfig> {
    let files = wanted.files.map(CertificateFiles::sorted).transpose()?.unwrap_or_default();
    let trust = if wanted.verify {
        let mut all = wanted.authorities.cloned().unwrap_or_default();
        for path in &files.authorities {
            all.extend(read(path)?.authorities().map_err(|error| unusable(path, &error))?);
        }
        Trust::HostAnd(all)
    } else {
        Trust::Anybody
    };
    let Some((certificate, key)) = files.pairs.first().filter(|_| wanted.shows_identity) else {
        let unusable = |error| Error::Configuration(format!("cannot set up TLS: {error}"));
        return ferry_tls::client_config(trust, None, HTTP_1).map_err(unusable);
    };
    let identity = Identity::read(read(certificate)?, key).map_err(|error| unusable(key, &error))?;
    ferry_tls::client_config(trust, Some(identity), HTTP_1).map_err(|error| unusable(certificate, &error))
}

fn read(path: &Path) -> Result<Certificates> {
    Certificates::read(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Configuration(format!("cannot use {}: {error}", path.display()))
}

/// Words a failed handshake as Go does.
pub(crate) fn failure(error: &rustls::Error) -> RequestFailure {
    RequestFailure::Tls(match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => return RequestFailure::PlainHttp,
        rustls::Error::InvalidCertificate(why) => format!("tls: failed to verify certificate: x509: {}", mistrust(why)),
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    })
}

fn mistrust(why: &Certificate) -> String {
    match why {
        Certificate::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Certificate::NotValidForNameContext { expected, presented } => {
            // They come as `DnsName("example.org")`.
            let bare = |name: &String| {
                name.split_once('(').map_or(name.as_str(), |(_, rest)| rest).trim_matches(['"', ')']).to_owned()
            };
            let names: Vec<String> = presented.iter().map(bare).collect();
            format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
        }
        other => other.to_string(),
    }
}

fn alert_text(alert: Alert) -> String {
    match alert {
        Alert::BadCertificate => "bad certificate".to_owned(),
        Alert::CertificateRequired => "certificate required".to_owned(),
        Alert::CertificateExpired => "expired certificate".to_owned(),
        Alert::CertificateUnknown => "unknown certificate".to_owned(),
        Alert::UnknownCA => "unknown certificate authority".to_owned(),
        Alert::HandshakeFailure => "handshake failure".to_owned(),
        Alert::ProtocolVersion => "protocol version not supported".to_owned(),
        Alert::AccessDenied => "access denied".to_owned(),
        Alert::UnrecognisedName => "unrecognized name".to_owned(),
        Alert::InternalError => "internal error".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The files of one host's folder, as they are at the moment; two are equal while nobody has changed any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CertificateFiles {
    folder: PathBuf,
    files: Vec<(PathBuf, Option<SystemTime>, u64)>,
}

/// Files by Docker's naming.
#[derive(Debug, Default)]
struct Sorted {
    /// `*.crt`.
    authorities: Vec<PathBuf>,
    /// `*.cert` with its `*.key`.
    pairs: Vec<(PathBuf, PathBuf)>,
}

impl CertificateFiles {
    /// Lists the folder of `host` in the first of `folders` that has one.
    pub(crate) fn of(folders: &[PathBuf], host: &str) -> Option<Self> {
        folders.iter().map(|folder| folder.join(host)).find_map(|folder| {
            let entries = fs::read_dir(&folder).ok()?;
            let stamped = |path: PathBuf| {
                let metadata = fs::metadata(&path).ok();
                let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
                (path, changed, metadata.map_or(0, |metadata| metadata.len()))
            };
            let mut files: Vec<_> = entries.flatten().map(|entry| stamped(entry.path())).collect();
            files.sort();
            Some(Self { folder, files })
        })
    }

    /// Tells whether both are of one host.
    pub(crate) fn is_of_the_host_of(&self, other: &Self) -> bool {
        self.folder == other.folder
    }

    fn sorted(&self) -> Result<Sorted> {
        let mut sorted = Sorted::default();
        let has = |path: &Path| self.files.iter().any(|(known, _, _)| known == path);
        for (path, _, _) in &self.files {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => sorted.authorities.push(path.clone()),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !has(&key) {
                        return Err(Error::Configuration(format!(
                            "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                            key.display(),
                            path.display()
                        )));
                    }
                    sorted.pairs.push((path.clone(), key));
                }
                Some("key") => {
                    let certificate = path.with_extension("cert");
                    if !has(&certificate) {
                        return Err(Error::Configuration(format!(
                            "missing client certificate {} for key {}",
                            certificate.display(),
                            path.display()
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("ferry-certs-{}-{:x}", std::process::id(), rand::random::<u64>()));
        fs::create_dir_all(folder.join("host:5000")).unwrap();
        for name in names {
            fs::write(folder.join("host:5000").join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn files_are_told_apart_by_their_endings() {
        for (names, expected) in [
            (&["ca.crt", "other.crt", "notes.txt"][..], Ok((2, 0))),
            (&["client.cert", "client.key"], Ok((0, 1))),
            (&["client.cert"], Err("missing key ")),
            (&["client.key"], Err("missing client certificate ")),
        ] {
            let folder = folder(names);
            let files = CertificateFiles::of(&["/no/such".into(), folder.clone()], "host:5000").unwrap();
            match (files.sorted(), expected) {
                (Ok(sorted), Ok(counts)) => assert_eq!((sorted.authorities.len(), sorted.pairs.len()), counts),
                (Err(error), Err(text)) => assert!(error.to_string().starts_with(text), "{error}"),
                (sorted, expected) => panic!("{sorted:?} is not {expected:?}"),
            }
            assert!(CertificateFiles::of(std::slice::from_ref(&folder), "host").is_none());
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn failures_are_worded_as_by_go() {
        let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        let expected = rustls::pki_types::ServerName::try_from("b.example").unwrap();
        for (error, text) in [
            (
                rustls::Error::InvalidCertificate(Certificate::NotValidForNameContext { expected, presented }),
                "tls: failed to verify certificate: x509: certificate is valid for a.example, 10.0.0.1, not b.example",
            ),
            (
                rustls::Error::InvalidCertificate(Certificate::UnknownIssuer),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
            (rustls::Error::AlertReceived(Alert::BadCertificate), "remote error: tls: bad certificate"),
        ] {
            assert_eq!(failure(&error).to_string(), text);
        }
    }

    #[test]
    fn a_changed_file_makes_other_files() {
        let folder = folder(&["ca.crt"]);
        let list = || CertificateFiles::of(std::slice::from_ref(&folder), "host:5000").unwrap();
        let before = list();
        assert_eq!(before, list());
        fs::write(folder.join("host:5000/ca.crt"), "longer").unwrap();
        assert_ne!(before, list());
        assert!(before.is_of_the_host_of(&list()));
        fs::remove_dir_all(folder).unwrap();
    }
}
