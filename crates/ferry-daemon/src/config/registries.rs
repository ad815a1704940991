//! What is configured about registries: mirrors, those that need not prove who they are, and settings by name.

use std::net::IpAddr;

use ferry_engine::config::RegistrySettings;
use indexmap::IndexMap;
use serde_json::Value;

/// Checks one of `registry-mirrors`, and writes it as Docker does, with a slash at its end.
pub(super) fn mirror(text: &str) -> Result<String, String> {
    let url = split(text)?.ok_or_else(|| {
        format!("invalid mirror: no scheme specified for {text:?}: must use either 'https://' or 'http://'")
    })?;
    if let Some((user, host)) = url.user {
        // The password is not repeated.
        let user = user.split(':').next().unwrap_or_default();
        let shown = format!("{}://{user}:xxxxx@{host}", url.scheme);
        return Err(format!("invalid mirror: username/password not allowed in URI {shown:?}"));
    }
    Ok(format!("{}/", text.strip_suffix('/').unwrap_or(text)))
}

/// Checks one of `insecure-registries`; a scheme before it does not count.
pub(super) fn insecure(text: &str) -> Result<String, String> {
    let host = match text.split_once("://") {
        None => text,
        Some((scheme, host)) if is_http(scheme) => host,
        Some(_) => return Err(format!("insecure registry {text} should not contain '://'")),
    };
    let network = host.split_once('/').and_then(|(address, bits)| {
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    });
    match network {
        Some(()) => Ok(host.to_owned()),
        None => host_and_port(host)
            .map(|()| host.to_owned())
            .map_err(|reason| format!("insecure registry {host} is not valid: {reason}")),
    }
}

/// Reads `registry`: settings by the name of a registry, by `*.suffix` or by `*`. A failure names the registry.
pub(super) fn by_name(value: &Value) -> Result<IndexMap<String, RegistrySettings>, (String, String)> {
    let Value::Object(all) = value else {
        return Err((String::new(), "it must be an object of registries".to_owned()));
    };
    all.iter()
        .map(|(name, settings)| match settings_of(name, settings) {
            Ok(settings) => Ok((name.clone(), settings)),
            Err(reason) => Err((name.clone(), reason)),
        })
        .collect()
}

fn settings_of(name: &str, settings: &Value) -> Result<RegistrySettings, String> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    if host != "*" {
        host_and_port(host)?;
    }
    let Value::Object(settings) = settings else { return Err("it must be an object".to_owned()) };
    if let Some(unknown) = settings.keys().find(|key| *key != "mirrors") {
        return Err(format!("it has no setting {unknown:?}; there is `mirrors`"));
    }
    let listed = match settings.get("mirrors") {
        None => return Ok(RegistrySettings::default()),
        Some(listed) => listed.as_array().ok_or("`mirrors` must be a list of URLs")?,
    };
    let mirrors = listed.iter().map(|mirror| {
        let text = mirror.as_str().ok_or("`mirrors` must be a list of URLs")?;
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let host = split(&whole)?.map_or("", |url| url.user.map_or(url.rest, |(_, host)| host));
        host_and_port(host.split('/').next().unwrap_or(host)).map_err(|reason| format!("invalid mirror: {reason}"))?;
        Ok(text.to_owned())
    });
    Ok(RegistrySettings { mirrors: mirrors.collect::<Result<_, String>>()? })
}

/// An `http` or `https` URL, as far as it is looked at here.
struct Split<'a> {
    scheme: &'a str,
    /// User and password, and what follows.
    user: Option<(&'a str, &'a str)>,
    /// What follows the scheme.
    rest: &'a str,
}

