//! Layers in other forms: the same tar, compressed in another way.

use std::io::{self, Read, Write};

use ferry_spec::descriptor::{Descriptor, media_type};

use super::ArchiveError;
use crate::Store;
use crate::content::Spool;
use crate::error::{Error, Result};
use crate::layers::LayerError;
use crate::layers::stream::Decoder;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerForm {
    /// Not at all.
    Plain,
    /// By gzip; the level is 0 to 9.
    Gzip(Option<u32>),
    /// By zstd; the level is 1 to 22.
    Zstd(Option<i32>),
}

impl LayerForm {
    /// The media type of such a layer.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Tells whether a layer of a media type has this form, whatever its level.
    #[must_use]
    pub fn is_that_of(self, of: &str) -> bool {
        match self {
            Self::Plain => matches!(of, media_type::OCI_LAYER | media_type::DOCKER_LAYER),
            Self::Gzip(_) => matches!(of, media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP),
            Self::Zstd(_) => matches!(of, media_type::OCI_LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD),
        }
    }
}

impl Store {
    /// Stores a layer in another form, unless it has that already; returns its descriptor then.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`]; when it cannot be read, or the other form not be written.
    pub fn layer_as(&self, layer: &Descriptor, form: LayerForm) -> Result<Descriptor> {
        if form.is_that_of(&layer.media_type) {
            if !self.stores_blob(&layer.digest) {
                // It was built here and is wanted as it is: from now on it lies here like that.
                self.spool(self.open_blob(&layer.digest)?)?;
            }
            return Ok(layer.clone());
        }
        let failed = Error::io("write", "the layer");
        let spool = Spool::create(self)?;
        let written = match form {
            LayerForm::Plain => {
                let mut spool = spool;
                self.inflate_into(layer, &mut spool)?;
                spool.finish()
            }
            LayerForm::Gzip(level) => {
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(spool, level);
                self.inflate_into(layer, &mut encoder)?;
                encoder.finish().map_err(failed)?.finish()
            }
            LayerForm::Zstd(level) => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let mut encoder = zstd::Encoder::new(spool, level).map_err(failed)?;
                self.inflate_into(layer, &mut encoder)?;
                encoder.finish().map_err(Error::io("write", "the layer"))?.finish()
            }
        };
        let (digest, size) = written?;
        Ok(Descriptor { media_type: form.media_type().to_owned(), digest, size, ..layer.clone() })
    }

    fn inflate_into(&self, layer: &Descriptor, out: &mut impl Write) -> Result<()> {
        let broken = |error| Error::Archive(ArchiveError::Read(LayerError::Decompress(error)));
        let mut decoder = Decoder::new(self.open_blob(&layer.digest)?).map_err(broken)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            total += read as u64;
            self.inner.limits.check_bytes(total, u64::MAX).map_err(ArchiveError::Read)?;
            out.write_all(&buffer[..read]).map_err(Error::io("write", "the layer"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_keep_their_bytes_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let _lease = store.lease();
        let tar = vec![7_u8; 4096];
        let made = store.compress_layer(&tar[..]).unwrap();
        let mut before = made.descriptor.clone();
        for form in [LayerForm::Zstd(Some(19)), LayerForm::Plain, LayerForm::Gzip(Some(1)), LayerForm::Zstd(None)] {
            let layer = store.layer_as(&before, form).unwrap();
            assert_eq!(layer.media_type, form.media_type());
            assert_ne!(layer.digest, before.digest);
            assert_eq!(store.diff_id_of(&layer.digest).unwrap().0, made.diff_id);
            assert_eq!(store.layer_as(&layer, form).unwrap(), layer);
            before = layer;
        }
    }
}
