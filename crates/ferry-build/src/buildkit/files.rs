//! What both directions of a transfer of files have in common.

use ferry_buildkit_proto::grpc::Metadata;
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Adds texts to what goes with a call. Where one of them could not stand in a header all are escaped, and that is said.
pub(super) fn header<'a>(
    metadata: &mut Metadata,
    name: &'static str,
    values: impl IntoIterator<Item = &'a str> + Clone,
) {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let is_escaped = !values.clone().into_iter().all(plain);
    for value in values {
        let text = match is_escaped {
            true => utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
            false => value.to_owned(),
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            metadata.append(HeaderName::from_static(name), value);
        }
    }
    if is_escaped && let Ok(name) = HeaderName::from_bytes(format!("{name}-encoded").as_bytes()) {
        metadata.insert(name, HeaderValue::from_static("1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_where_they_must() {
        let mut metadata = Metadata::new();
        header(&mut metadata, "dir-name", ["context"]);
        header(&mut metadata, "followpaths", ["a b%", "ü"]);
        assert_eq!(metadata["dir-name"], "context");
        assert!(!metadata.contains_key("dir-name-encoded"));
        let all: Vec<_> = metadata.get_all("followpaths").into_iter().collect();
        assert_eq!(all, ["a%20b%25", "%C3%BC"]);
        assert_eq!(metadata["followpaths-encoded"], "1");
    }
}
