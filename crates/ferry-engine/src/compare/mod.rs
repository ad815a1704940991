//! Comparing two images or containers: configuration, packages, files.
//!
//! Nothing is mounted and nothing of the two is run. A file that both have from one layer is the same without being read; of the others
//! looks are compared, and content where the lengths agree. Times do not count: builds that do the same differ in nothing else.

mod config;
pub(crate) mod packages;
mod rpm;
mod sqlite;

use std::collections::BTreeMap;

use ferry_api::compare::{Comparison, FileChange, Side};
use ferry_spec::Platform;
use ferry_spec::digest::ChainId;
use ferry_store::Store;
use ferry_store::tree::{FileKind, LayerTree, Merged, is_same_content, merge};

use crate::containers::Containers;
use crate::containers::record::Record;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::images::{Credentials, Images, Look, ResolvedImage, absolute_path};

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct CompareRequest {
    /// An image or a container.
    pub from: String,
    /// An image or a container.
    pub to: String,
    /// For images, instead of this host's.
    pub platform: Option<Platform>,
    /// Who the user is towards the registry of an image that is not here.
    pub auth: Option<Credentials>,
}

/// Compares; cheap to clone.
#[derive(Clone)]
pub struct Compare {
    store: Store,
    images: Images,
    containers: Containers,
}

/// One of the two, opened.
struct Opened {
    side: Side,
    config: ferry_spec::image::ContainerConfig,
    chains: Vec<ChainId>,
    trees: Vec<LayerTree>,
    _held: Option<Held>,
}

impl Compare {
    pub(crate) fn new(store: Store, images: Images, containers: Containers) -> Self {
        Self { store, images, containers }
    }

    /// Compares two images or containers. An image that is not here is fetched for it, as far as its layers are not, and is not kept.
    ///
    /// API: `GET /compare`, which Docker does not have.
    ///
    /// # Errors
    /// NotFound; what the registry says; when layers cannot be read.
    pub async fn compare(&self, request: CompareRequest) -> Result<Comparison> {
        let from = self.find(&request.from, &request).await?;
        let to = self.find(&request.to, &request).await?;
        let store = self.store.clone();
        crate::blocking(move || {
            let (from, to) = (from.open(&store)?, to.open(&store)?);
            compare(from, to)
        })
        .await
    }

    /// A container of that name, else an image, else one from a registry.
    async fn find(&self, name: &str, request: &CompareRequest) -> Result<Found> {
        if name.is_empty() {
            return Err(Error::invalid("two images or containers are compared: `from` and `to` name them"));
        }
        if let Ok(container) = self.containers.find(name) {
            let record = container.snapshot();
            let upper = self.containers.data_folder(&record.id).join("upper");
            return Ok(Found::Container { name: name.to_owned(), record: Box::new(record), upper });
        }
        let platform = request.platform.as_ref();
        match self.images.resolve(name, platform) {
            Ok(image) => Ok(Found::Here { name: name.to_owned(), image: Box::new(image) }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let look = self.images.fetch_for_a_look(name, platform.cloned(), request.auth.clone()).await;
                // That it is not here says more than that nobody else has it either.
                let look = look.map_err(|remote| {
                    Error::not_found(format!("No such image or container: {name}")).with_source(remote)
                })?;
                Ok(Found::Fetched { name: name.to_owned(), look: Box::new(look) })
            }
            Err(error) => Err(error),
        }
    }
}

enum Found {
    Here { name: String, image: Box<ResolvedImage> },
    Fetched { name: String, look: Box<Look> },
    Container { name: String, record: Box<Record>, upper: std::path::PathBuf },
}

impl Found {
    fn open(self, store: &Store) -> Result<Opened> {
        match self {
            Self::Here { name, image } => {
                let (side, chains, trees) = read_image(store, name, &image, false)?;
                let config = image.config.config.clone();
                Ok(Opened { side, config, chains, trees, _held: Some(Held::Here(image)) })
            }
            Self::Fetched { name, look } => {
                let (side, chains, trees) = read_image(store, name, &look.image, true)?;
                let config = look.image.config.config.clone();
                Ok(Opened { side, config, chains, trees, _held: Some(Held::Fetched(look)) })
            }
            Self::Container { name, record, upper } => open_container(store, name, &record, &upper),
        }
    }
}

/// Keeps layers until they have been read.
#[expect(dead_code, reason = "held, and let go of")]
enum Held {
    Here(Box<ResolvedImage>),
    Fetched(Box<Look>),
}

type Read = (Side, Vec<ChainId>, Vec<LayerTree>);

fn read_image(store: &Store, name: String, image: &ResolvedImage, fetched: bool) -> Result<Read> {
    let trees = trees_of(store, image.chain_id.as_ref())?;
    let diff_ids = &image.config.rootfs.diff_ids;
    let side = Side {
        name,
        kind: "image".to_owned(),
        id: image.id.to_string(),
        platform: image.platform.clone(),
        size: 0,
        layers: diff_ids.iter().map(ToString::to_string).collect(),
        fetched,
    };
    Ok((side, ChainId::each_of(diff_ids), trees))
}

