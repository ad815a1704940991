//! What stages begin with: images, named contexts, and the triggers that these bring along.

use std::collections::BTreeSet;

use ferry_dockerfile::check::Checks;
use ferry_dockerfile::{Dockerfile, Instruction, Lines, with_suggestion};
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use super::args::with_os_version;
use super::context::{self, Loaded, pinned};
use super::error::{PlanError, PlanErrorCause};
use super::lint;
use super::observed::{ImageNeed, Need, ResolvedImage};
use super::stages::{Origin, Stages};

/// The search path of programs where an image sets none.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Resolves what every stage begins with that the target needs; returns what must be known first.
pub(super) fn resolve(stages: &mut Stages<'_>, checks: &mut Checks) -> Result<Vec<Need>, PlanError> {
    loop {
        stages.reachable = stages.needed_by_target();
        let mut needs = Vec::new();
        for index in 0..stages.list.len() {
            let is_needed = stages.input.request.all_stages || stages.reachable.contains(&index);
            let lines = stages.list[index].from.lines;
            let need = stages.resolve_one(index, is_needed, checks).map_err(|error| with_lines(error, lines))?;
            needs.extend(need.filter(|need| !needs.contains(need)));
        }
        if !needs.is_empty() {
            return Ok(needs);
        }
        if !stages.add_triggers()? {
            return Ok(Vec::new());
        }
    }
}

fn with_lines(error: PlanError, lines: Lines) -> PlanError {
    if lines == Lines::default() { error } else { error.at(lines) }
}

