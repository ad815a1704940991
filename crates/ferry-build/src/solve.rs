//! Carrying a graph out: what is not needed is left, what was done before is found, what does not depend on each other goes side by side.
//!
//! Each vertex is a cell that is filled once, by whoever needs it first; those it takes from are filled before, all at a time. Dropping a
//! solve ends it: steps that run are ended by their owners.

mod devices;
mod exec;
mod failed;
mod file;
mod found;
mod key;
mod layout;
pub mod mounts;
mod nested;
mod results;
mod source;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::build::FailedStep;
use ferry_engine::Engine;
use ferry_engine::images::{BuildHold, Credentials};
use ferry_engine::workshop::Workshop;
use ferry_spec::digest::Digest;
use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use tokio::sync::{OnceCell, mpsc};

use crate::builder::BuiltTarget;
use crate::buildkit::SourcePolicy;
use crate::cache::{Cache, InUse, Record, new_id};
use crate::clock::now_ns;
use crate::contexts::Contexts;
use crate::exchange::Imports;
use crate::failure::{Failure, Result, blocking};
use crate::gc::Denied;
use crate::graph::{Graph, Op, Output, Vertex, VertexId};
use crate::progress::{Begun, Reporter};
use crate::session::Session;
use crate::tree::{Layers, Tree};

pub use devices::DeviceRights;
pub use exec::Limits;
use found::Outcome;
pub(crate) use key::Key;
pub(crate) use layout::LayoutImage;
pub(crate) use source::credentials_for;
pub use source::resolve_image;

/// What a solve is allowed and told.
#[derive(Clone, Default)]
pub struct SolveOptions {
    /// Steps may have the host's network.
    pub allow_host_network: bool,
    /// Steps may have every right.
    pub allow_insecure: bool,
    /// Steps may have devices of the host.
    pub devices: DeviceRights,
    /// Limits of every step.
    pub limits: Limits,
    /// Who the user is towards registries, by their names.
    pub credentials: HashMap<String, Credentials>,
    /// What the client lends: files, secrets, agents.
    pub session: Session,
    /// For each step that is not found it is told what differs from the nearest record.
    pub explains: bool,
    /// Further folders of the host, for every step: `host:dst[:ro]`.
    pub volumes: Vec<(PathBuf, String, bool)>,
    /// Caches from elsewhere.
    pub imports: Imports,
    /// Which sources are denied, and which are others than was asked for.
    pub policy: SourcePolicy,
    /// Who wants to look at a step that fails, before the build does.
    pub failed_steps: Option<mpsc::UnboundedSender<FailedStep>>,
    /// What was built before, by the names that it is lent under.
    pub inputs: Arc<HashMap<String, Vec<BuiltTarget>>>,
}

/// What a solve works with.
#[derive(Clone)]
pub struct Ground {
    /// The services.
    pub engine: Engine,
    /// What was done before.
    pub cache: Cache,
    /// Cache mounts that are in use.
    pub cache_mounts: mounts::CacheMounts,
    /// Directories of clients as they came last.
    pub contexts: Contexts,
    /// What steps never get.
    pub denied: Denied,
}

/// A graph that is being carried out.
pub struct Solve {
    graph: Graph,
    ground: Ground,
    options: SolveOptions,
    reporter: Reporter,
    cells: Vec<OnceCell<Result<Vec<Tree>>>>,
    /// Outcomes whose files have to be here, where the cells hold some that only another cache knows of.
    present: Vec<OnceCell<Result<Vec<Tree>>>>,
    outcomes: std::sync::Mutex<HashMap<VertexId, Outcome>>,
    /// What sources turned out to be.
    pins: std::sync::Mutex<HashMap<VertexId, String>>,
    held: std::sync::Mutex<Vec<InUse>>,
    /// One of the steps that failed was looked at; locked while it is.
    looked_at_failed: Arc<tokio::sync::Mutex<bool>>,
    /// Graphs that operations of this one defined; what they use is held as long.
    nested: std::sync::Mutex<Vec<Arc<Self>>>,
    /// So many graphs this one is defined in.
    depth: usize,
    hold: BuildHold,
}

