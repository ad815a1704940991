//! RUN.

use ferry_dockerfile::expand::{Environment, Lexer, Variables};
use ferry_dockerfile::instruction::{Form, Heredoc, InlineFile, Mount, MountKind as Kind, Run, RunNetwork, Security};

use super::meta::with_shell;
use super::naming::{description, go_list, shown};
use super::{Step, line_ranges};
use crate::graph::{Device, Exec, Mount as GraphMount, MountKind, NetworkMode, Op, Output, SecurityMode, VertexMeta};
use crate::plan::error::PlanError;

/// The trees that a program sees, and where.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) inputs: Vec<Output>,
    pub(super) mounts: Vec<GraphMount>,
}

impl Mounts {
    /// Returns the place of a tree among the inputs.
    pub(super) fn input(&mut self, tree: Option<Output>) -> Option<usize> {
        let tree = tree?;
        Some(match self.inputs.iter().position(|known| *known == tree) {
            Some(place) => place,
            None => {
                self.inputs.push(tree);
                self.inputs.len() - 1
            }
        })
    }
}

/// Variables, those that hold secrets shown as stars.
struct Masked<'a> {
    environment: &'a Environment,
    secrets: Vec<String>,
}

impl Variables for Masked<'_> {
    fn get(&self, name: &str) -> Option<String> {
        if self.secrets.iter().any(|secret| secret == name) {
            return Some("****".to_owned());
        }
        self.environment.get(name)
    }
}