/// Takes a URL apart; without a scheme it is none.
fn split(text: &str) -> Result<Option<Split<'_>>, String> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) else {
        return Ok(None);
    };
    if !is_http(scheme) {
        return Err(format!(
            "invalid mirror: unsupported scheme {scheme:?} in {text:?}: must use either 'https://' or 'http://'"
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(format!("invalid mirror: query or fragment at end of the URI {text:?}"));
    }
    let authority = rest.split('/').next().unwrap_or(rest);
    let user = authority.rfind('@').map(|at| (&rest[..at], &rest[at + 1..]));
    Ok(Some(Split { scheme, user, rest }))
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Checks `host` or `host:port`, where the host is a name or an address.
fn host_and_port(text: &str) -> Result<(), String> {
    let bare: Option<IpAddr> = text.parse().ok();
    let (host, port) = match text.rsplit_once(':').filter(|_| bare.is_none()) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if address.parse::<IpAddr>().is_err() && !host.split('.').all(is_label) {
        return Err(format!("invalid host {host:?}"));
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => Err(format!("invalid port {port:?}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_checked_as_docker_checks_them() {
        for (text, expected) in [
            ("http://m.example", Ok("http://m.example/")),
            ("https://m.example:5000/hub/", Ok("https://m.example:5000/hub/")),
            (
                "m.example",
                Err(r#"invalid mirror: no scheme specified for "m.example": must use either 'https://' or 'http://'"#),
            ),
            (
                "://m.example",
                Err(
                    r#"invalid mirror: no scheme specified for "://m.example": must use either 'https://' or 'http://'"#,
                ),
            ),
            (
                "ftp://m.example",
                Err(
                    r#"invalid mirror: unsupported scheme "ftp" in "ftp://m.example": must use either 'https://' or 'http://'"#,
                ),
            ),
            (
                "https://m.example/?q=1",
                Err(r#"invalid mirror: query or fragment at end of the URI "https://m.example/?q=1""#),
            ),
            (
                "http://foo:bar@m.example/",
                Err(r#"invalid mirror: username/password not allowed in URI "http://foo:xxxxx@m.example/""#),
            ),
        ] {
            assert_eq!(mirror(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn insecure_registries_are_checked_as_docker_checks_them() {
        for (text, expected) in [
            ("127.0.0.1:8080", Ok("127.0.0.1:8080")),
            ("2001:db8::1", Ok("2001:db8::1")),
            ("[2001:db8::1]:80", Ok("[2001:db8::1]:80")),
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("HTTP://mytest.com", Ok("mytest.com")),
            ("svn://mytest.com", Err("insecure registry svn://mytest.com should not contain '://'")),
            ("mytest-.com", Err(r#"insecure registry mytest-.com is not valid: invalid host "mytest-.com""#)),
            ("mytest.com:500000", Err(r#"insecure registry mytest.com:500000 is not valid: invalid port "500000""#)),
            ("\"mytest.com\"", Err(r#"insecure registry "mytest.com" is not valid: invalid host "\"mytest.com\"""#)),
        ] {
            assert_eq!(insecure(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn settings_by_name_are_read() {
        let value = serde_json::json!({
            "quay.io": {"mirrors": ["https://me:p%40ss@m.example/quay", "m2.example:5000"]}, "*.example.org": {}, "*": {"mirrors": []},
        });
        let all = by_name(&value).unwrap();
        assert_eq!(all["quay.io"].mirrors, ["https://me:p%40ss@m.example/quay", "m2.example:5000"]);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["quay.io", "*.example.org", "*"]);
        for (value, name, reason) in [
            (serde_json::json!([]), "", "an object of registries"),
            (serde_json::json!({"quay.io": {"mirror": []}}), "quay.io", "no setting \"mirror\""),
            (serde_json::json!({"quay.io": {"mirrors": "x"}}), "quay.io", "a list of URLs"),
            (serde_json::json!({"quay.io": {"mirrors": ["ftp://x"]}}), "quay.io", "unsupported scheme"),
            (serde_json::json!({"quay.io": {"mirrors": ["https://"]}}), "quay.io", "invalid host"),
            (serde_json::json!({"https://quay.io": {}}), "https://quay.io", "invalid"),
        ] {
            let (named, said) = by_name(&value).unwrap_err();
            assert!(named == name && said.contains(reason), "{named} {said}");
        }
    }
}