impl Solve {
    /// Folders of the host that steps have, as parts of their keys.
    fn volumes(&self) -> Vec<String> {
        let each = self.options.volumes.iter();
        each.map(|(path, target, read_only)| format!("{}:{target}:{read_only}", path.display())).collect()
    }

    /// Prepares a graph to be carried out; `hold` keeps what is made until somebody else does.
    #[must_use]
    pub fn new(graph: Graph, ground: Ground, options: SolveOptions, reporter: Reporter, hold: BuildHold) -> Arc<Self> {
        Arc::new(Self::prepared(graph, ground, options, reporter, hold))
    }

    fn prepared(graph: Graph, ground: Ground, mut options: SolveOptions, reporter: Reporter, hold: BuildHold) -> Self {
        let denied = ground.denied;
        options.allow_host_network &= !denied.host_network;
        options.allow_insecure &= !denied.insecure;
        if denied.devices {
            options.devices = DeviceRights::default();
        }
        let cells = || graph.vertices().iter().map(|_| OnceCell::new()).collect();
        Self {
            cells: cells(),
            present: cells(),
            graph,
            ground,
            options,
            reporter,
            outcomes: std::sync::Mutex::default(),
            pins: std::sync::Mutex::default(),
            held: std::sync::Mutex::default(),
            looked_at_failed: Arc::default(),
            nested: std::sync::Mutex::default(),
            depth: 0,
            hold,
        }
    }

