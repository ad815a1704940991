//! Instructions that change the image's configuration, and WORKDIR.

use ferry_dockerfile::check::{
    JSON_ARGS_RECOMMENDED, LEGACY_KEY_VALUE_FORMAT, MULTIPLE_INSTRUCTIONS_DISALLOWED, Rule, WORKDIR_RELATIVE_PATH,
};
use ferry_dockerfile::instruction::{ArgDefinition, CommandLine, Form, Healthcheck, KeyValue};
use ferry_dockerfile::{Lines, quoted};
use ferry_spec::image::{Empty, ImageConfig};
use ferry_spec::path;

use super::naming::{go_duration, go_list, go_quoted_list, shown};
use super::{Step, line_ranges};
use crate::graph::{ActionInput, FileAction, FileOp, FileStep, MakeDir, Op, VertexMeta};
use crate::plan::args::{ArgFact, NOT_IN_ENVIRONMENT};
use crate::plan::error::PlanError;
use crate::plan::lint;

/// Returns a path as an absolute one, cleaned only where it was relative.
pub(super) fn absolute(parent: &str, written: &str) -> String {
    let parent = if parent.starts_with('/') { parent.to_owned() } else { path::join("/", parent) };
    match written {
        "" => parent,
        written if written.starts_with('/') => written.to_owned(),
        written => path::join(&parent, written),
    }
}

