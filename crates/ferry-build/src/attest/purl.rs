//! Package URLs.

use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands as it is in a part of such an address.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// The address of an image.
pub(super) fn of_image(name: &Reference, platform: Option<&Platform>) -> String {
    let path: Vec<String> = name.familiar_name().split('/').map(escaped).collect();
    let digest = name.digest().map(ToString::to_string);
    let (version, digest) = match (name.tag(), digest) {
        (Some(tag), digest) => (Some(tag.to_owned()), digest),
        (None, digest) => (digest, None),
    };
    let mut address = format!("pkg:docker/{}", path.join("/"));
    if let Some(version) = version {
        address.push_str(&format!("@{}", escaped(&version)));
    }
    let mut sign = '?';
    let platform = platform.map(|platform| platform.normalized().to_string());
    for (key, value) in [("digest", digest), ("platform", platform)] {
        if let Some(value) = value {
            address.push_str(&format!("{sign}{key}={}", escaped(&value)));
            sign = '&';
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_addresses() {
        let digest = ferry_spec::digest::Digest::sha256(b"x");
        for (name, address) in [
            ("busybox".to_owned(), "pkg:docker/busybox".to_owned()),
            ("host:5000/a/b:1".to_owned(), "pkg:docker/host:5000/a/b@1".to_owned()),
            (format!("alpine:3@{digest}"), format!("pkg:docker/alpine@3?digest={digest}")),
        ] {
            assert_eq!(of_image(&Reference::parse(&name).unwrap(), None), address);
        }
    }
}
