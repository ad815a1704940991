//! `WWW-Authenticate` headers.
//!
//! Spec: RFC 9110 section 11.6.1, as far as registries use it.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Fetch a token from `realm`.
    Bearer(Bearer),
    /// Send user name and password.
    Basic,
}

/// What a registry says about its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bearer {
    /// URL of the token server.
    pub(crate) realm: String,
    /// Name of the registry towards the token server.
    pub(crate) service: Option<String>,
    /// What has to be asked for.
    pub(crate) scope: Option<String>,
    /// Why the token that was sent is not good enough.
    pub(crate) error: Option<String>,
}

/// Returns the challenges in `headers` that are understood, best first.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found: Vec<Challenge> =
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
    found.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    found
}

fn parse(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut bearer = Bearer::default();
    for (name, value) in parameters(rest) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => bearer.realm = value,
            "service" => bearer.service = Some(value),
            "scope" => bearer.scope = Some(value),
            "error" => bearer.error = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer(bearer))
}

/// Splits `a="b, c", d=e` at the commas outside of quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name.trim().to_owned(), value));
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// Returns the text up to the closing quote and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: error.map(Into::into),
        })
    }

    #[test]
    fn challenges_are_read() {
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("", None),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                    None,
                )),
            ),
            (
                r#"bearer Realm = "http://h/t" , error=insufficient_scope"#,
                Some(bearer("http://h/t", None, None, Some("insufficient_scope"))),
            ),
            (r#"Bearer realm="a\"b"#, Some(bearer("a\"b", None, None, None))),
            ("Bearer realm", Some(bearer("", None, None, None))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn bearer_is_preferred() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Bearer realm=\"http://h/\"".parse().unwrap());
        let found = challenges(&headers);
        assert!(matches!(found[..], [Challenge::Bearer(_), Challenge::Basic]));
    }
}
