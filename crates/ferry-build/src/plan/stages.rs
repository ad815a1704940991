//! The stages of a build: what each begins with, and on which others it depends.

mod stage;

pub(super) use stage::{Command, Origin, Stage};

use std::collections::{BTreeMap, BTreeSet};

use ferry_dockerfile::check::Checks;
use ferry_dockerfile::expand::{Environment, Lexer, NoVariables};
use ferry_dockerfile::ignore::Patterns;
use ferry_dockerfile::{Dockerfile, Instruction, Lines, Statement, nearest, with_suggestion};
use ferry_spec::platform::Platform;

use super::args::{self, ArgFact};
use super::context;
use super::error::{PlanError, PlanErrorCause};
use super::observed::Need;
use super::{Input, lint, resolve};
use crate::graph::{Output, ProxyEnvironment};

/// For what a build is, and on what.
#[derive(Debug, Clone)]
pub(super) struct Platforms {
    pub(super) target: Platform,
    /// Never empty.
    pub(super) build: Vec<Platform>,
    /// Nobody asked for the target: a base image may change it.
    pub(super) implicit: bool,
}

/// All stages, and what they share.
#[derive(Debug, Clone)]
pub(super) struct Stages<'a> {
    pub(super) input: Input<'a>,
    pub(super) lexer: Lexer,
    pub(super) platforms: Platforms,
    /// Arguments of the whole file.
    pub(super) arguments: Environment,
    pub(super) global_facts: BTreeMap<String, ArgFact>,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) proxies: Option<ProxyEnvironment>,
    pub(super) epoch: Option<i64>,
    pub(super) list: Vec<Stage>,
    by_name: BTreeMap<String, usize>,
    pub(super) target: usize,
    pub(super) reachable: BTreeSet<usize>,
    /// What of the context is ignored.
    pub(super) ignored: Patterns,
    /// What of the context is used, as a rehearsal found out.
    pub(super) context_paths: Vec<String>,
    /// The context's tree, once it is in the graph.
    pub(super) context_tree: Option<Output>,
}

/// What preparing comes to.
pub(super) enum Prepared<'a> {
    Needs(Vec<Need>),
    Ready(Box<Stages<'a>>),
}

/// Finds out what every stage begins with, and which are needed.
pub(super) fn prepare<'a>(input: Input<'a>, file: &Dockerfile, checks: &mut Checks) -> Result<Prepared<'a>, PlanError> {
    let request = input.request;
    let platforms = platforms(input);
    let lexer = Lexer::new(file.escape);
    let target_name = match request.target.as_str() {
        "" => file.stages.last().map_or("", |stage| stage.name.as_str()),
        name => name,
    };
    let predefined = args::predefined(&platforms, &request.build_args, target_name);
    if let Ok((defaults, _)) = args::add_global(predefined.clone(), &lexer, file, &BTreeMap::new()) {
        lint::default_bases(file, &lexer, &defaults, checks);
    }
    let (mut arguments, global_facts) = args::add_global(predefined, &lexer, file, &request.build_args)?;
    let mut build_args = request.build_args.clone();
    let epoch = match context::epoch(input, file, &lexer, &arguments, &build_args)? {
        context::Epoch::Needs(need) => return Ok(Prepared::Needs(vec![need])),
        context::Epoch::Known(epoch) => epoch,
    };
    set_epoch(epoch, &mut build_args, &mut arguments);
    let mut stages = Stages {
        input,
        lexer,
        platforms,
        arguments,
        global_facts,
        proxies: args::proxies(&build_args),
        build_args,
        epoch,
        list: Vec::new(),
        by_name: BTreeMap::new(),
        target: 0,
        reachable: BTreeSet::new(),
        ignored: Patterns::default(),
        context_paths: Vec::new(),
        context_tree: None,
    };
    for (index, stage) in file.stages.iter().enumerate() {
        stages.add_written(index, stage, checks)?;
    }
    stages.target = stages.find_target()?;
    stages.connect()?;
    let needs = resolve::resolve(&mut stages, checks)?;
    if !needs.is_empty() {
        return Ok(Prepared::Needs(needs));
    }
    stages.ignored = ignored(input)?;
    Ok(Prepared::Ready(Box::new(stages)))
}

fn ignored(input: Input<'_>) -> Result<Patterns, PlanError> {
    let patterns = input.request.ignore_patterns.iter().map(String::as_str);
    Patterns::new(patterns).map_err(|error| PlanError::other(error.to_string()))
}

fn platforms(input: Input<'_>) -> Platforms {
    let mut build = input.request.build_platforms.clone();
    if build.is_empty() {
        build.push(Platform::host().normalized());
    }
    match input.platform {
        Some(platform) => Platforms { target: platform.clone(), build, implicit: false },
        None => Platforms { target: build[0].clone(), build, implicit: true },
    }
}

