//! Carrying out the instructions of every stage on paper: operations into the graph, the rest into the image's configuration.

mod copy;
mod expose;
mod meta;
mod mounts;
mod naming;
mod run;
mod symbolic_mode;

use ferry_dockerfile::check::Checks;
use ferry_dockerfile::expand::{Environment, ExpandError, Lexer};
use ferry_dockerfile::{Instruction, Lines};
use ferry_spec::image::{History, ImageConfig};
use ferry_spec::platform::Platform;

use super::args::NOT_IN_ENVIRONMENT;
use super::error::PlanError;
use super::resolve::DEFAULT_PATH;
use super::stages::{Command, Origin, Stage, Stages};
use super::{context, lint, resolved};
use crate::graph::{Graph, ImageSource, LayoutSource, LineRange, Op, Output, Source, VertexMeta};

/// Carries out all stages that are needed, in the order of the file.
pub(super) fn run_all(stages: &mut Stages<'_>, graph: &mut Graph, checks: &mut Checks) -> Result<(), PlanError> {
    let everything = stages.input.request.all_stages;
    for index in 0..stages.list.len() {
        let is_needed = everything || stages.reachable.contains(&index);
        if is_needed && stages.list[index].base.is_none() && stages.list[index].is_resolved {
            stages.list[index].tree.output = stages.begin(index, graph)?;
        }
    }
    for index in 0..stages.list.len() {
        let is_needed = everything || stages.reachable.contains(&index);
        if is_needed && !stages.list[index].is_done {
            stages.run_stage(index, graph, checks)?;
        }
    }
    Ok(())
}

/// One instruction at work.
pub(super) struct Step<'s, 'a, 'g> {
    pub(super) stages: &'s mut Stages<'a>,
    pub(super) index: usize,
    pub(super) graph: &'g mut Graph,
    pub(super) checks: &'g mut Checks,
    pub(super) sources: Vec<usize>,
    /// The line as written, for names and descriptions.
    pub(super) source: String,
    pub(super) keyword: String,
    pub(super) lines: Lines,
    pub(super) comments: Vec<String>,
    pub(super) is_trigger: bool,
}

