//! Addresses without what is secret in them.

/// Puts `xxxxx` in place of the user's name and password in an address, as BuildKit does.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return address.to_owned() };
    let user = &rest[..at];
    let shown = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
    format!("{scheme}://{shown}{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_told() {
        for (address, shown) in [
            ("https://me:word@host/x@y", "https://xxxxx:xxxxx@host/x@y"),
            ("https://token@host", "https://xxxxx@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("local:context", "local:context"),
        ] {
            assert_eq!(without_credentials(address), shown);
        }
    }
}
