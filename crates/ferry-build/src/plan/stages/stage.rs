//! One stage.

use std::collections::{BTreeMap, BTreeSet};

use ferry_dockerfile::expand::Environment;
use ferry_dockerfile::{Instruction, Lines, Statement};
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;

use crate::graph::Output;
use crate::plan::args::ArgFact;
use crate::plan::context::NamedContext;
use crate::plan::outline::Wanted;

/// A stage of the file, or an image that an instruction takes from.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Stage {
    /// The FROM.
    pub(in crate::plan) from: ferry_dockerfile::Stage,
    /// Its name in the file; empty without.
    pub(in crate::plan) written_name: String,
    /// Its name in the names of vertices; empty when it is the only one.
    pub(in crate::plan) name: String,
    /// What it begins with, variables resolved.
    pub(in crate::plan) base_name: String,
    pub(in crate::plan) platform: Option<Platform>,
    /// A context in its place.
    pub(in crate::plan) named_context: Option<NamedContext>,
    /// The stage that it begins with.
    pub(in crate::plan) base: Option<usize>,
    /// What it begins with, when that is no stage.
    pub(in crate::plan) origin: Origin,
    /// It is an image that an instruction takes from, and not in the file.
    pub(in crate::plan) is_image: bool,
    pub(in crate::plan) is_resolved: bool,
    pub(in crate::plan) is_done: bool,
    pub(in crate::plan) has_base_triggers: bool,
    /// Its instructions, until they are tied to stages.
    pub(super) statements: Vec<Statement>,
    pub(in crate::plan) commands: Vec<Command>,
    /// Stages that its instructions take from, and where.
    pub(super) needs: Vec<(usize, Lines)>,
    /// Its instructions as text, with everything resolved.
    pub(in crate::plan) resolved: Vec<String>,
    pub(in crate::plan) ignore_cache: bool,
    /// How many steps there are, and how many are done.
    pub(in crate::plan) steps: usize,
    pub(in crate::plan) step: usize,
    /// How many were known when the base image was found: its triggers add more.
    pub(in crate::plan) steps_at_base: usize,

    pub(in crate::plan) tree: Tree,
    pub(in crate::plan) image: ImageConfig,
    pub(in crate::plan) base_image: Option<ImageConfig>,
    /// Arguments of its ARG and those of the stages it begins with, with the values given there.
    pub(in crate::plan) build_args: Vec<(String, Option<String>)>,
    /// A WORKDIR has been seen.
    pub(in crate::plan) has_workdir: bool,
    /// Where the last one of those is, of which only the last one counts.
    pub(in crate::plan) entrypoint: Option<Lines>,
    pub(in crate::plan) cmd: Option<Lines>,
    pub(in crate::plan) healthcheck: Option<Lines>,
    /// A scan for packages looks at the context, or at this stage's tree.
    pub(in crate::plan) scans_context: bool,
    pub(in crate::plan) scans_stage: bool,

    /// The stage whose `used_paths` count: the lowest one below.
    pub(in crate::plan) paths_owner: usize,
    pub(in crate::plan) used_paths: BTreeSet<String>,

    pub(in crate::plan) arg_facts: BTreeMap<String, ArgFact>,
    pub(in crate::plan) used_args: BTreeSet<String>,
    pub(in crate::plan) secrets: BTreeMap<String, Wanted>,
    pub(in crate::plan) agents: BTreeMap<String, Wanted>,
}

/// The files as they are, and how a program would run on them.
#[derive(Debug, Clone, Default)]
pub(in crate::plan) struct Tree {
    /// `None` is an empty tree.
    pub(in crate::plan) output: Option<Output>,
    pub(in crate::plan) environment: Environment,
    pub(in crate::plan) directory: String,
    pub(in crate::plan) user: String,
}

