//! Definitions that lie in files of trees: read, and carried out as graphs of their own.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use super::Solve;
use crate::buildkit::definition_of;
use crate::failure::{Failure, Result, blocking};
use crate::files;
use crate::graph::{DefinitionFile, Vertex};
use crate::tree::Tree;

/// Most definitions inside of each other: a step may write another one without end.
const DEPTH: usize = 32;
/// The longest definition, in bytes.
const LIMIT: u64 = 64 << 20;

impl Solve {
    /// Carries out what a file of a tree defines; its steps are found and remembered like any others.
    pub(super) async fn defined_in(
        self: &Arc<Self>,
        file: &DefinitionFile,
        vertex: &Vertex,
        inputs: &[Tree],
    ) -> Result<Vec<Tree>> {
        let begun = self.begin(vertex);
        let tree = begun.ended(self.carry_out_file(file, inputs).await)?;
        Ok(vec![tree])
    }

    async fn carry_out_file(self: &Arc<Self>, file: &DefinitionFile, inputs: &[Tree]) -> Result<Tree> {
        if self.depth >= DEPTH {
            return Err(Failure::invalid(format!(
                "failed to load LLB: more than {DEPTH} definitions inside of each other"
            )));
        }
        let tree = inputs.get(file.input).cloned();
        let tree = tree.ok_or_else(|| Failure::invalid(format!("invalid index {}", file.input)))?;
        let (workshop, name) = (self.ground.engine.workshop.clone(), file.filename.clone());
        let bytes = blocking(move || {
            let open = tree.open(&workshop)?;
            let bytes = files::read_file(open.as_fd(), &name, LIMIT)?;
            bytes.ok_or_else(|| Failure::invalid(format!("failed to open {name}: no such file or directory")))
        })
        .await?;
        let (graph, output) = definition_of(&bytes)?;
        let nested = self.with_graph(graph);
        match output {
            Some(output) => Ok(nested.all_present(&[output]).await?.into_iter().next().unwrap_or_default()),
            None => Ok(Tree::default()),
        }
    }

    /// Another graph, carried out as a part of this one.
    fn with_graph(self: &Arc<Self>, graph: crate::graph::Graph) -> Arc<Self> {
        let (ground, options) = (self.ground.clone(), self.options.clone());
        let nested = Arc::new(Self {
            looked_at_failed: Arc::clone(&self.looked_at_failed),
            depth: self.depth + 1,
            ..Self::prepared(graph, ground, options, self.reporter.clone(), self.hold.clone())
        });
        self.nested.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&nested));
        nested
    }

    pub(super) fn nested(&self) -> Vec<Arc<Self>> {
        self.nested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
