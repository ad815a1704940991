//! The build cache elsewhere: taken from and given to images, repositories and directories of the client.
//!
//! What travels has BuildKit's form ([`format`]): the layers that steps came to, and a document that tells which keys lead to which of
//! them. The keys are ferry's own, so another builder reads such a cache, and finds nothing in it. What ferry adds to it (the members
//! named `dev.ferry`) tells the files of steps whose layers do not travel: what was made out of them is found without making them again.
//!
//! A [`Place`] is where a cache lies, [`Imports`] is what a build may take, [`ExportOrder`] what it is to give.

mod export;
mod format;
mod import;
mod mounts;
mod place;

use std::collections::BTreeMap;

use ferry_store::archive::LayerForm;

pub(crate) use export::{ExportOrder, inline};
pub(crate) use format::{Link, Step};
pub use import::Imports;
pub(crate) use import::load;
pub(crate) use place::ClientStore;
pub(crate) use place::write_blob;

use crate::failure::{Failure, Result};
use crate::tree::BuiltLayer;

/// A cache as a client names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub struct CacheOrder {
    /// `registry`, `local`, `inline`, ….
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// What else is said of it.
    #[serde(rename = "Attrs", default)]
    pub attributes: BTreeMap<String, String>,
}

/// Reads a truth value as Go does.
pub(crate) fn boolean(attributes: &BTreeMap<String, String>, name: &str, default: bool) -> Result<bool> {
    match attributes.get(name).map(String::as_str) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => {
            let reason = format!("strconv.ParseBool: parsing {other:?}: invalid syntax");
            Err(Failure::invalid(format!("failed to parse {name}: {reason}")))
        }
    }
}

/// How layers are to be compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Compression {
    /// The form; `None` is the one they have.
    pub(crate) form: Option<LayerForm>,
    /// Layers of base images too.
    pub(crate) is_forced: bool,
}

impl Compression {
    /// The form that a layer is given, if that is to change. One that was built here is compressed when it `travels`.
    pub(crate) fn of_layer(self, layer: &BuiltLayer, travels: bool) -> Option<LayerForm> {
        let is_plain = LayerForm::Plain.is_that_of(&layer.descriptor.media_type);
        match self.form.filter(|_| self.is_forced || !layer.foreign) {
            None if travels && is_plain && !layer.foreign => Some(LayerForm::Gzip(None)),
            form => form,
        }
    }

    /// Reads `compression`, `compression-level` and `force-compression`.
    pub(crate) fn read(attributes: &BTreeMap<String, String>) -> Result<Self> {
        let level =
            match attributes.get("compression-level") {
                None => None,
                Some(text) => Some(text.parse::<i32>().map_err(|_| {
                    Failure::invalid(format!("non-integer value {text} specified for compression-level"))
                })?),
            };
        let form = match attributes.get("compression").map(String::as_str) {
            None => level.map(|level| LayerForm::Gzip(gzip_level(level))),
            Some("gzip") => Some(LayerForm::Gzip(level.and_then(gzip_level))),
            Some("zstd") => Some(LayerForm::Zstd(level.map(|level| level.clamp(1, 22)))),
            Some("uncompressed") => Some(LayerForm::Plain),
            Some("estargz") => return Err(Failure::not_implemented("compression=estargz of layers")),
            Some(other) => return Err(Failure::invalid(format!("unsupported compression type {other}"))),
        };
        let text = attributes.get("force-compression").map(String::as_str);
        let is_forced = match text {
            // Written alone it is true.
            Some("") => true,
            _ => boolean(attributes, "force-compression", false).map_err(|_| {
                Failure::invalid(format!("non-bool value {} specified for force-compression", text.unwrap_or_default()))
            })?,
        };
        Ok(Self { form, is_forced })
    }
}

/// The level of gzip; what it has not is its own choice.
fn gzip_level(level: i32) -> Option<u32> {
    u32::try_from(level).ok().filter(|level| *level <= 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn compressions_are_read() {
        let read = |pairs: &[(&str, &str)]| Compression::read(&attributes(pairs));
        assert_eq!(read(&[]).unwrap(), Compression::default());
        let zstd = read(&[("compression", "zstd"), ("compression-level", "30"), ("force-compression", "true")]);
        assert_eq!(zstd.unwrap(), Compression { form: Some(LayerForm::Zstd(Some(22))), is_forced: true });
        for (pairs, text) in [
            ([("compression", "lzma")], "unsupported compression type lzma"),
            ([("compression", "estargz")], "not implemented: compression=estargz of layers"),
            ([("compression-level", "x")], "non-integer value x specified for compression-level"),
            ([("force-compression", "x")], "non-bool value x specified for force-compression"),
        ] {
            assert_eq!(read(&pairs).unwrap_err().message, text);
        }
    }
}