    /// Where trees are opened.
    pub(crate) fn workshop(&self) -> Workshop {
        self.ground.engine.workshop.clone()
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Makes one tree.
    ///
    /// # Errors
    /// [`Failure`] of the first step that fails.
    pub async fn tree(self: &Arc<Self>, output: Output) -> Result<Tree> {
        let outputs = self.vertex(output.vertex).await?;
        outputs.get(output.index).cloned().ok_or_else(|| Failure::internal("a step has fewer outputs than it said"))
    }

    /// Makes trees, side by side.
    ///
    /// # Errors
    /// [`Failure`] of the first step that fails.
    pub async fn trees(self: &Arc<Self>, outputs: &[Output]) -> Result<Vec<Tree>> {
        try_join_all(outputs.iter().map(|output| self.spawned(*output))).await
    }

    /// A tree, made on a task of its own that ends with the caller.
    async fn spawned(self: &Arc<Self>, output: Output) -> Result<Tree> {
        let solve = Arc::clone(self);
        let task = tokio::spawn(async move { solve.tree(output).await });
        let abort = AbortOnDrop(task.abort_handle());
        let outcome = task.await.unwrap_or_else(|error| Err(Failure::internal(format!("a step panicked: {error}"))));
        drop(abort);
        outcome
    }

    fn vertex<'a>(self: &'a Arc<Self>, id: VertexId) -> BoxFuture<'a, Result<Vec<Tree>>> {
        async move { self.cells[id.index()].get_or_init(|| self.run(id)).await.clone() }.boxed()
    }

    async fn run(self: &Arc<Self>, id: VertexId) -> Result<Vec<Tree>> {
        let vertex = self.graph.vertex(id);
        let inputs = match &vertex.op {
            Op::Build(_) => self.all_present(&vertex.inputs).await?,
            _ => self.trees(&vertex.inputs).await?,
        };
        let outcome = match &vertex.op {
            Op::Source(source) => self.source(id, vertex, source).await,
            Op::Merge | Op::Diff { .. } => self.combine(&vertex.op, &inputs).await,
            Op::Build(file) => self.defined_in(file, vertex, &inputs).await,
            Op::Exec(_) | Op::File(_) => self.cached(id, vertex, inputs).await,
        };
        outcome.map_err(|failure| located(failure, vertex))
    }

    /// Puts trees together; their files have to be here only where somebody needs those of the outcome.
    async fn combine(&self, op: &Op, inputs: &[Tree]) -> Result<Vec<Tree>> {
        let tree = match op {
            Op::Diff { lower, upper } => {
                let of = |place: &Option<usize>| place.map(|place| inputs[place].clone()).unwrap_or_default();
                self.diff(of(lower), of(upper)).await?
            }
            _ => self.merge(inputs).await?,
        };
        if inputs.iter().all(|input| self.is_here(input)) {
            self.stacked(tree.clone()).await?;
        }
        Ok(vec![Tree::Layers(tree)])
    }

    /// Finds the outcome of a step, or makes it.
    async fn cached(self: &Arc<Self>, id: VertexId, vertex: &Vertex, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        if let Some(quick) = key::quick(vertex, &inputs, &self.volumes())? {
            if let Some(found) = self.find(id, vertex, &quick) {
                return Ok(found);
            }
            if let Some(found) = self.find_elsewhere(id, vertex, &[&quick]) {
                return Ok(found);
            }
        }
        // From here on their files are looked at.
        let inputs = self.all_present(&vertex.inputs).await?;
        self.looked_at(id, vertex, &inputs, true).await
    }

    /// As [`Self::cached`], with trees whose files are here; `elsewhere` says whether what others made counts.
    async fn looked_at(
        self: &Arc<Self>,
        id: VertexId,
        vertex: &Vertex,
        inputs: &[Tree],
        elsewhere: bool,
    ) -> Result<Vec<Tree>> {
        let mut keys = Vec::new();
        if let Some(quick) = key::quick(vertex, inputs, &self.volumes())? {
            if let Some(found) = self.find(id, vertex, &quick) {
                return Ok(found);
            }
            keys.push(quick);
        }
        let thorough = self.thorough_key(vertex, inputs).await.map_err(|failure| {
            self.begin(vertex).failed(failure.message.clone());
            failure.during("failed to compute cache key")
        })?;
        if let Some(found) = self.find(id, vertex, &thorough) {
            for quick in &keys {
                self.note_key(id, quick, &thorough);
            }
            return Ok(found);
        }
        if elsewhere {
            let all: Vec<&Key> = keys.iter().chain([&thorough]).collect();
            if let Some(found) = self.find_elsewhere(id, vertex, &all) {
                return Ok(found);
            }
        }
        let begun = self.begin(vertex);
        if self.options.explains {
            begun.log(2, self.explain(vertex, &thorough).as_bytes());
        }
        let parts = thorough.parts.clone();
        keys.push(thorough);
        let made = match &vertex.op {
            Op::Exec(exec) => self.exec(exec, vertex, inputs, &begun).await,
            Op::File(file) => self.file(file, inputs).await,
            _ => Err(Failure::internal("a step that is not kept")),
        };
        if let Ok(outputs) = &made {
            let keys: Vec<String> = keys.iter().map(|key| key.digest.clone()).collect();
            let outcome = Outcome { keys, outputs: outputs.clone(), created_ns: now_ns(), is_elsewhere: false };
            self.remember(vertex, &outcome, parts).await;
            self.note_outcome(id, outcome);
        }
        Ok(begun.ended(made)?.into_iter().map(Tree::Layers).collect())
    }

    async fn thorough_key(&self, vertex: &Vertex, inputs: &[Tree]) -> Result<Key> {
        let (vertex, inputs, workshop) = (vertex.clone(), inputs.to_vec(), self.ground.engine.workshop.clone());
        {
            let volumes = self.volumes();
            blocking(move || key::thorough(&vertex, &inputs, &volumes, &workshop)).await
        }
    }

    fn find(&self, id: VertexId, vertex: &Vertex, key: &Key) -> Option<Vec<Tree>> {
        if vertex.meta.ignore_cache {
            return None;
        }
        let record = self.ground.cache.find(&key.digest)?;
        self.hold(&record.id);
        self.note_outcome(
            id,
            Outcome {
                keys: self.ground.cache.keys_of(&record.id),
                outputs: record.outputs.clone(),
                created_ns: record.created_ns,
                is_elsewhere: false,
            },
        );
        self.reporter.cached(vertex.digest.clone(), self.input_digests(vertex), self.name(vertex));
        Some(record.outputs.into_iter().map(Tree::Layers).collect())
    }

    /// Says why a step is not found: what of its key differs from the nearest earlier record's.
    fn explain(&self, vertex: &Vertex, key: &Key) -> String {
        if vertex.meta.ignore_cache {
            return "not looked for in the cache, as asked\n".to_owned();
        }
        match self.ground.cache.nearest(&self.description(vertex), &key.parts) {
            None => "not in the cache: no earlier step is like it\n".to_owned(),
            Some(record) => key.differences(&record.parts),
        }
    }

    fn note_key(&self, id: VertexId, key: &Key, known: &Key) {
        if let Some(record) = self.ground.cache.find(&known.digest) {
            self.ground.cache.add_key(&key.digest, &record.id);
        }
        if let Some(outcome) = self.outcomes().get_mut(&id) {
            outcome.keys.push(key.digest.clone());
        }
    }

    fn hold(&self, id: &str) {
        let held = self.ground.cache.hold(id);
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(held);
    }

    async fn remember(&self, vertex: &Vertex, outcome: &Outcome, parts: Vec<(String, String)>) {
        let now = now_ns();
        let outputs = &outcome.outputs;
        let record = Record {
            id: new_id(),
            description: self.description(vertex),
            kind: "regular".to_owned(),
            size_bytes: outputs.iter().filter_map(|layers| layers.0.last()).map(|layer| layer.size_bytes).sum(),
            outputs: outputs.clone(),
            created_ns: outcome.created_ns,
            used_ns: now,
            uses: 1,
            parts,
        };
        self.hold(&record.id);
        let keys = outcome.keys.clone();
        let cache = self.ground.cache.clone();
        // What cannot be remembered is made again next time.
        if let Err(failure) = blocking(move || cache.put(&keys, &record)).await {
            tracing::warn!(error = %failure, "outcome of a build step not remembered");
        }
    }

    fn begin(&self, vertex: &Vertex) -> Begun {
        self.reporter.begin(vertex.digest.clone(), self.input_digests(vertex), self.name(vertex))
    }

    fn input_digests(&self, vertex: &Vertex) -> Vec<Digest> {
        vertex.inputs.iter().map(|input| self.graph.vertex(input.vertex).digest.clone()).collect()
    }

    /// The name to show.
    fn name(&self, vertex: &Vertex) -> String {
        match vertex.meta.name.as_str() {
            "" => key::described(&vertex.op),
            name => name.to_owned(),
        }
    }

    /// What the cache says of it: BuildKit's words for the kind, then the step.
    fn description(&self, vertex: &Vertex) -> String {
        match &vertex.op {
            Op::Exec(exec) => format!("mount / from exec {}", exec.args.join(" ")),
            _ => self.name(vertex),
        }
    }

    /// Lays trees over each other.
    async fn merge(&self, inputs: &[Tree]) -> Result<Layers> {
        let mut merged = Vec::new();
        for input in inputs {
            merged.extend(self.layers(input).await?.0.iter().cloned());
        }
        Ok(Layers::of(merged))
    }

    /// What one tree has beyond another whose layers are its lowest.
    async fn diff(&self, lower: Tree, upper: Tree) -> Result<Layers> {
        let (lower, upper) = (self.layers(&lower).await?, self.layers(&upper).await?);
        let is_below = lower.0.len() <= upper.0.len()
            && lower.0.iter().zip(upper.0.iter()).all(|(one, other)| one.diff_id == other.diff_id);
        if !is_below {
            return Err(Failure::not_implemented("the difference of trees that do not lie on each other"));
        }
        Ok(Layers::of(upper.0[lower.0.len()..].to_vec()))
    }

    /// Unpacks layers in the order in which they lie.
    pub(crate) async fn stacked(&self, layers: Layers) -> Result<Layers> {
        let images = self.ground.engine.images.clone();
        blocking(move || {
            let mut below = None;
            for layer in layers.0.iter() {
                below = Some(images.stack(below.as_ref(), &layer.descriptor, &layer.diff_id)?);
            }
            Ok(layers)
        })
        .await
    }
}

/// Says where in the Dockerfile a step stands.
fn located(mut failure: Failure, vertex: &Vertex) -> Failure {
    if failure.location.is_empty() {
        failure.location.clone_from(&vertex.meta.location);
    }
    failure
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