impl Step<'_, '_, '_> {
    fn report(&mut self, rule: &'static Rule, lines: Lines, detail: String) {
        self.checks.report(rule, lines, detail, &self.comments);
    }

    fn remember(&mut self, created_by: String) {
        let epoch = self.stages.epoch;
        self.stage().remember(created_by, false, epoch);
    }

    fn check_legacy(&mut self, pair: &KeyValue) {
        if pair.legacy {
            let keyword = self.keyword.clone();
            let detail =
                format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
            self.report(&LEGACY_KEY_VALUE_FORMAT, self.lines, detail);
        }
    }

    pub(super) fn env(&mut self, pairs: Vec<KeyValue>) {
        let mut created_by = "ENV".to_owned();
        for pair in pairs {
            self.check_legacy(&pair);
            lint::secret_names("ENV", &pair.key, self.lines, &self.comments, self.checks);
            created_by.push_str(&format!(" {}={}", pair.key, pair.value));
            let stage = self.stage();
            stage.tree.environment.set(&pair.key, pair.value.clone());
            set_variable(&mut stage.image.config.env, &pair.key, &pair.value);
        }
        self.remember(created_by);
    }

    pub(super) fn label(&mut self, pairs: Vec<KeyValue>) {
        let mut created_by = "LABEL".to_owned();
        for pair in pairs {
            self.check_legacy(&pair);
            created_by.push_str(&format!(" {}={}", pair.key, pair.value));
            self.stage().image.config.labels.insert(pair.key, pair.value);
        }
        self.remember(created_by);
    }

    pub(super) fn maintainer(&mut self, name: String) {
        self.remember(format!("MAINTAINER {name}"));
        self.stage().image.author = name;
    }

    /// Returns a command line with the shell before it, when it is one line.
    fn with_shell_checked(&mut self, command: CommandLine) -> Vec<String> {
        if command.form == Form::Exec {
            return command.words;
        }
        if self.stage().image.config.shell.as_ref().is_none_or(Vec::is_empty) {
            let detail = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                self.keyword
            );
            self.report(&JSON_ARGS_RECOMMENDED, self.lines, detail);
        }
        with_shell(&self.stage().image, &command.words.join(" "))
    }

    /// Notes where an instruction is of which only the last one counts; the one before is told to be in vain.
    fn check_once(&mut self, before: Option<Lines>) {
        if let Some(lines) = before {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                self.keyword
            );
            self.report(&MULTIPLE_INSTRUCTIONS_DISALLOWED, lines, detail);
        }
    }

    pub(super) fn cmd(&mut self, command: CommandLine) {
        let lines = self.lines;
        let before = self.stage().cmd.replace(lines);
        self.check_once(before);
        let words = self.with_shell_checked(command);
        self.remember(format!("CMD {}", go_quoted_list(&words)));
        let config = &mut self.stage().image.config;
        config.cmd = Some(words);
        config.args_escaped = true;
    }

    pub(super) fn entrypoint(&mut self, command: CommandLine) {
        let lines = self.lines;
        let before = self.stage().entrypoint.replace(lines);
        self.check_once(before);
        let words = self.with_shell_checked(command);
        self.remember(format!("ENTRYPOINT {}", go_quoted_list(&words)));
        let stage = self.stage();
        stage.image.config.entrypoint = Some(words);
        // The base image's command belongs to the base image's entrypoint.
        if stage.cmd.is_none() {
            stage.image.config.cmd = None;
        }
    }

    pub(super) fn healthcheck(&mut self, check: Healthcheck) {
        let lines = self.lines;
        let before = self.stage().healthcheck.replace(lines);
        self.check_once(before);
        let check = match check {
            Healthcheck::None => ferry_spec::image::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
            Healthcheck::Check { test, interval, timeout, start_period, start_interval, retries } => {
                ferry_spec::image::Healthcheck { test, interval, timeout, start_period, start_interval, retries }
            }
        };
        self.remember(format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            go_list(&check.test),
            go_duration(check.interval),
            go_duration(check.timeout),
            go_duration(check.start_period),
            go_duration(check.start_interval),
            check.retries
        ));
        self.stage().image.config.healthcheck = Some(check);
    }

    pub(super) fn user(&mut self, user: String) {
        self.remember(format!("USER {user}"));
        let stage = self.stage();
        stage.tree.user.clone_from(&user);
        stage.image.config.user = user;
    }

    pub(super) fn volume(&mut self, paths: &[String]) -> Result<(), PlanError> {
        if paths.iter().any(String::is_empty) {
            return Err(PlanError::other("VOLUME specified can not be an empty string"));
        }
        let volumes = &mut self.stage().image.config.volumes;
        volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
        self.remember(format!("VOLUME {}", go_list(paths)));
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, signal: String) -> Result<(), PlanError> {
        // Any number but zero is let through, as BuildKit does.
        let is_number = signal.parse::<i64>().is_ok_and(|number| number != 0);
        if !is_number && ferry_spec::signal::parse(&signal).is_none() {
            return Err(PlanError::other(format!("invalid signal: {signal}")));
        }
        self.remember(format!("STOPSIGNAL {signal}"));
        self.stage().image.config.stop_signal = signal;
        Ok(())
    }

    pub(super) fn shell(&mut self, words: Vec<String>) {
        self.remember(format!("SHELL {}", go_list(&words)));
        self.stage().image.config.shell = Some(words);
    }

    pub(super) fn arg(&mut self, definitions: Vec<ArgDefinition>) -> Result<(), PlanError> {
        let mut shown = Vec::new();
        for definition in definitions {
            shown.push(self.arg_one(definition)?);
        }
        self.remember(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    /// Sets one argument; returns what the history says of it.
    fn arg_one(&mut self, definition: ArgDefinition) -> Result<String, PlanError> {
        let name = definition.name.clone();
        lint::secret_names("ARG", &name, self.lines, &self.comments, self.checks);
        let given = self.stages.build_args.get(&name).cloned();
        let mut is_global = false;
        let value = match (given, &definition.default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => {
                let global = self.stages.arguments.value(&name).map(str::to_owned);
                is_global = global.is_some();
                global
            }
        };
        let lines = self.lines;
        let stage = self.stage();
        if let Some(value) = &value
            && !NOT_IN_ENVIRONMENT.contains(&name.as_str())
        {
            stage.tree.environment.set(&name, value.clone());
        }
        if !is_global {
            let value = value.clone().unwrap_or_default();
            let needs = Default::default();
            stage.arg_facts.insert(name.clone(), ArgFact { definition, value, needs, lines });
        }
        stage.used_args.insert(name.clone());
        stage.build_args.push((name.clone(), value.clone()));
        Ok(match value {
            Some(value) => format!("{name}={value}"),
            None => name,
        })
    }

    pub(super) fn workdir(&mut self, written: &str) -> Result<(), PlanError> {
        let is_first = !std::mem::replace(&mut self.stage().has_workdir, true);
        if is_first && !written.starts_with('/') {
            let detail =
                format!("Relative workdir {} can have unexpected results if the base image changes", quoted(written));
            self.report(&WORKDIR_RELATIVE_PATH, self.lines, detail);
        }
        let directory = absolute(&self.stage().image.config.working_dir, written);
        let stage = self.stage();
        stage.image.config.working_dir.clone_from(&directory);
        stage.tree.directory.clone_from(&directory);
        let has_layer = directory != "/";
        if has_layer {
            self.make_directory(&directory)?;
        }
        let epoch = self.stages.epoch;
        self.stage().remember(format!("WORKDIR {directory}"), has_layer, epoch);
        Ok(())
    }

    fn make_directory(&mut self, directory: &str) -> Result<(), PlanError> {
        let epoch = self.stages.epoch;
        let lexer = self.stages.lexer;
        let environment = self.stage().tree.environment.clone();
        let name = self.step_name(&shown(&self.source, &lexer, &environment), &environment);
        let stage = self.stage();
        let make = MakeDir {
            path: path::clean(directory),
            mode: 0o755,
            make_parents: true,
            owner: super::copy::owner(&stage.image.config.user),
            timestamp: epoch.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        };
        let inputs: Vec<_> = stage.tree.output.into_iter().collect();
        let step = FileStep {
            input: (!inputs.is_empty()).then_some(ActionInput::Input(0)),
            source: None,
            output: Some(0),
            action: FileAction::MakeDir(make),
        };
        let platform = stage.platform.clone();
        let meta = VertexMeta { name, location: line_ranges(self.lines), ..VertexMeta::default() };
        let vertex = self.graph.add(Op::File(FileOp { steps: vec![step] }), inputs, platform, meta)?;
        self.stage().tree.output = Some(vertex.into());
        Ok(())
    }
}

/// Sets a variable in a list of `NAME=value`, in its place.
fn set_variable(variables: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match variables.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = entry,
        None => variables.push(entry),
    }
}

/// Returns a line with the image's shell before it.
pub(super) fn with_shell(image: &ImageConfig, line: &str) -> Vec<String> {
    let mut words = match &image.config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ if image.os == "windows" => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
        _ => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
    };
    words.push(line.to_owned());
    words
}