impl Stages<'_> {
    /// Adds what a stage begins with to the graph.
    fn begin(&mut self, index: usize, graph: &mut Graph) -> Result<Option<Output>, PlanError> {
        let origin = self.list[index].origin.clone();
        let vertex = match origin {
            Origin::Scratch => return Ok(None),
            Origin::Image { reference, platform, label } => {
                let pull = self.input.request.pull;
                let meta = match label {
                    Some(name) => VertexMeta { name, ..VertexMeta::default() },
                    None => self.base_meta(index, &reference, &platform),
                };
                let source = Source::Image(ImageSource { reference, pull });
                graph.add(Op::Source(source), Vec::new(), Some(platform), meta)?
            }
            Origin::Layout { reference, store, platform, label } => {
                let source = Source::Layout(LayoutSource { reference, store, session: String::new() });
                let meta = VertexMeta { name: label, ..VertexMeta::default() };
                graph.add(Op::Source(source), Vec::new(), platform, meta)?
            }
            Origin::Input { name, platform, label } => {
                let meta = VertexMeta { name: label, ..VertexMeta::default() };
                graph.add(Op::Source(Source::Input(name)), Vec::new(), Some(platform), meta)?
            }
            Origin::Local { directory, ignored, name } => {
                let followed = context::followed(&self.list[self.list[index].paths_owner].used_paths);
                let label = format!("[context {name}] load from client");
                let key = format!("context:{name}-");
                return context::local(graph, &directory, &ignored, followed, label, key).map(Some);
            }
            Origin::Git { address } => {
                let source = Source::Git(context::git_source(&address, false)?);
                let meta =
                    VertexMeta { name: format!("[internal] load git source {address}"), ..VertexMeta::default() };
                graph.add(Op::Source(source), Vec::new(), None, meta)?
            }
            Origin::Http { url, label } => {
                let source = Source::Http(context::http_source(&url, "context"));
                let meta = VertexMeta { name: label, ..VertexMeta::default() };
                graph.add(Op::Source(source), Vec::new(), None, meta)?
            }
        };
        Ok(Some(vertex.into()))
    }

    fn base_meta(&mut self, index: usize, reference: &str, platform: &Platform) -> VertexMeta {
        let with_platform = self.input.request.multi_platform.then_some(platform);
        let stage = &mut self.list[index];
        let steps = std::mem::replace(&mut stage.steps, stage.steps_at_base);
        let name = stage.step_name(&format!("FROM {reference}"), with_platform, &Environment::new(), false);
        stage.steps = steps;
        VertexMeta {
            name,
            description: naming::description(&stage.from.source),
            location: line_ranges(stage.from.lines),
            ..VertexMeta::default()
        }
    }

    fn run_stage(&mut self, index: usize, graph: &mut Graph, checks: &mut Checks) -> Result<(), PlanError> {
        if let Some(base) = self.list[index].base {
            let base = self.list[base].clone();
            self.list[index].inherit(&base);
        }
        let target = self.platforms.target.clone();
        let stage = &mut self.list[index];
        stage.is_done = true;
        stage.platform.get_or_insert(target);
        stage.add_default_path();
        stage.take_environment();
        let commands = std::mem::take(&mut stage.commands);
        for command in &commands {
            self.run_command(index, command.clone(), graph, checks)
                .map_err(|error| error.at(command.statement.lines))?;
        }
        self.list[index].commands = commands;
        self.find_scans(index);
        Ok(())
    }

    fn run_command(
        &mut self,
        index: usize,
        command: Command,
        graph: &mut Graph,
        checks: &mut Checks,
    ) -> Result<(), PlanError> {
        let statement = command.statement;
        let mut step = Step {
            stages: self,
            index,
            graph,
            checks,
            sources: command.sources,
            source: statement.source,
            keyword: statement.keyword,
            lines: statement.lines,
            comments: statement.comments,
            is_trigger: command.is_trigger,
        };
        step.run(statement.instruction)
    }

    /// Notes whether a scan for packages looks at the context and at the stage.
    fn find_scans(&mut self, index: usize) {
        let [context, tree] = NOT_IN_ENVIRONMENT else { return };
        let wants = |stages: &Self, name: &str| {
            let stage = &stages.list[index];
            let mut value = stages.arguments.value(name).map(str::to_owned);
            for (_, given) in stage.build_args.iter().filter(|(known, _)| known == name) {
                value = given.clone().or(value);
            }
            value.is_some_and(|value| is_enabled_for(&stage.name, &value))
        };
        let (context, tree) = (wants(self, context), wants(self, tree));
        self.list[index].scans_context = context;
        self.list[index].scans_stage = tree;
    }
}

/// Tells whether a value is true, or a list with the stage.
fn is_enabled_for(stage: &str, value: &str) -> bool {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        names => names.split(',').any(|name| name == stage),
    }
}

pub(super) fn line_ranges(lines: Lines) -> Vec<LineRange> {
    if lines == Lines::default() {
        return Vec::new();
    }
    vec![LineRange { first: lines.first as usize, last: lines.last as usize }]
}

impl Stage {
    fn add_default_path(&mut self) {
        let has_path = self.image.config.env.iter().any(|entry| entry.split('=').next() == Some("PATH"));
        let is_windows = self.platform.as_ref().is_some_and(|platform| platform.os == "windows");
        if !has_path && !is_windows {
            self.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
    }

    /// Takes variables, directory and user over from the image's configuration.
    pub(super) fn take_environment(&mut self) {
        for entry in &self.image.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.tree.environment.set(name, value);
        }
        if !self.image.config.working_dir.is_empty() {
            let directory = meta::absolute("/", &self.image.config.working_dir);
            self.image.config.working_dir.clone_from(&directory);
            self.tree.directory = directory;
        }
        if !self.image.config.user.is_empty() {
            self.tree.user.clone_from(&self.image.config.user);
        }
    }

