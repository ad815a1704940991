//! `plugin create`: a plugin out of a tar with `config.json` and `rootfs/`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ferry_spec::plugin::{CONFIG, MAX_CONFIG_BYTES, PluginConfig, PluginRootFs, PluginSettings};
use ferry_spec::{Descriptor, Reference, media_type};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::Stream;
use serde_json::json;

use super::blobs::{self, Digesting};
use super::{Managed, ROOTFS, Record};
use crate::error::{Context, Error, Result};
use crate::images::Body;

/// The magic number of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

impl Managed {
    /// Makes a plugin out of the tar in `body`.
    ///
    /// API: `POST /plugins/create`
    ///
    /// # Errors
    /// Conflict for a name that is taken; Internal, in Docker's words, for what is no plugin.
    pub async fn create(&self, name: &str, body: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Result<()> {
        let reference = Reference::parse(name)
            .map_err(|error| Error::internal(format!("failed to parse reference {name}: {error}")))?;
        if reference.digest().is_some() {
            return Err(Error::internal("canonical references are not permitted"));
        }
        let name = reference.with_default_tag().familiar();
        self.check_name(&name)?;
        let body = Body::read(body);
        let managed = self.clone();
        crate::blocking(move || managed.create_now(&name, body)).await
    }

    fn create_now(&self, name: &str, body: Body) -> Result<()> {
        let id = crate::ids::random_id();
        let folder = New::make(self.folder(&id))?;
        let (mut config, layer) = split(&folder.0, body)?;
        config.rootfs =
            Some(PluginRootFs { diff_ids: Some(vec![layer.digest.to_string()]), kind: "layers".to_owned() });
        let mut text = serde_json::to_vec(&config).context("error encoding json config")?;
        text.push(b'\n');
        let config_blob = blobs::put(&folder.0, CONFIG, &text)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": described(&config_blob),
            "layers": [described(&layer)],
        });
        let text = serde_json::to_vec(&manifest).context("error encoding plugin manifest")?;
        let manifest = blobs::put(&folder.0, media_type::DOCKER_MANIFEST, &text)?;
        self.unpack(&folder.0, std::slice::from_ref(&layer))?;
        let settings = PluginSettings::of(&config);
        self.add(Record {
            id: id.clone(),
            name: name.to_owned(),
            reference: name.to_owned(),
            enabled: false,
            timeout_s: 0,
            config,
            settings,
            manifest,
            config_blob,
            layers: vec![layer],
        })?;
        folder.keep();
        self.publish("create", &id, name);
        Ok(())
    }

    /// Unpacks the layers of a plugin into its root file system.
    pub(super) fn unpack(&self, folder: &Path, layers: &[Descriptor]) -> Result<()> {
        let rootfs = folder.join(ROOTFS);
        fs::create_dir(&rootfs).context("cannot make the plugin's root file system")?;
        let files = layers.iter().map(|layer| File::open(blobs::path(folder, &layer.digest)));
        let files = files.collect::<io::Result<Vec<_>>>().context("cannot read a layer of the plugin")?;
        self.inner.store.unpack_layers(&files, &rootfs).context("error applying the layers of the plugin")
    }
}

/// A plugin's folder that goes again unless it is kept.
pub(super) struct New(pub(super) PathBuf, bool);

impl New {
    pub(super) fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).context("cannot make the plugin's folder")?;
        let new = Self(path, false);
        blobs::make_folder(&new.0)?;
        Ok(new)
    }

    pub(super) fn keep(mut self) {
        self.1 = true;
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.1
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(folder = %self.0.display(), %error, "folder of a failed plugin left behind");
        }
    }
}

fn described(descriptor: &Descriptor) -> serde_json::Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest.as_str(), "size": descriptor.size })
}

/// Takes the configuration out, and packs what is below `rootfs/` as a layer.
fn split(folder: &Path, body: Body) -> Result<(PluginConfig, Descriptor)> {
    let mut body = BufReader::new(body);
    let is_gzip = io::BufRead::fill_buf(&mut body).is_ok_and(|head| head.starts_with(&GZIP));
    let source: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(body)) } else { Box::new(body) };
    let pending = folder.join("blobs").join("pending");
    let file = File::create(&pending).context("cannot write a layer of the plugin")?;
    let mut layer = tar::Builder::new(GzEncoder::new(Digesting::new(file), Compression::default()));
    let (mut config, mut has_rootfs) = (None, false);
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries().context("failed to read from tar")? {
        let mut entry = entry.context("failed to read from tar")?;
        let path = entry.path().context("failed to read from tar")?.into_owned();
        let path = PathBuf::from(ferry_spec::path::clean_rooted(&path.to_string_lossy()).trim_start_matches('/'));
        if path == Path::new("config.json") {
            let mut text = Vec::new();
            entry.by_ref().take(MAX_CONFIG_BYTES).read_to_end(&mut text).context("failed to read config.json")?;
            config = Some(text);
        } else if let Ok(inside) = path.strip_prefix(ROOTFS) {
            has_rootfs = true;
            if !inside.as_os_str().is_empty() {
                copy(&mut layer, &mut entry, inside).context("error copying tar data")?;
            }
        }
    }
    let config = config.ok_or_else(|| Error::internal("config not found"))?;
    if !has_rootfs {
        return Err(Error::internal("no rootfs found: EOF"));
    }
    let digesting = layer.into_inner().and_then(GzEncoder::finish).context("error closing gzip writer")?;
    let (digest, size) = digesting.finish();
    fs::rename(&pending, blobs::path(folder, &digest)).context("cannot write a layer of the plugin")?;
    let config =
        serde_json::from_slice(&config).map_err(|error| Error::internal(format!("failed to parse config: {error}")))?;
    Ok((config, Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size)))
}

/// Copies an entry under another name, with its extended attributes; a hard link leads where its target went.
fn copy<W: Write, R: Read>(layer: &mut tar::Builder<W>, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
    let kept: Vec<(String, Vec<u8>)> = match entry.pax_extensions()? {
        None => Vec::new(),
        Some(extensions) => extensions
            .filter_map(Result::ok)
            .filter_map(|one| Some((one.key().ok()?.to_owned(), one.value_bytes().to_vec())))
            .filter(|(key, _)| key.starts_with("SCHILY.xattr."))
            .collect(),
    };
    if !kept.is_empty() {
        layer.append_pax_extensions(kept.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    let mut header = entry.header().clone();
    let kind = header.entry_type();
    if kind.is_symlink() || kind.is_hard_link() {
        let target = entry.link_name()?.unwrap_or_default().into_owned();
        let target = match target.strip_prefix(ROOTFS) {
            Ok(inside) if kind.is_hard_link() => inside.to_owned(),
            _ => target,
        };
        return layer.append_link(&mut header, path, target);
    }
    layer.append_data(&mut header, path, entry)
}