impl Stages<'_> {
    fn resolve_one(&mut self, index: usize, is_needed: bool, checks: &mut Checks) -> Result<Option<Need>, PlanError> {
        let stage = &self.list[index];
        if stage.base.is_some() || stage.is_done || stage.is_resolved {
            return Ok(None);
        }
        if stage.base_name == "scratch" && stage.named_context.is_none() {
            let platform = self.platforms.target.clone();
            let stage = &mut self.list[index];
            stage.image = empty_image(&platform);
            stage.platform = Some(platform);
            stage.is_resolved = is_needed;
            stage.is_done = stage.is_image;
            return Ok(None);
        }
        let name = stage.base_name.clone();
        let reference = Reference::parse(&name)
            .map_err(|cause| PlanError::new(PlanErrorCause::BaseName { name: name.clone(), cause }))?
            .with_default_tag();
        if !is_needed {
            return Ok(None);
        }
        let platform = stage.platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        let need = match stage.named_context.clone() {
            Some(context) => self.resolve_replaced(index, &context)?,
            None => match context::named(self.input.request, &reference.to_string(), Some(&platform))? {
                Some(context) => self.resolve_context(index, &context, &platform)?,
                None => self.resolve_image(index, &reference, platform, checks)?,
            },
        };
        if need.is_none() {
            let stage = &mut self.list[index];
            stage.is_resolved = true;
            stage.is_done |= stage.is_image;
        }
        Ok(need)
    }

    /// A context takes a stage's place: none of its instructions are carried out.
    fn resolve_replaced(&mut self, index: usize, context: &context::NamedContext) -> Result<Option<Need>, PlanError> {
        let platform = self.list[index].platform.clone().or_else(|| self.input.platform.cloned());
        let (origin, image) = match context.load(self.input.request, self.input.observed, platform.as_ref())? {
            Loaded::Needs(need) => return Ok(Some(need)),
            Loaded::Tree(origin, image) => (origin, image.map(|image| *image)),
        };
        let target = self.platforms.target.clone();
        let stage = &mut self.list[index];
        stage.origin = origin;
        stage.is_done = true;
        if let Some(image) = image {
            if !image.architecture.is_empty() && !image.os.is_empty() {
                stage.platform = Some(image.platform());
            }
            stage.image = ImageConfig { created: None, ..image };
            stage.take_environment();
        }
        stage.platform.get_or_insert(target);
        Ok(None)
    }

    fn resolve_context(
        &mut self,
        index: usize,
        context: &context::NamedContext,
        platform: &Platform,
    ) -> Result<Option<Need>, PlanError> {
        let (origin, image) = match context.load(self.input.request, self.input.observed, Some(platform))? {
            Loaded::Needs(need) => return Ok(Some(need)),
            Loaded::Tree(origin, image) => (origin, image.map_or_else(|| empty_image(platform), |image| *image)),
        };
        let stage = &mut self.list[index];
        stage.origin = origin;
        stage.base_image = Some(image.clone());
        stage.image = ImageConfig { created: None, ..image };
        stage.platform = Some(platform.clone());
        Ok(None)
    }

    fn resolve_image(
        &mut self,
        index: usize,
        reference: &Reference,
        platform: Platform,
        checks: &mut Checks,
    ) -> Result<Option<Need>, PlanError> {
        let prefix = if self.input.request.multi_platform {
            format!("[{} internal]", with_os_version(&platform))
        } else {
            "[internal]".to_owned()
        };
        let need = ImageNeed {
            reference: reference.to_string(),
            platform: Some(platform.clone()),
            pull: self.input.request.pull,
            label: format!("{prefix} load metadata for {reference}"),
            layout: None,
        };
        let image = match self.input.observed.image(&need) {
            None => return Ok(Some(Need::Image(need))),
            Some(Ok(image)) => image,
            Some(Err(error)) => return Err(self.unknown_image(index, error)),
        };
        let platform = match self.list[index].platform {
            None if self.platforms.implicit => self.detected_platform(&image.config, platform),
            _ => platform,
        };
        let stage = &mut self.list[index];
        let written = std::mem::take(&mut stage.base_name);
        stage.base_name = pinned(image)?;
        stage.steps_at_base = stage.steps;
        stage.base_image = Some(image.config.clone());
        stage.image = ImageConfig { created: None, ..image.config.clone() };
        if has_no_layers(image) {
            stage.origin = Origin::Scratch;
        } else {
            let reference = stage.base_name.clone();
            stage.origin = Origin::Image { reference, platform: platform.clone(), label: None };
            lint::base_platform(&written, &platform, &image.config.platform(), &stage.from, checks);
        }
        stage.platform = Some(platform);
        Ok(None)
    }

    fn unknown_image(&self, index: usize, error: &str) -> PlanError {
        let name = &self.list[index].base_name;
        let mut names = self.names();
        for known in ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"] {
            names.extend([known.to_owned(), format!("{known}:latest")]);
        }
        let names = names.iter().map(String::as_str);
        PlanError::other(with_suggestion(format!("{name}: {error}"), name, names, true))
    }

    /// An image of another platform makes that the target, when nobody asked for one and the builder can run it.
    fn detected_platform(&self, image: &ImageConfig, target: Platform) -> Platform {
        let same = |platform: &&Platform| platform.os == image.os && platform.architecture == image.architecture;
        if same(&&target) {
            return target;
        }
        self.platforms.build.iter().find(same).cloned().unwrap_or(target)
    }

    /// Adds the instructions of ONBUILD of what needed stages begin with; tells whether these take from other stages.
    fn add_triggers(&mut self) -> Result<bool, PlanError> {
        let mut has_new = false;
        let needed: BTreeSet<usize> =
            if self.input.request.all_stages { (0..self.list.len()).collect() } else { self.reachable.clone() };
        for index in needed {
            let mut triggers = std::mem::take(&mut self.list[index].image.config.on_build);
            if let Some(base) = self.list[index].base.filter(|_| !self.list[index].has_base_triggers) {
                let of_base =
                    self.list[base].commands.iter().filter_map(|command| match &command.statement.instruction {
                        Instruction::OnBuild(trigger) => Some(trigger.clone()),
                        _ => None,
                    });
                triggers.extend(of_base.collect::<Vec<_>>());
                self.list[index].has_base_triggers = true;
            }
            if !triggers.is_empty() {
                let lines = self.list[index].from.lines;
                let added = self.add_commands(index, &triggers, lines).map_err(|mut error| {
                    error.places = vec![lines];
                    error
                })?;
                has_new |= added;
            }
        }
        Ok(has_new)
    }

    fn add_commands(&mut self, index: usize, triggers: &[String], lines: Lines) -> Result<bool, PlanError> {
        let mut commands = Vec::new();
        for trigger in triggers {
            let mut statements = Dockerfile::parse_fragment(trigger)?;
            if statements.len() != 1 {
                return Err(PlanError::other("onbuild trigger should be a single expression"));
            }
            let mut statement = statements.remove(0);
            statement.lines = lines;
            commands.push(self.command(index, statement, true)?);
        }
        let takes_from_others = commands.iter().any(|command| !command.sources.is_empty());
        let stage = &mut self.list[index];
        stage.steps += commands.len();
        commands.append(&mut stage.commands);
        stage.commands = commands;
        Ok(takes_from_others)
    }
}

/// Very old images do not tell their layers: then their history does.
fn has_no_layers(image: &ResolvedImage) -> bool {
    image.config.rootfs.diff_ids.is_empty() && image.config.history.iter().all(|entry| entry.empty_layer)
}

/// Returns the configuration of an image without anything.
pub(crate) fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    "layers".clone_into(&mut image.rootfs.kind);
    "/".clone_into(&mut image.config.working_dir);
    if platform.os != "windows" {
        image.config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    image
}
