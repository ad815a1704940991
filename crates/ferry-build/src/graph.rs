//! The graph of operations that a build consists of.
//!
//! It has the shape of BuildKit's low-level build definitions (`solver/pb/ops.proto`), so that it can be planned from a Dockerfile
//! and filled from a definition that a client sends alike. It is pure data: this module does no I/O.
//!
//! A vertex is one operation. It takes the outputs of other vertices as its inputs, and has outputs of its own: file trees, counted from
//! zero. Inside an operation a tree is spoken of by its place in [`Vertex::inputs`]; `None` in such a place is an empty tree (scratch).
//! Vertices are added after those they take from, so the list is in an order in which they can be carried out, and there are no cycles.

use std::collections::{BTreeMap, HashMap};

use ferry_spec::digest::Digest;
use ferry_spec::platform::Platform;
use serde::Serialize;

mod exec;
mod file;
mod local;
mod source;

pub use exec::{
    CacheMount, CacheSharing, Device, Exec, ExtraHost, Mount, MountKind, NetworkMode, ProxyEnvironment,
    SecretEnvironment, SecretMount, SecurityMode, SshMount, TmpfsMount,
};
pub use file::{
    ActionInput, ArchiveHandling, ChangeOwner, CopyAction, FileAction, FileOp, FileStep, MakeDir, MakeFile, Owner,
    Remove, Symlink,
};
pub use source::{GitSource, HttpSource, ImagePullMode, ImageSource, LayoutSource, LocalDiffer, LocalSource, Source};

/// The place of a vertex in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(usize);

impl VertexId {
    /// The place counted from zero.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// One output of one vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Output {
    /// Of which vertex.
    pub vertex: VertexId,
    /// Which of its outputs, counted from zero.
    pub index: usize,
}

impl From<VertexId> for Output {
    fn from(vertex: VertexId) -> Self {
        Self { vertex, index: 0 }
    }
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Op {
    /// Brings a tree from elsewhere; no inputs.
    Source(Source),
    /// Runs a program.
    Exec(Box<Exec>),
    /// Changes files.
    File(FileOp),
    /// Lays the inputs over each other, the first lowest.
    Merge,
    /// What `upper` has and `lower` has not; both are places in the inputs.
    Diff {
        /// What is taken away.
        lower: Option<usize>,
        /// What is looked at.
        upper: Option<usize>,
    },
    /// Carries out the definition that lies in a file of an input.
    Build(DefinitionFile),
}

/// Where a definition of further operations lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DefinitionFile {
    /// The tree, a place in the inputs.
    pub input: usize,
    /// The file's path in it.
    pub filename: String,
}

/// One operation of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// The trees it takes, in the order that the operation counts them.
    pub inputs: Vec<Output>,
    /// For which platform; `None` is the builder's own.
    pub platform: Option<Platform>,
    /// What it is called and how it is treated.
    pub meta: VertexMeta,
    /// Its digest: over what it does and the digests of its inputs, not over [`Vertex::meta`].
    pub digest: Digest,
}

/// What does not change the outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VertexMeta {
    /// The name to show, such as `[build 2/5] RUN make`; an empty one is made up from the operation.
    pub name: String,
    /// Steps that belong together in a progress view (`COPY --link` with its merge).
    pub progress_group: Option<ProgressGroup>,
    /// It is carried out even if the cache has its outcome (`--no-cache`).
    pub ignore_cache: bool,
    /// Other descriptions, such as `com.docker.dockerfile.v1.command`.
    pub description: BTreeMap<String, String>,
    /// The lines of the Dockerfile that it comes from.
    pub location: Vec<LineRange>,
}

/// A group in a progress view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Its identity.
    pub id: String,
    /// The name to show.
    pub name: String,
    /// It is shown only when something in it is worth showing.
    pub weak: bool,
}

/// Lines of the Dockerfile, counted from one, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRange {
    /// The first line.
    pub first: usize,
    /// The last line.
    pub last: usize,
}

/// A graph under construction, or a whole one.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
}