/// What a stage begins with, when that is no stage.
#[derive(Debug, Clone, Default)]
pub(in crate::plan) enum Origin {
    /// Nothing.
    #[default]
    Scratch,
    /// An image; the label is one of a named context.
    Image { reference: String, platform: Platform, label: Option<String> },
    /// An image in an OCI layout of the client.
    Layout { reference: String, store: String, platform: Option<Platform>, label: String },
    /// What was built before.
    Input { name: String, platform: Platform, label: String },
    /// A directory of the client.
    Local { directory: String, ignored: Vec<String>, name: String },
    /// A git repository.
    Git { address: String },
    /// A file over HTTP.
    Http { url: String, label: String },
}

/// An instruction of a stage, with the stages that it takes from.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Command {
    pub(in crate::plan) statement: Statement,
    pub(in crate::plan) sources: Vec<usize>,
    /// It comes from an ONBUILD of the base.
    pub(in crate::plan) is_trigger: bool,
}

impl Stage {
    pub(super) fn written(from: &ferry_dockerfile::Stage, base_name: String, platform: Option<Platform>) -> Self {
        let mut from = from.clone();
        let statements = std::mem::take(&mut from.statements);
        Self {
            written_name: from.name.clone(),
            name: from.name.clone(),
            base_name,
            platform,
            statements,
            ..Self::empty(from)
        }
    }

    pub(super) fn image(name: &str, lines: Lines) -> Self {
        let from = ferry_dockerfile::Stage {
            name: String::new(),
            base: name.to_owned(),
            platform: String::new(),
            keyword: String::new(),
            statements: Vec::new(),
            description: None,
            source: String::new(),
            lines,
            comments: Vec::new(),
        };
        Self { base_name: name.to_owned(), is_image: true, ..Self::empty(from) }
    }

    fn empty(from: ferry_dockerfile::Stage) -> Self {
        Self {
            from,
            written_name: String::new(),
            name: String::new(),
            base_name: String::new(),
            platform: None,
            named_context: None,
            base: None,
            origin: Origin::default(),
            is_image: false,
            is_resolved: false,
            is_done: false,
            has_base_triggers: false,
            statements: Vec::new(),
            commands: Vec::new(),
            needs: Vec::new(),
            resolved: Vec::new(),
            ignore_cache: false,
            steps: 0,
            step: 0,
            steps_at_base: 0,
            tree: Tree { directory: "/".to_owned(), ..Tree::default() },
            image: ImageConfig::default(),
            base_image: None,
            build_args: Vec::new(),
            has_workdir: false,
            entrypoint: None,
            cmd: None,
            healthcheck: None,
            scans_context: false,
            scans_stage: false,
            paths_owner: 0,
            used_paths: BTreeSet::new(),
            arg_facts: BTreeMap::new(),
            used_args: BTreeSet::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    /// Counts the steps that are shown: the base image, and instructions that change files.
    pub(super) fn count_steps(&mut self) {
        let changes_files = |statement: &&Statement| {
            matches!(
                statement.instruction,
                Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_)
            )
        };
        let of_base = usize::from(self.base_name != "scratch" && self.base.is_none());
        self.steps = of_base + self.statements.iter().filter(changes_files).count();
    }

    /// Takes over everything from the stage it begins with.
    pub(in crate::plan) fn inherit(&mut self, base: &Self) {
        self.tree = base.tree.clone();
        self.platform.clone_from(&base.platform);
        self.image = base.image.clone();
        // Triggers are for the stage right above.
        self.image.config.on_build.clear();
        self.base_image.clone_from(&base.base_image);
        self.has_workdir = base.has_workdir;
        self.build_args.extend(base.build_args.iter().cloned());
    }

    pub(super) fn inherit_outline(&mut self, base: &Self) {
        self.arg_facts.clone_from(&base.arg_facts);
        self.used_args.extend(base.used_args.iter().cloned());
        self.secrets.clone_from(&base.secrets);
        self.agents.clone_from(&base.agents);
    }
}
