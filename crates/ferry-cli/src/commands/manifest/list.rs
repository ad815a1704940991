//! A manifest list made of its parts, byte for byte as Docker's client writes it: digests of pushed lists depend on that.

use ferry_spec::{Digest, Platform, Reference, media_type};
use serde::Serialize;

use super::{ImageManifest, indented};
use crate::failure::{Failure, Result};

/// The indentation of lists that are pushed.
const INDENT: &[u8] = b"   ";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
    platform: Platform,
}

/// Writes the list of these manifests, which lie in the registry of `target`; returns its media type and bytes.
pub(super) fn write(target: &Reference, manifests: &[ImageManifest]) -> Result<(&'static str, Vec<u8>)> {
    let manifests = manifests.iter().map(|image| entry(target, image)).collect::<Result<Vec<_>>>()?;
    let is_oci = manifests.first().is_some_and(|first| first.media_type == media_type::OCI_MANIFEST);
    let media_type = if is_oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
    let list = List { schema_version: 2, media_type, manifests };
    Ok((media_type, indented(&list, INDENT)?))
}

fn entry<'a>(target: &Reference, image: &'a ImageManifest) -> Result<Entry<'a>> {
    let name = image.name()?;
    if name.domain() != target.domain() {
        return Err(Failure::new(format!(
            "cannot use source images from a different registry than the target image: {} != {}",
            name.domain(),
            target.domain()
        )));
    }
    let descriptor = &image.descriptor;
    let platform = descriptor.platform.clone().unwrap_or_default();
    Ok(Entry { media_type: &descriptor.media_type, size: descriptor.size, digest: &descriptor.digest, platform })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_spec::Descriptor;

    fn image(name: &str, kind: &str, platform: &str) -> ImageManifest {
        let bytes = br#"{"schemaVersion":2}"#;
        let descriptor = Descriptor {
            platform: Some(Platform::parse(platform).unwrap()),
            ..Descriptor::new(kind, Digest::sha256(bytes), 19)
        };
        ImageManifest::new(&Reference::parse(name).unwrap(), descriptor, bytes).unwrap()
    }

    #[test]
    fn lists_are_indented_by_three() {
        let target = Reference::parse("h:5/list:1").unwrap();
        let (kind, bytes) = write(&target, &[image("h:5/a:1", media_type::DOCKER_MANIFEST, "linux/arm/v7")]).unwrap();
        assert_eq!(kind, media_type::DOCKER_LIST);
        let expected = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{kind}\",\n   \"manifests\": [\n      {{\n         \
             \"mediaType\": \"{}\",\n         \"size\": 19,\n         \"digest\": \"{}\",\n         \"platform\": {{\n            \
             \"architecture\": \"arm\",\n            \"os\": \"linux\",\n            \"variant\": \"v7\"\n         }}\n      \
             }}\n   ]\n}}",
            media_type::DOCKER_MANIFEST,
            Digest::sha256(br#"{"schemaVersion":2}"#)
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn the_first_manifest_says_what_the_list_is() {
        let target = Reference::parse("h:5/list:1").unwrap();
        let (kind, _) = write(&target, &[image("h:5/a:1", media_type::OCI_MANIFEST, "linux/amd64")]).unwrap();
        assert_eq!(kind, media_type::OCI_INDEX);
        let other = write(&target, &[image("g:5/a:1", media_type::OCI_MANIFEST, "linux/amd64")]).unwrap_err();
        assert!(other.message.ends_with("than the target image: g:5 != h:5"));
    }
}