/// Why a vertex cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An input that is not in the graph.
    #[error("operation takes the output of a vertex that is not in the graph")]
    UnknownVertex,
    /// An output that its vertex does not have.
    #[error("operation takes output {index} of {vertex}, which has {count}")]
    UnknownOutput {
        /// The vertex it takes from.
        vertex: Digest,
        /// The output asked for.
        index: usize,
        /// How many outputs there are.
        count: usize,
    },
    /// An operation names a place that is not in its inputs.
    #[error("operation names input {index} and has {count}")]
    UnknownInput {
        /// The place named.
        index: usize,
        /// How many inputs there are.
        count: usize,
    },
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation, or finds the one that does the same.
    ///
    /// Where the same operation is there already, its name stays, and the cache is ignored when either asks for that.
    ///
    /// # Errors
    /// [`GraphError`] when the operation names what is not there.
    pub fn add(
        &mut self,
        op: Op,
        inputs: Vec<Output>,
        platform: Option<Platform>,
        meta: VertexMeta,
    ) -> Result<VertexId, GraphError> {
        let digest = self.digest_of(&op, &inputs, platform.as_ref())?;
        self.add_with_digest(op, inputs, platform, meta, digest)
    }

    /// Like [`Self::add`], with the digest that whoever made the definition knows it by.
    ///
    /// # Errors
    /// [`GraphError`] when the operation names what is not there.
    pub fn add_with_digest(
        &mut self,
        op: Op,
        inputs: Vec<Output>,
        platform: Option<Platform>,
        meta: VertexMeta,
        digest: Digest,
    ) -> Result<VertexId, GraphError> {
        self.check(&op, &inputs)?;
        if let Some(&known) = self.by_digest.get(&digest) {
            self.vertices[known.0].meta.ignore_cache |= meta.ignore_cache;
            return Ok(known);
        }
        let id = VertexId(self.vertices.len());
        self.by_digest.insert(digest.clone(), id);
        self.vertices.push(Vertex { op, inputs, platform, meta, digest });
        Ok(id)
    }

    /// The vertices, each after those it takes from.
    #[must_use]
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// One vertex.
    ///
    /// # Panics
    /// When the id is one of another graph and not in this one.
    #[must_use]
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// The vertex at a place.
    #[must_use]
    pub fn place(&self, index: usize) -> Option<VertexId> {
        (index < self.vertices.len()).then_some(VertexId(index))
    }

    /// What may still be changed of a vertex.
    pub fn meta_mut(&mut self, id: VertexId) -> &mut VertexMeta {
        &mut self.vertices[id.0].meta
    }

    /// The vertex with a digest.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<VertexId> {
        self.by_digest.get(digest).copied()
    }

    /// What has to be carried out to have these outputs, in an order in which it can be.
    #[must_use]
    pub fn needed_for(&self, targets: &[Output]) -> Vec<VertexId> {
        let mut needed = vec![false; self.vertices.len()];
        let mut waiting: Vec<usize> = targets.iter().map(|target| target.vertex.0).collect();
        while let Some(index) = waiting.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            waiting.extend(self.vertices[index].inputs.iter().map(|input| input.vertex.0));
        }
        (0..needed.len()).filter(|&index| needed[index]).map(VertexId).collect()
    }

    fn check(&self, op: &Op, inputs: &[Output]) -> Result<(), GraphError> {
        for input in inputs {
            let vertex = self.vertices.get(input.vertex.0).ok_or(GraphError::UnknownVertex)?;
            let count = vertex.op.outputs();
            if input.index >= count {
                return Err(GraphError::UnknownOutput { vertex: vertex.digest.clone(), index: input.index, count });
            }
        }
        match op.named_inputs().into_iter().find(|&index| index >= inputs.len()) {
            Some(index) => Err(GraphError::UnknownInput { index, count: inputs.len() }),
            None => Ok(()),
        }
    }

    fn digest_of(&self, op: &Op, inputs: &[Output], platform: Option<&Platform>) -> Result<Digest, GraphError> {
        #[derive(Serialize)]
        struct Content<'a> {
            op: &'a Op,
            inputs: Vec<(&'a Digest, usize)>,
            platform: Option<&'a Platform>,
        }
        let inputs = inputs
            .iter()
            .map(|input| self.vertices.get(input.vertex.0).map(|vertex| (&vertex.digest, input.index)))
            .collect::<Option<Vec<_>>>()
            .ok_or(GraphError::UnknownVertex)?;
        let bytes =
            serde_json::to_vec(&Content { op, inputs, platform }).expect("operations are plain data with text keys");
        Ok(Digest::sha256(&bytes))
    }
}

