//! What each layer of an image brings, and what of it nobody sees in the end.

use std::collections::{BTreeMap, HashMap};

use ferry_api::compare::{LayerContent, LayerFile, Layers, WastedFile};
use ferry_spec::Platform;
use ferry_store::tree::{FileKind, LayerTree, Said};

use super::names::familiar;
use super::resolve::{Parsed, platform_not_found};
use super::{Images, Inner};
use crate::error::{Context, Result};

impl Images {
    /// Tells what the layers of an image hold.
    ///
    /// API: `GET /images/{name}/layers`, which Docker does not have.
    ///
    /// # Errors
    /// NotFound; when a layer cannot be read.
    pub async fn explore(&self, reference: &str, platform: Option<Platform>) -> Result<Layers> {
        let reference = reference.to_owned();
        self.blocking(move |inner| inner.explore(&reference, platform.as_ref())).await
    }
}

impl Inner {
    fn explore(&self, reference: &str, platform: Option<&Platform>) -> Result<Layers> {
        let _lease = self.store.lease();
        let record = self.find(reference)?;
        let parsed = self.best(&record, platform)?;
        let parsed = parsed.ok_or_else(|| platform_not_found(&familiar(&record), platform))?;
        let trees = match parsed.chain_id() {
            Some(chain) => self.store.layer_trees(&chain).context("cannot read the layers")?,
            None => Vec::new(),
        };
        let waste = waste_of(&trees);
        let layers = contents(&parsed, &trees);
        Ok(Layers {
            id: record.target.digest.to_string(),
            platform: parsed.platform(),
            size: layers.iter().map(|layer| layer.size).sum(),
            wasted: waste.iter().map(|file| file.size).sum(),
            layers,
            waste,
        })
    }
}

fn contents(parsed: &Parsed, trees: &[LayerTree]) -> Vec<LayerContent> {
    let mut steps = parsed.config.history.iter().filter(|step| !step.empty_layer);
    let mut seen: HashMap<&[u8], bool> = HashMap::new();
    let descriptors = parsed.manifest.layers.iter().zip(&parsed.config.rootfs.diff_ids);
    let mut layers = Vec::with_capacity(trees.len());
    for (tree, (descriptor, diff_id)) in trees.iter().zip(descriptors) {
        let mut files = Vec::with_capacity(tree.said.len());
        for (path, said) in &tree.said {
            let was_there = seen.get(&path[..]).copied().unwrap_or(false);
            seen.insert(path, matches!(said, Said::Is(_)));
            files.push(shown(path, said, was_there));
        }
        layers.push(LayerContent {
            digest: descriptor.digest.to_string(),
            diff_id: diff_id.to_string(),
            created_by: steps.next().map(|step| step.created_by.clone()).unwrap_or_default(),
            size: files.iter().map(|file| file.size).sum(),
            files,
        });
    }
    layers
}

fn shown(path: &[u8], said: &Said, was_there: bool) -> LayerFile {
    let path = absolute(path);
    let Said::Is(file) = said else {
        return LayerFile { path, change: "removed".to_owned(), ..LayerFile::default() };
    };
    LayerFile {
        path,
        kind: kind_of(file.kind).to_owned(),
        change: if was_there { "changed" } else { "added" }.to_owned(),
        size: if file.linked { 0 } else { file.size },
        mode: file.mode,
        owner: format!("{}:{}", file.uid, file.gid),
        link: String::from_utf8_lossy(&file.link).into_owned(),
    }
}

/// Names a kind as the API does.
pub(crate) fn kind_of(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Folder => "folder",
        FileKind::Symlink => "link",
        FileKind::Special => "special",
    }
}

/// A path as users write it.
pub(crate) fn absolute(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Files of lower layers that an upper one replaces or removes, by their bytes.
fn waste_of(trees: &[LayerTree]) -> Vec<WastedFile> {
    let mut visible: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut hidden: BTreeMap<&[u8], (u64, usize)> = BTreeMap::new();
    for tree in trees {
        for (path, said) in &tree.said {
            let covers_below = match said {
                Said::Gone => true,
                Said::Is(file) => file.opaque || file.kind != FileKind::Folder,
            };
            if covers_below {
                for (gone, size) in take_below(&mut visible, path) {
                    let (bytes, times) = hidden.entry(gone).or_default();
                    *bytes += size;
                    *times += 1;
                }
            }
            if let Said::Is(file) = said
                && file.kind == FileKind::File
            {
                visible.insert(path, if file.linked { 0 } else { file.size });
            }
        }
    }
    let mut waste: Vec<WastedFile> = hidden
        .into_iter()
        .filter(|(_, (size, _))| *size > 0)
        .map(|(path, (size, times))| WastedFile { path: absolute(path), size, times })
        .collect();
    waste.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.path.cmp(&other.path)));
    waste
}

/// Takes a path, and what lies below it, out of what is visible.
fn take_below<'a>(visible: &mut BTreeMap<&'a [u8], u64>, path: &'a [u8]) -> Vec<(&'a [u8], u64)> {
    let is_below = |other: &[u8]| other == path || (other.starts_with(path) && other.get(path.len()) == Some(&b'/'));
    let found: Vec<(&[u8], u64)> = visible
        .range(path..)
        .take_while(|(other, _)| other.starts_with(path))
        .filter(|(other, _)| is_below(other))
        .map(|(other, size)| (*other, *size))
        .collect();
    found.iter().for_each(|(other, _)| {
        visible.remove(other);
    });
    found
}