impl Step<'_, '_, '_> {
    pub(super) fn run_program(&mut self, run: Run) -> Result<(), PlanError> {
        let mut resolved = Vec::new();
        for mount in &run.mounts {
            resolved.push(mount.resolve(&mut |word| self.expand(word))?);
        }
        // A program may look at any file there is.
        let index = self.index;
        self.stages.use_stage_path(index, "/");

        let mut mounts = Mounts::default();
        self.add_root(&mut mounts);
        let (args, suffix) = self.command(&run, &mut mounts)?;
        if args.is_empty() {
            return Err(PlanError::other("failed to marshal LLB definition: arguments are required"));
        }
        let mut exec = self.exec(&run, args.clone());
        self.add_mounts(&resolved, &mut mounts, &mut exec)?;
        exec.mounts = std::mem::take(&mut mounts.mounts);
        self.devices(&run, &mut exec);

        let environment = self.stage().tree.environment.clone();
        let name = self.run_name(&suffix, &resolved, &environment);
        let stage = self.stage();
        let meta = VertexMeta {
            name,
            ignore_cache: stage.ignore_cache,
            description: description(&self.source),
            location: line_ranges(self.lines),
            ..VertexMeta::default()
        };
        let platform = self.stage().platform.clone();
        let vertex = self.graph.add(Op::Exec(Box::new(exec)), mounts.inputs, platform, meta)?;
        let created_by = format!("RUN {} # buildkit", self.with_arguments(&args, &environment));
        let epoch = self.stages.epoch;
        let stage = self.stage();
        stage.tree.output = Some(vertex.into());
        stage.remember(created_by, true, epoch);
        Ok(())
    }

    fn add_root(&mut self, mounts: &mut Mounts) {
        let input = mounts.input(self.stage().tree.output);
        mounts.mounts.push(GraphMount {
            input,
            selector: String::new(),
            target: "/".to_owned(),
            output: Some(0),
            read_only: false,
            kind: MountKind::Bind,
            content_cache: None,
        });
    }

    /// Returns the words of the command, and what its here-document adds to the step's name.
    fn command(&mut self, run: &Run, mounts: &mut Mounts) -> Result<(Vec<String>, String), PlanError> {
        let words = &run.command.words;
        if run.command.form == Form::Exec {
            return Ok((words.clone(), String::new()));
        }
        let line = words.join(" ");
        let Some(first) = run.command.heredocs.first() else {
            return Ok((with_shell(&self.stage().image, &line), String::new()));
        };
        if Heredoc::parse_word(&line).is_none() {
            // The shell reads the documents itself.
            let mut script = line;
            for heredoc in &run.command.heredocs {
                script.push('\n');
                script.push_str(&heredoc.content);
                script.push_str(&heredoc.name);
            }
            return Ok((with_shell(&self.stage().image, &script), String::new()));
        }
        let text = first.text();
        let suffix = format!(" ({})", summary(&first.content));
        let is_script = self.stage().image.os != "windows" && text.starts_with("#!");
        if !is_script {
            return Ok((with_shell(&self.stage().image, &text), suffix));
        }
        let file = InlineFile { name: first.name.clone(), content: text, expand: false };
        let tree = self.inline_document(&file, 0o755)?;
        let input = mounts.input(Some(tree));
        mounts.mounts.push(GraphMount {
            input,
            selector: "/".to_owned(),
            target: "/dev/pipes/".to_owned(),
            output: None,
            read_only: true,
            kind: MountKind::Bind,
            content_cache: None,
        });
        let program = format!("/dev/pipes/{}", first.name);
        Ok((with_shell(&self.stage().image, &program), suffix))
    }

    fn exec(&mut self, run: &Run, args: Vec<String>) -> Exec {
        let proxy = self.stages.proxies.clone();
        let request = self.stages.input.request;
        let stage = &self.stages.list[self.index];
        Exec {
            args,
            env: stage.tree.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cwd: stage.tree.directory.clone(),
            user: stage.tree.user.clone(),
            hostname: request.hostname.clone(),
            proxy,
            extra_hosts: request.extra_hosts.clone(),
            ulimits: request.ulimits.clone(),
            cgroup_parent: request.cgroup_parent.clone(),
            network: match run.network {
                RunNetwork::Default => request.network,
                RunNetwork::None => NetworkMode::None,
                RunNetwork::Host => NetworkMode::Host,
            },
            security: match run.security {
                Security::Sandbox => SecurityMode::Sandbox,
                Security::Insecure => SecurityMode::Insecure,
            },
            shm_size_bytes: request.shm_size_bytes,
            ..Exec::default()
        }
    }

    fn devices(&mut self, run: &Run, exec: &mut Exec) {
        let device = |device: &ferry_dockerfile::instruction::Device| Device {
            name: device.name.clone(),
            optional: !device.required,
        };
        exec.devices = run.devices.iter().map(device).collect();
    }

    /// Returns the step's name: the line with its variables, as far as they have values.
    fn run_name(&mut self, suffix: &str, mounts: &[Mount], environment: &Environment) -> String {
        let lexer = Lexer { keep_quotes: true, keep_unset: true, ..self.stages.lexer };
        let secrets = mounts.iter().filter(|mount| mount.kind == Kind::Secret);
        let masked = Masked { environment, secrets: secrets.filter_map(|mount| mount.env.clone()).collect() };
        let text = shown(&format!("{}{suffix}", self.source), &lexer, &masked);
        self.step_name(&text, environment)
    }

    /// Returns the words with the arguments that they were run with before them, as the history has it.
    fn with_arguments(&mut self, words: &[String], environment: &Environment) -> String {
        let mut arguments: Vec<(&str, String)> = Vec::new();
        let stage = &self.stages.list[self.index];
        for (name, given) in &stage.build_args {
            let value = environment.get(name).or_else(|| given.clone()).unwrap_or_default();
            match arguments.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value,
                None => arguments.push((name, value)),
            }
        }
        let mut all = Vec::new();
        if !arguments.is_empty() {
            all.push(format!("|{}", arguments.len()));
            all.extend(arguments.into_iter().map(|(name, value)| format!("{name}={value}")));
        }
        all.extend(words.iter().cloned());
        let list = go_list(&all);
        list[1..list.len() - 1].to_owned()
    }
}

/// Returns the first line of a here-document.
fn summary(document: &str) -> String {
    let document = document.trim();
    match document.split_once('\n') {
        Some((first, _)) => format!("{}...", first.strip_suffix('\r').unwrap_or(first)),
        None => document.to_owned(),
    }
}