    /// Adds an entry to the history.
    fn remember(&mut self, created_by: String, has_layer: bool, epoch: Option<i64>) {
        add_history(&mut self.image, created_by, has_layer, epoch);
    }
}

fn add_history(image: &mut ImageConfig, created_by: String, has_layer: bool, epoch: Option<i64>) {
    image.history.push(History {
        created: epoch.and_then(naming::rfc3339),
        created_by,
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer: !has_layer,
        ..History::default()
    });
}

impl Step<'_, '_, '_> {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stages.list[self.index]
    }

    fn run(&mut self, mut instruction: Instruction) -> Result<(), PlanError> {
        let before = self.stage().tree.environment.clone();
        instruction.expand(&mut |word| self.expand(word))?;
        instruction.expand_documents(&mut |text| self.expand_document(text))?;
        let mut line = resolved::line(&self.source, &instruction, &self.stages.lexer, &before);
        let arguments: Option<Vec<String>> = match &instruction {
            Instruction::Arg(definitions) => Some(definitions.iter().map(|one| one.name.clone()).collect()),
            _ => None,
        };
        self.carry_out(instruction)?;
        if let Some(names) = arguments {
            line = resolved::argument(&names, &self.stage().tree.environment);
        }
        if self.is_trigger {
            line.insert_str(0, "# ONBUILD\n");
        }
        self.stage().resolved.push(line);
        Ok(())
    }

    fn carry_out(&mut self, instruction: Instruction) -> Result<(), PlanError> {
        match instruction {
            Instruction::Add(add) => self.add(add),
            Instruction::Arg(definitions) => self.arg(definitions),
            Instruction::Cmd(command) => {
                self.cmd(command);
                Ok(())
            }
            Instruction::Copy(copy) => self.copy(copy),
            Instruction::Entrypoint(command) => {
                self.entrypoint(command);
                Ok(())
            }
            Instruction::Env(pairs) => {
                self.env(pairs);
                Ok(())
            }
            Instruction::Expose(ports) => self.expose(&ports),
            Instruction::Healthcheck(check) => {
                self.healthcheck(check);
                Ok(())
            }
            Instruction::Label(pairs) => {
                self.label(pairs);
                Ok(())
            }
            Instruction::Maintainer(name) => {
                self.maintainer(name);
                Ok(())
            }
            Instruction::OnBuild(trigger) => {
                self.stage().image.config.on_build.push(trigger);
                Ok(())
            }
            Instruction::Run(run) => self.run_program(run),
            Instruction::Shell(words) => {
                self.shell(words);
                Ok(())
            }
            Instruction::StopSignal(signal) => self.stop_signal(signal),
            Instruction::User(user) => {
                self.user(user);
                Ok(())
            }
            Instruction::Volume(paths) => self.volume(&paths),
            Instruction::Workdir(path) => self.workdir(&path),
        }
    }

    /// Resolves the variables of a word, noting those that have no value.
    fn expand(&mut self, word: &str) -> Result<String, ExpandError> {
        let lexer = self.stages.lexer;
        self.expand_with(&lexer, word)
    }

    /// Resolves the variables of a here-document, whose quotes stay.
    fn expand_document(&mut self, text: &str) -> Result<String, ExpandError> {
        self.expand_with(&Lexer { ignore_quotes: true, ..Lexer::new('\\') }, text)
    }

    fn expand_with(&mut self, lexer: &Lexer, word: &str) -> Result<String, ExpandError> {
        let stage = &self.stages.list[self.index];
        let result = lexer.text(word, &stage.tree.environment);
        let (Ok(expanded) | Err((_, expanded))) = &result;
        if !expanded.missing.is_empty() {
            let declared: Vec<String> = stage.build_args.iter().map(|(name, _)| name.clone()).collect();
            lint::undefined_variables(
                &expanded.missing,
                &declared,
                &stage.tree.environment,
                self.lines,
                &self.comments,
                self.checks,
            );
        }
        result.map(|expanded| expanded.text).map_err(|(error, _)| error)
    }
}