fn open_container(store: &Store, name: String, record: &Record, upper: &std::path::Path) -> Result<Opened> {
    // Where overlay cannot be used the writable folder is a whole copy, once it was filled.
    let is_copy = store.driver_name() == "vfs" && upper.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let chain = record.chain_id.as_ref().filter(|_| !is_copy);
    let mut trees = trees_of(store, chain)?;
    trees.push(store.folder_tree(upper).context("cannot read what the container changed")?);
    let layers = chain.map_or_else(|| Ok(Vec::new()), |chain| store.layer_chain(chain));
    let mut layers = layers.context("cannot read the layers")?;
    layers.reverse();
    let side = Side {
        name,
        kind: "container".to_owned(),
        id: record.id.clone(),
        platform: record.platform.clone(),
        size: 0,
        layers: layers.iter().map(|layer| layer.diff_id.to_string()).chain(["container".to_owned()]).collect(),
        fetched: false,
    };
    let chains = layers.into_iter().map(|layer| layer.chain_id).collect();
    Ok(Opened { side, config: config::of_container(&record.config), chains, trees, _held: None })
}

fn trees_of(store: &Store, chain: Option<&ChainId>) -> Result<Vec<LayerTree>> {
    chain.map_or_else(|| Ok(Vec::new()), |chain| store.layer_trees(chain)).context("cannot read the layers")
}

fn compare(mut from: Opened, mut to: Opened) -> Result<Comparison> {
    let common_layers = from.chains.iter().zip(&to.chains).take_while(|(one, other)| one == other).count();
    let (before, after) = (merge(&from.trees), merge(&to.trees));
    let size = |merged: &BTreeMap<Vec<u8>, Merged<'_>>| {
        merged.values().filter(|one| !one.file.linked).map(|one| one.file.size).sum()
    };
    from.side.size = size(&before);
    to.side.size = size(&after);
    let pair = Pair { from: &from, to: &to, common_layers };
    let files = pair.files(&before, &after)?;
    let packages = packages::changes(&from.trees, &before, &to.trees, &after);
    let config = config::changes(&from.config, &to.config);
    drop((before, after));
    Ok(Comparison { common_layers, config, packages, files, from: from.side, to: to.side })
}

struct Pair<'a> {
    from: &'a Opened,
    to: &'a Opened,
    common_layers: usize,
}

impl Pair<'_> {
    fn files(
        &self,
        before: &BTreeMap<Vec<u8>, Merged<'_>>,
        after: &BTreeMap<Vec<u8>, Merged<'_>>,
    ) -> Result<Vec<FileChange>> {
        let mut changes = Vec::new();
        for (path, one) in before {
            let change = |change: &str, what, to_size| FileChange {
                path: absolute_path(path),
                change: change.to_owned(),
                what,
                from_size: one.file.size,
                to_size,
            };
            match after.get(path) {
                None => changes.push(change("removed", Vec::new(), 0)),
                Some(other) => {
                    let what = self.differences(path, one, other)?;
                    if !what.is_empty() {
                        changes.push(change("changed", what, other.file.size));
                    }
                }
            }
        }
        let added = after.iter().filter(|(path, _)| !before.contains_key(*path));
        changes.extend(added.map(|(path, other)| FileChange {
            path: absolute_path(path),
            change: "added".to_owned(),
            to_size: other.file.size,
            ..FileChange::default()
        }));
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(changes)
    }

    fn differences(&self, path: &[u8], one: &Merged<'_>, other: &Merged<'_>) -> Result<Vec<String>> {
        if one.layer == other.layer && one.layer < self.common_layers {
            return Ok(Vec::new());
        }
        let (a, b) = (one.file, other.file);
        if a.kind != b.kind {
            return Ok(vec!["type".to_owned()]);
        }
        let mut what = Vec::new();
        let mut note = |differs: bool, name: &str| {
            if differs {
                what.push(name.to_owned());
            }
        };
        note(a.kind == FileKind::File && !self.has_same_content(path, one, other)?, "content");
        note(a.kind == FileKind::Symlink && a.link != b.link, "link");
        note(a.kind == FileKind::Special && a.device != b.device, "device");
        note(a.kind != FileKind::Symlink && a.mode != b.mode, "mode");
        note((a.uid, a.gid) != (b.uid, b.gid), "owner");
        Ok(what)
    }

    fn has_same_content(&self, path: &[u8], one: &Merged<'_>, other: &Merged<'_>) -> Result<bool> {
        if one.file.size != other.file.size || one.file.size == 0 {
            return Ok(one.file.size == other.file.size);
        }
        let failed = || format!("cannot read {}", absolute_path(path));
        let left = self.from.trees[one.layer].open(path).context(failed())?;
        let right = self.to.trees[other.layer].open(path).context(failed())?;
        is_same_content(&left, &right).context(failed())
    }
}