impl Op {
    /// How many outputs it has.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::Source(_) | Self::Merge | Self::Diff { .. } | Self::Build(_) => 1,
            Self::Exec(exec) => exec.outputs(),
            Self::File(file) => file.outputs(),
        }
    }

    /// The places in the inputs that it names.
    fn named_inputs(&self) -> Vec<usize> {
        match self {
            Self::Source(_) | Self::Merge => Vec::new(),
            Self::Exec(exec) => exec.mounts.iter().filter_map(|mount| mount.input).collect(),
            Self::File(file) => file.named_inputs(),
            Self::Diff { lower, upper } => lower.iter().chain(upper).copied().collect(),
            Self::Build(file) => vec![file.input],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(graph: &mut Graph, name: &str) -> VertexId {
        let source = Source::Image(ImageSource { reference: name.to_owned(), pull: ImagePullMode::Prefer });
        graph.add(Op::Source(source), Vec::new(), None, VertexMeta::default()).unwrap()
    }

    fn mkdir(path: &str, input: Option<usize>) -> Op {
        let dir = MakeDir { path: path.to_owned(), mode: 0o755, make_parents: true, owner: None, timestamp: None };
        Op::File(FileOp {
            steps: vec![FileStep {
                input: input.map(ActionInput::Input),
                source: None,
                output: Some(0),
                action: FileAction::MakeDir(dir),
            }],
        })
    }

    #[test]
    fn the_same_operation_is_one_vertex() {
        let mut graph = Graph::new();
        let base = image(&mut graph, "docker.io/library/alpine:latest");
        let first = graph.add(mkdir("/a", Some(0)), vec![base.into()], None, VertexMeta::default()).unwrap();
        let meta = VertexMeta { ignore_cache: true, ..VertexMeta::default() };
        let second = graph.add(mkdir("/a", Some(0)), vec![base.into()], None, meta).unwrap();
        let third = graph.add(mkdir("/b", Some(0)), vec![base.into()], None, VertexMeta::default()).unwrap();
        assert_eq!(first, second);
        assert!(graph.vertex(first).meta.ignore_cache);
        assert_ne!(graph.vertex(first).digest, graph.vertex(third).digest);
    }

    #[test]
    fn digests_cover_the_inputs() {
        let mut graph = Graph::new();
        let (one, two) = (image(&mut graph, "one"), image(&mut graph, "two"));
        let first = graph.add(mkdir("/a", Some(0)), vec![one.into()], None, VertexMeta::default()).unwrap();
        let second = graph.add(mkdir("/a", Some(0)), vec![two.into()], None, VertexMeta::default()).unwrap();
        assert_ne!(graph.vertex(first).digest, graph.vertex(second).digest);
    }

    #[test]
    fn unused_vertices_are_not_needed() {
        let mut graph = Graph::new();
        let (one, two) = (image(&mut graph, "one"), image(&mut graph, "two"));
        let first = graph.add(mkdir("/a", Some(0)), vec![one.into()], None, VertexMeta::default()).unwrap();
        assert_eq!(graph.needed_for(&[first.into()]), vec![one, first]);
        assert_eq!(graph.needed_for(&[two.into()]), vec![two]);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let mut graph = Graph::new();
        let base = image(&mut graph, "one");
        let output = Output { vertex: base, index: 1 };
        let error = graph.add(mkdir("/a", Some(0)), vec![output], None, VertexMeta::default()).unwrap_err();
        assert!(matches!(error, GraphError::UnknownOutput { index: 1, count: 1, .. }));
        let error = graph.add(mkdir("/a", Some(2)), vec![base.into()], None, VertexMeta::default()).unwrap_err();
        assert_eq!(error, GraphError::UnknownInput { index: 2, count: 1 });
    }
}
