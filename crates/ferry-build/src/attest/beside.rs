//! Statements about files that are no image: they lie among them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use ferry_engine::workshop::Tree as Workpiece;
use ferry_spec::digest::{Algorithm, Hasher};
use serde_json::{Value, json};

use super::{AttestOrder, predicates, statement};
use crate::builder::{Builder, Built};
use crate::content::each_of_built;
use crate::failure::{Doing, Failure, Result, blocking};
use crate::files;
use crate::graph::MakeFile;
use crate::tree::{BuiltLayer, Tree};

impl Builder {
    /// Puts the statements that are asked for among the files of what was built; `prefix` goes before their names.
    ///
    /// # Errors
    /// When files cannot be read, or the statements not be written.
    pub async fn with_statements(&self, mut built: Built, prefix: &str) -> Result<Built> {
        let order = built.attest.beside_files();
        if order.is_empty() {
            return Ok(built);
        }
        for at in 0..built.targets.len() {
            let (whole, order, builder, prefix) = (built.clone(), order.clone(), self.clone(), prefix.to_owned());
            let workpiece = blocking(move || builder.lay_statements(&whole, at, &order, &prefix)).await?;
            let stored = self.ground().engine.workshop.layer_of(workpiece).await?;
            let target = &mut built.targets[at];
            if let Tree::Layers(layers) = &target.tree {
                target.tree = Tree::Layers(layers.with(BuiltLayer::made_now(stored)));
            }
        }
        Ok(built)
    }

    fn lay_statements(&self, built: &Built, at: usize, order: &AttestOrder, prefix: &str) -> Result<Workpiece> {
        let engine = &self.ground().engine;
        let target = &built.targets[at];
        let Tree::Layers(layers) = &target.tree else { return Err(Failure::internal("a target without layers")) };
        let open = target.tree.open(&engine.workshop)?;
        let subjects = subjects(open.as_fd())?;
        let workpiece = engine.workshop.tree(layers.chain())?;
        for predicate in predicates(order, &built.story, at, &target.tree, &target.platform, &engine.images)? {
            let content = serde_json::to_vec_pretty(&statement(&predicate, &subjects))
                .map_err(|error| Failure::internal(error.to_string()))?;
            let path = format!("/{prefix}{}", predicate.file);
            let file = MakeFile { path, mode: 0o600, content, ..MakeFile::default() };
            files::make_file(workpiece.root(), &file, None)?;
        }
        Ok(workpiece)
    }
}

/// Every regular file, with its digest.
fn subjects(root: std::os::fd::BorrowedFd<'_>) -> Result<Vec<Value>> {
    let mut subjects = Vec::new();
    each_of_built(root, |found| {
        let name = String::from_utf8_lossy(&found.path).into_owned();
        let Some(file) = found.file.filter(|_| found.kind.is_file()) else { return Ok(()) };
        let mut file = File::from(file);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).doing("cannot read what was built")? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        subjects.push(json!({ "name": name, "digest": { "sha256": hasher.finish().hex() } }));
        Ok(())
    })?;
    Ok(subjects)
}
