//! What package managers installed in layers.

use ferry_spec::ChainId;
use ferry_store::tree::{LayerTree, Said, merge};

use super::Images;
use crate::compare::packages::installed;
use crate::error::{Context, Result};

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledPackage {
    /// `dpkg`, `apk` or `rpm`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Images {
    /// Lists the packages that are installed in layers which are here, by kind and name. Blocks.
    ///
    /// # Errors
    /// When the layers cannot be read.
    pub fn packages(&self, chain: &ChainId) -> Result<Vec<InstalledPackage>> {
        let trees = self.inner.store.layer_trees(chain).context("cannot read the layers")?;
        let merged = merge(&trees);
        let all = installed(&trees, &merged).into_iter();
        Ok(all
            .flat_map(|((kind, name), versions)| {
                versions.into_iter().map(move |version| InstalledPackage { kind, name: name.clone(), version })
            })
            .collect())
    }

    /// Of each path, the topmost layer of a chain that brought something there, counted from the lowest; whether it is there still does not
    /// matter. Blocks.
    ///
    /// # Errors
    /// When the layers cannot be read.
    pub fn layers_of_files(&self, chain: &ChainId, paths: &[String]) -> Result<Vec<Option<usize>>> {
        let trees = self.inner.store.layer_trees(chain).context("cannot read the layers")?;
        let brings =
            |tree: &LayerTree, path: &[u8]| matches!(tree.said.get(path), Some(Said::Is(file)) if !file.implied);
        let each = paths.iter().map(|path| {
            let path = ferry_spec::path::clean_rooted(path);
            let path = path.trim_start_matches('/').as_bytes();
            trees.iter().rposition(|tree| brings(tree, path))
        });
        Ok(each.collect())
    }
}