/// Steps see the time itself, where a source's name was given.
fn set_epoch(epoch: Option<i64>, build_args: &mut BTreeMap<String, String>, arguments: &mut Environment) {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if build_args.contains_key(NAME) {
        match epoch {
            Some(seconds) => build_args.insert(NAME.to_owned(), seconds.to_string()),
            None => build_args.remove(NAME),
        };
    }
    if arguments.value(NAME).is_some() {
        match epoch {
            Some(seconds) => arguments.set(NAME, seconds.to_string()),
            None => arguments.remove(NAME),
        }
    }
}

impl Stages<'_> {
    /// Adds a stage of the file.
    fn add_written(
        &mut self,
        index: usize,
        written: &ferry_dockerfile::Stage,
        checks: &mut Checks,
    ) -> Result<(), PlanError> {
        let lines = written.lines;
        let declared: Vec<String> =
            self.global_facts.keys().cloned().chain(self.arguments.names().map(str::to_owned)).collect();
        let declared = || declared.iter().map(String::as_str);
        let expanded = self.lexer.text(&written.base, &self.arguments);
        let (Ok(expanded) | Err((_, expanded))) = &expanded;
        lint::undefined_in_from(&expanded.missing, declared(), written, checks);
        let base = self.lexer.text(&written.base, &self.arguments).map_err(|(e, _)| PlanError::from(e).at(lines))?;
        if base.text.is_empty() {
            return Err(PlanError::new(PlanErrorCause::BlankBase(written.base.clone())).at(lines));
        }
        let mut used = base.found;
        let mut platform = None;
        if !written.platform.is_empty() {
            let result = self.lexer.text(&written.platform, &self.arguments);
            let (Ok(expanded) | Err((_, expanded))) = &result;
            lint::undefined_in_from(&expanded.missing, declared(), written, checks);
            lint::from_platform(written, expanded, &self.arguments, checks);
            let expanded = result.map_err(|(error, expanded)| {
                PlanError::new(PlanErrorCause::PlatformArguments(expanded.text, error)).at(lines)
            })?;
            used.extend(expanded.found.iter().cloned());
            platform = Some(self.stage_platform(written, &expanded.text, &expanded.missing)?);
        }
        let mut stage = Stage::written(written, base.text, platform);
        stage.used_args = used;
        stage.arg_facts = self.global_facts.clone();
        if !written.name.is_empty() {
            let named =
                context::named(self.input.request, &written.name, stage.platform.as_ref().or(self.input.platform))?;
            if named.is_some() {
                stage.named_context = named;
                let added = self.add(stage);
                self.list[added].base = None;
                return Ok(());
            }
        } else {
            stage.name = format!("stage-{index}");
        }
        stage.ignore_cache = self.input.request.ignores_cache(&written.name);
        let added = self.add(stage);
        self.list[added].count_steps();
        Ok(())
    }

    fn stage_platform(
        &self,
        written: &ferry_dockerfile::Stage,
        text: &str,
        missing: &BTreeSet<String>,
    ) -> Result<Platform, PlanError> {
        let near = missing.iter().find_map(|name| nearest(name, self.arguments.names(), true));
        let suggestion = near.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
        if text.is_empty() {
            let message = format!("empty platform value from expression {}{suggestion}", written.platform);
            return Err(PlanError::other(message).at(written.lines));
        }
        Platform::parse(text).map_err(|cause| {
            let written_as = written.platform.clone();
            // BuildKit shows the line twice.
            let error = PlanError::new(PlanErrorCause::Platform { written: written_as, cause, suggestion });
            error.at(written.lines).at(written.lines)
        })
    }

    /// Adds a stage; one that begins with another is tied to it.
    pub(super) fn add(&mut self, mut stage: Stage) -> usize {
        let index = self.list.len();
        if let Some(&base) = self.by_name.get(&stage.base_name) {
            stage.base = Some(base);
            stage.inherit_outline(&self.list[base]);
        }
        if !stage.written_name.is_empty() {
            self.by_name.insert(stage.written_name.clone(), index);
        }
        stage.paths_owner = stage.base.map_or(index, |base| self.list[base].paths_owner);
        self.list.push(stage);
        index
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.list.iter().map(|stage| stage.name.clone()).filter(|name| !name.is_empty()).collect()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    fn find_target(&self) -> Result<usize, PlanError> {
        let name = &self.input.request.target;
        if name.is_empty() {
            return Ok(self.list.len() - 1);
        }
        let by_number = || name.parse::<usize>().ok().filter(|number| *number < self.list.len());
        self.find(name).or_else(by_number).ok_or_else(|| {
            let names = self.names();
            let message = format!("target stage {name:?} could not be found");
            PlanError::other(with_suggestion(message, name, names.iter().map(String::as_str), true))
        })
    }

    /// Ties every stage to those that its instructions take from.
    fn connect(&mut self) -> Result<(), PlanError> {
        let mut index = 0;
        while index < self.list.len() {
            let statements = std::mem::take(&mut self.list[index].statements);
            let mut commands = Vec::with_capacity(statements.len());
            for statement in statements {
                commands.push(self.command(index, statement, false)?);
            }
            self.list[index].commands = commands;
            index += 1;
        }
        self.check_cycles()?;
        if self.list.len() == 1 {
            self.list[0].name.clear();
        }
        Ok(())
    }

    /// Finds the stages that an instruction takes from; images are added as stages of their own.
    pub(super) fn command(
        &mut self,
        stage: usize,
        statement: Statement,
        is_trigger: bool,
    ) -> Result<Command, PlanError> {
        let sources = match &statement.instruction {
            Instruction::Copy(copy) if !copy.from.is_empty() => {
                vec![self.copy_source(&copy.from, statement.lines)?]
            }
            Instruction::Run(run) => {
                let froms: Vec<String> = run.mounts.iter().map(|mount| mount.from.clone()).collect();
                froms.iter().map(|from| self.source_or_image(mount_source(from), Lines::default())).collect()
            }
            _ => Vec::new(),
        };
        for &source in &sources {
            self.list[stage].needs.push((source, statement.lines));
        }
        Ok(Command { statement, sources, is_trigger })
    }

    fn copy_source(&mut self, from: &str, lines: Lines) -> Result<usize, PlanError> {
        let expanded = self.lexer.text(from, &NoVariables).map_err(|(error, _)| PlanError::from(error))?;
        if expanded.text != from {
            return Err(PlanError::other(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            ));
        }
        match from.parse::<i64>() {
            Ok(number) => usize::try_from(number)
                .ok()
                .filter(|number| *number < self.list.len())
                .ok_or_else(|| PlanError::other(format!("invalid stage index {number}"))),
            Err(_) => Ok(self.source_or_image(from, lines)),
        }
    }

    fn source_or_image(&mut self, name: &str, lines: Lines) -> usize {
        match self.find(name) {
            Some(index) => index,
            None => self.add(Stage::image(name, lines)),
        }
    }

    fn check_cycles(&self) -> Result<(), PlanError> {
        let mut visited = vec![false; self.list.len()];
        let mut on_path = vec![false; self.list.len()];
        for index in 0..self.list.len() {
            if let Some(places) = self.cycle_from(index, &mut visited, &mut on_path) {
                let name = &self.list[index].name;
                let error = PlanError::other(format!("circular dependency detected on stage: {name}"));
                return Err(places.into_iter().fold(error, PlanError::at));
            }
        }
        Ok(())
    }

    /// Returns the places on the way into a cycle and around it. The file says how long that is: nothing here is recursive.
    fn cycle_from(&self, index: usize, visited: &mut [bool], on_path: &mut [bool]) -> Option<Vec<Lines>> {
        if std::mem::replace(&mut visited[index], true) {
            return None;
        }
        on_path[index] = true;
        // Each stage with the number of its needs that were looked at.
        let mut path = vec![(index, 0)];
        while let Some((stage, looked_at)) = path.last_mut() {
            let Some(&(needed, _)) = self.list[*stage].needs.get(*looked_at) else {
                on_path[*stage] = false;
                path.pop();
                continue;
            };
            *looked_at += 1;
            if on_path[needed] {
                return Some(path.iter().map(|(stage, looked_at)| self.list[*stage].needs[*looked_at - 1].1).collect());
            }
            if !std::mem::replace(&mut visited[needed], true) {
                on_path[needed] = true;
                path.push((needed, 0));
            }
        }
        None
    }

    /// Returns the stages that the target needs, itself included.
    pub(super) fn needed_by_target(&self) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut waiting = vec![self.target];
        while let Some(index) = waiting.pop() {
            if needed.insert(index) {
                waiting.extend(self.list[index].base);
                waiting.extend(self.list[index].needs.iter().map(|(needed, _)| *needed));
            }
        }
        needed
    }

    /// Marks a path of the build context as used.
    pub(super) fn use_context_path(&mut self, path: &str) {
        self.context_paths.push(rooted(path));
    }

    /// Marks a path of a stage's tree as used.
    pub(super) fn use_stage_path(&mut self, stage: usize, path: &str) {
        let owner = self.list[stage].paths_owner;
        self.list[owner].used_paths.insert(rooted(path));
    }

    /// Takes over which paths a rehearsal found to be used.
    pub(super) fn take_paths(&mut self, rehearsal: &Self) {
        self.context_paths.clone_from(&rehearsal.context_paths);
        for (stage, rehearsed) in self.list.iter_mut().zip(&rehearsal.list) {
            stage.used_paths.clone_from(&rehearsed.used_paths);
        }
        let owner = self.list[self.target].paths_owner;
        self.list[owner].used_paths.insert("/".to_owned());
    }
}

fn rooted(path: &str) -> String {
    ferry_spec::path::join("/", path)
}

/// A mount without a source stage counts as one from nothing.
fn mount_source(from: &str) -> &str {
    if from.is_empty() { "scratch" } else { from }
}
