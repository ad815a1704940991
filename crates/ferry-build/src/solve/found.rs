//! What other caches know, and bringing it here.
//!
//! The outcome of a step may be known without its files: a cache from elsewhere says which layers it consists of. That is enough for the
//! keys of the steps that follow. Who needs the files asks for a tree that is present: its layers are fetched, or the step is carried out
//! after all.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, try_join_all};

use super::{Key, Solve, located};
use crate::exchange::{Link, Step};
use crate::failure::{Failure, Result, blocking};
use crate::graph::{MountKind, Op, Output, Vertex, VertexId};
use crate::progress::Begun;
use crate::tree::{Layers, Tree};

/// What a step came to.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// All keys by which it is known.
    pub(super) keys: Vec<String>,
    pub(super) outputs: Vec<Layers>,
    pub(super) created_ns: i64,
    /// Only a cache from elsewhere knows of it so far.
    pub(super) is_elsewhere: bool,
}

impl Solve {
    pub(super) fn outcomes(&self) -> MutexGuard<'_, HashMap<VertexId, Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_outcome(&self, id: VertexId, outcome: Outcome) {
        self.outcomes().insert(id, outcome);
    }

    pub(super) fn note_pin(&self, id: VertexId, pin: String) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).insert(id, pin);
    }

    /// What sources turned out to be: a commit, a digest.
    pub(crate) fn pins(&self) -> HashMap<VertexId, String> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds what a step came to elsewhere.
    pub(super) fn find_elsewhere(&self, id: VertexId, vertex: &Vertex, keys: &[&Key]) -> Option<Vec<Tree>> {
        if vertex.meta.ignore_cache {
            return None;
        }
        let imports = &self.options.imports;
        let hit = keys.iter().find_map(|key| imports.find(&key.digest, vertex.op.outputs()))?;
        let mut all = hit.keys;
        for key in keys {
            if !all.contains(&key.digest) {
                all.push(key.digest.clone());
            }
        }
        let outputs = hit.outputs.clone();
        let outcome = Outcome { keys: all, outputs: hit.outputs, created_ns: hit.created_ns, is_elsewhere: true };
        self.note_outcome(id, outcome);
        self.reporter.cached(vertex.digest.clone(), self.input_digests(vertex), self.name(vertex));
        Some(outputs.into_iter().map(Tree::Layers).collect())
    }

    /// Tells whether the files of a tree are here.
    pub(super) fn is_here(&self, tree: &Tree) -> bool {
        let Tree::Layers(layers) = tree else { return true };
        if self.options.imports.is_empty() {
            return true;
        }
        let Some(chain) = layers.chain() else { return true };
        let own = layers.0.iter().filter(|layer| !layer.foreign);
        let blobs: Vec<_> = own.map(|layer| layer.descriptor.digest.clone()).collect();
        self.ground.engine.images.has_layers(&chain, &blobs)
    }

    /// Makes trees whose files are here, side by side.
    ///
    /// # Errors
    /// [`Failure`] of the first step that fails.
    pub(crate) async fn all_present(self: &Arc<Self>, outputs: &[Output]) -> Result<Vec<Tree>> {
        let trees = self.trees(outputs).await?;
        if trees.iter().all(|tree| self.is_here(tree)) {
            return Ok(trees);
        }
        try_join_all(outputs.iter().map(|output| self.present(*output))).await
    }

    fn present(self: &Arc<Self>, output: Output) -> BoxFuture<'_, Result<Tree>> {
        async move {
            let tree = self.tree(output).await?;
            if self.is_here(&tree) {
                return Ok(tree);
            }
            let brought = self.present[output.vertex.index()].get_or_init(|| self.bring(output.vertex)).await;
            let outputs = brought.clone()?;
            outputs.get(output.index).cloned().ok_or_else(|| Failure::internal("a step has fewer outputs than it said"))
        }
        .boxed()
    }

    async fn bring(self: &Arc<Self>, id: VertexId) -> Result<Vec<Tree>> {
        let vertex = self.graph.vertex(id);
        let brought = match &vertex.op {
            Op::Source(_) => self.vertex(id).await,
            Op::Merge | Op::Diff { .. } => {
                let inputs = self.all_present(&vertex.inputs).await?;
                self.combine(&vertex.op, &inputs).await
            }
            Op::Build(file) => {
                let inputs = self.all_present(&vertex.inputs).await?;
                self.defined_in(file, vertex, &inputs).await
            }
            Op::Exec(_) | Op::File(_) => {
                let trees = self.vertex(id).await?;
                match self.fetch(vertex, &trees).await {
                    Ok(true) => Ok(trees),
                    Ok(false) => self.make_after_all(id, vertex).await,
                    Err(failure) => {
                        tracing::warn!(error = %failure, "layers of a cache from elsewhere not fetched");
                        self.make_after_all(id, vertex).await
                    }
                }
            }
        };
        brought.map_err(|failure| located(failure, vertex))
    }

    async fn make_after_all(self: &Arc<Self>, id: VertexId, vertex: &Vertex) -> Result<Vec<Tree>> {
        let inputs = self.all_present(&vertex.inputs).await?;
        self.looked_at(id, vertex, &inputs, false).await
    }

    /// Fetches and unpacks the layers of trees; tells whether they could all be had.
    async fn fetch(&self, vertex: &Vertex, trees: &[Tree]) -> Result<bool> {
        let images = &self.ground.engine.images;
        let mut missing = Vec::new();
        for tree in trees {
            let Tree::Layers(layers) = tree else { continue };
            for layer in layers.0.iter() {
                let blob = &layer.descriptor.digest;
                if images.has_content(blob) || missing.contains(blob) {
                    continue;
                }
                if !self.options.imports.has(blob) {
                    return Ok(false);
                }
                missing.push(blob.clone());
            }
        }
        let begun = self.reporter.internal(format!("importing layers of {}", self.name(vertex)));
        let fetched = self.fetch_all(&missing, trees, &begun).await;
        begun.ended(fetched).map(|()| true)
    }

    async fn fetch_all(&self, missing: &[ferry_spec::digest::Digest], trees: &[Tree], begun: &Begun) -> Result<()> {
        let images = &self.ground.engine.images;
        try_join_all(missing.iter().map(|blob| self.options.imports.fetch(images, blob, begun))).await?;
        for tree in trees {
            if let Tree::Layers(layers) = tree {
                self.stacked(layers.clone()).await?;
            }
        }
        Ok(())
    }

    /// Remembers here what was found elsewhere and whose files are here now.
    pub(crate) async fn settle(&self) {
        for nested in self.nested() {
            Box::pin(nested.settle()).await;
        }
        let found: Vec<(VertexId, Outcome)> = self
            .outcomes()
            .iter()
            .filter(|(_, outcome)| outcome.is_elsewhere)
            .map(|(id, one)| (*id, one.clone()))
            .collect();
        if found.is_empty() {
            return;
        }
        let images = self.ground.engine.images.clone();
        let sizes = blocking(move || Ok(images.layer_sizes())).await.unwrap_or_default();
        for (id, mut outcome) in found {
            if !outcome.outputs.iter().all(|layers| self.is_here(&Tree::Layers(layers.clone()))) {
                continue;
            }
            outcome.outputs = outcome.outputs.iter().map(|layers| sized(layers, &sizes)).collect();
            self.remember(self.graph.vertex(id), &outcome, Vec::new()).await;
        }
    }

    /// The steps that were carried out or found, each after those it takes from, and the cache mounts that they use.
    pub(crate) fn steps(&self) -> (Vec<Step>, Vec<String>) {
        let outcomes = self.outcomes();
        let (mut steps, mut mounts) = (Vec::new(), Vec::new());
        let mut places: HashMap<VertexId, usize> = HashMap::new();
        for index in 0..self.graph.vertices().len() {
            let Some(id) = self.graph.place(index) else { continue };
            let Some(outcome) = outcomes.get(&id) else { continue };
            let vertex = self.graph.vertex(id);
            places.insert(id, steps.len());
            steps.push(Step {
                keys: outcome.keys.clone(),
                inputs: vertex.inputs.iter().map(|input| self.links(*input, &places)).collect(),
                outputs: outcome.outputs.clone(),
                created_ns: outcome.created_ns,
            });
            let Op::Exec(exec) = &vertex.op else { continue };
            for mount in &exec.mounts {
                let MountKind::Cache(cache) = &mount.kind else { continue };
                let name = if cache.id.is_empty() { &mount.target } else { &cache.id };
                if !mounts.contains(name) {
                    mounts.push(name.clone());
                }
            }
        }
        (steps, mounts)
    }

    /// The steps that an input leads to.
    fn links(&self, input: Output, places: &HashMap<VertexId, usize>) -> Vec<Link> {
        if let Some(step) = places.get(&input.vertex) {
            return vec![Link::Step(*step, input.index)];
        }
        let vertex = self.graph.vertex(input.vertex);
        match vertex.op {
            Op::Merge | Op::Diff { .. } => vertex.inputs.iter().flat_map(|input| self.links(*input, places)).collect(),
            _ => vec![Link::Source(vertex.digest.clone())],
        }
    }
}

fn sized(layers: &Layers, sizes: &HashMap<ferry_spec::digest::ChainId, u64>) -> Layers {
    let mut all = layers.0.as_ref().clone();
    let mut below = None;
    for layer in &mut all {
        let chain = ferry_spec::digest::ChainId::child(below.as_ref(), &layer.diff_id);
        layer.size_bytes = sizes.get(&chain).copied().unwrap_or_default();
        below = Some(chain);
    }
    Layers::of(all)
}
