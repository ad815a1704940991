//! The part of Go's `net/url` that addresses of servers need.

use super::Checked;

/// An address as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Url {
    /// In small letters; may be empty.
    pub(super) scheme: String,
    /// `host:port`, as written.
    pub(super) host: String,
    /// From the slash on.
    pub(super) path: String,
}

/// Takes an address apart.
pub(super) fn parse(text: &str) -> Checked<Url> {
    let failed = |why: &str| format!("parse {text:?}: {why}");
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(failed("net/url: invalid control character in URL"));
    }
    let (scheme, rest) = split_scheme(text).map_err(&failed)?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let mut url = Url { scheme: scheme.to_lowercase(), ..Url::default() };
    if !rest.starts_with('/') {
        if scheme.is_empty() && rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(failed("first path segment in URL cannot contain colon"));
        }
        // With a scheme it is opaque: neither host nor path.
        url.path = if scheme.is_empty() { rest.to_owned() } else { String::new() };
        return Ok(url);
    }
    match rest.strip_prefix("//") {
        None => rest.clone_into(&mut url.path),
        Some(authority) => {
            let slash = authority.find('/').unwrap_or(authority.len());
            let (host, path) = authority.split_at(slash);
            let host = host.rsplit('@').next().unwrap_or_default();
            if let Some(port) = bad_port(host) {
                return Err(failed(&format!("invalid port {port:?} after host")));
            }
            host.clone_into(&mut url.host);
            path.clone_into(&mut url.path);
        }
    }
    Ok(url)
}

fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// What follows the host and is no port; the part after the last colon must be digits.
fn bad_port(host: &str) -> Option<&str> {
    let after = match host.rfind(']') {
        Some(bracket) => &host[bracket + 1..],
        None => &host[host.rfind(':')?..],
    };
    let is_port =
        after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    (!is_port).then_some(after)
}

impl Url {
    /// Host and port, `None` where the host is not followed by a port (`net.SplitHostPort`).
    pub(super) fn host_and_port(&self) -> Checked<Option<(&str, &str)>> {
        let host = self.host.as_str();
        let missing = Ok(None);
        if let Some(inner) = host.strip_prefix('[') {
            let Some((name, after)) = inner.split_once(']') else {
                return Err(format!("address {host}: missing ']' in address"));
            };
            return after.strip_prefix(':').map_or(missing, |port| Ok(Some((name, port))));
        }
        match host.matches(':').count() {
            0 => missing,
            1 => Ok(host.split_once(':')),
            _ => Err(format!("address {host}: too many colons in address")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_go_does() {
        let url =
            |scheme: &str, host: &str, path: &str| Url { scheme: scheme.into(), host: host.into(), path: path.into() };
        for (text, expected) in [
            ("udp://1.2.3.4:514", url("udp", "1.2.3.4:514", "")),
            ("TCP+tls://host", url("tcp+tls", "host", "")),
            ("unix:///dev/log", url("unix", "", "/dev/log")),
            ("tcp://[::1]:24/x", url("tcp", "[::1]:24", "/x")),
            ("localhost:514", url("localhost", "", "")),
            ("host", url("", "", "host")),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("127.0.0.1:514", "parse \"127.0.0.1:514\": first path segment in URL cannot contain colon"),
            ("://x", "parse \"://x\": missing protocol scheme"),
            ("tcp://h:x", "parse \"tcp://h:x\": invalid port \":x\" after host"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn ports_are_split_off() {
        let split = |host: &str| {
            let url = Url { host: host.into(), ..Url::default() };
            url.host_and_port().map(|found| found.map(|(host, port)| format!("{host} {port}")))
        };
        assert_eq!(split("h:1"), Ok(Some("h 1".to_owned())));
        assert_eq!(split("[::1]:1"), Ok(Some("::1 1".to_owned())));
        assert_eq!(split("h"), Ok(None));
        assert_eq!(split("::1"), Err("address ::1: too many colons in address".to_owned()));
    }
}
