//! The words of `--docker` about the daemon that a context leads to.

use std::collections::BTreeMap;
use std::fs;

use ferry_client::{Tls, TlsMaterial};
use serde_json::{Value, json};

use super::find;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output_file::reason;

/// TLS files: endpoint, name, content.
type Files = Vec<(String, String, Vec<u8>)>;

/// Keys with the files that their paths become.
const FILES: [(&str, &str); 3] = [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")];

/// Reads the values of `--docker` into what is stored: the endpoint and its files.
pub(super) fn read(context: &Context, values: &[String]) -> Result<(Value, Files)> {
    let keys = keys(values).map_err(Failure::new)?;
    build(context, &keys)
        .map_err(|failure| Failure::new(format!("unable to create docker endpoint config: {}", failure.message)))
}

/// The pairs of all values; the last of a key counts.
fn keys(values: &[String]) -> std::result::Result<BTreeMap<String, String>, String> {
    let mut keys = BTreeMap::new();
    for value in values {
        for pair in crate::options::pairs(value)? {
            let (key, value) = pair.split_once('=').ok_or_else(|| unpaired(&pair))?;
            keys.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(keys)
}

fn unpaired(pair: &str) -> String {
    format!("{pair} must be formatted as key=value")
}

fn build(context: &Context, keys: &BTreeMap<String, String>) -> Result<(Value, Files)> {
    let known = |key: &&String| {
        matches!(key.as_str(), "from" | "host" | "skip-tls-verify") || FILES.iter().any(|(name, _)| key == name)
    };
    let unknown: Vec<String> =
        keys.keys().filter(|key| !known(key)).map(|key| format!("unrecognized config key: {key}")).collect();
    if !unknown.is_empty() {
        return Err(Failure::new(unknown.join("\n")));
    }
    if let Some(from) = keys.get("from") {
        // Whatever stands beside it is not looked at.
        let whole = find(context, from)?;
        let tls = whole.tls.into_iter().filter(|(endpoint, _, _)| endpoint == "docker").collect();
        return Ok((whole.metadata["Endpoints"]["docker"].clone(), tls));
    }
    let mut material = TlsMaterial { authority: None, pair: None, skip_verify: skips(keys)? };
    let mut files = Vec::new();
    for (key, file) in FILES {
        let Some(path) = keys.get(key).filter(|path| !path.is_empty()) else { continue };
        let content = fs::read(path).map_err(|error| Failure::new(format!("open {path}: {}", reason(&error))))?;
        files.push(("docker".to_owned(), file.to_owned(), content));
    }
    let content = |name: &str| files.iter().find(|(_, file, _)| file == name).map(|(_, _, content)| content.clone());
    material.authority = content("ca.pem");
    material.pair = content("cert.pem").zip(content("key.pem"));
    let host = keys.get("host").map_or("", String::as_str);
    check(host, &material, !files.is_empty())?;
    let mut endpoint = json!({});
    if !host.is_empty() {
        endpoint["Host"] = host.into();
    }
    endpoint["SkipTLSVerify"] = material.skip_verify.into();
    Ok((endpoint, files))
}

fn skips(keys: &BTreeMap<String, String>) -> Result<bool> {
    let Some(text) = keys.get("skip-tls-verify").filter(|text| !text.is_empty()) else { return Ok(false) };
    crate::flags::parse_bool(text)
        .map_err(|_| Failure::new(format!("skip-tls-verify: parsing {}: invalid syntax", crate::flags::go_quote(text))))
}

/// Refuses what could lead to no daemon.
fn check(host: &str, material: &TlsMaterial, has_files: bool) -> Result<()> {
    if host.is_empty() {
        return Ok(());
    }
    if host.split_once("://").is_none_or(|(_, address)| address.is_empty()) {
        let text = format!("unable to apply docker endpoint options: unable to parse docker host `{host}`");
        return Err(Failure::new(text));
    }
    let encrypted = host.starts_with("tcp://") || host.starts_with("https://");
    if encrypted && has_files {
        Tls::new(material).map_err(|error| Failure::new(format!("invalid docker endpoint options: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_one_by_one_or_in_rows() {
        let read = |values: &[&str]| {
            keys(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
                .map(|keys| keys.into_iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read(&["host=tcp://a:1,ca=x"]).unwrap(), "ca:x host:tcp://a:1");
        assert_eq!(read(&["host=a", "ca=x", "host=b"]).unwrap(), "ca:x host:b");
        assert_eq!(read(&["\"host=a\""]).unwrap(), "host:a");
        assert_eq!(read(&["host"]).unwrap_err(), "host must be formatted as key=value");
        assert_eq!(read(&["a=1,b=2,c"]).unwrap_err(), "c must be formatted as key=value");
    }

    #[test]
    fn hosts_need_a_scheme() {
        let nothing = TlsMaterial { authority: None, pair: None, skip_verify: false };
        for host in ["", "tcp://a:1", "ssh://user@host", "unix:///x", "nonsense://x"] {
            check(host, &nothing, false).unwrap();
        }
        for host in ["justhost", "tcp://"] {
            let text = check(host, &nothing, false).unwrap_err().message;
            assert_eq!(text, format!("unable to apply docker endpoint options: unable to parse docker host `{host}`"));
        }
    }
}
