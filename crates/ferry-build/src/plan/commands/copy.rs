//! COPY and ADD.

use ferry_dockerfile::git::GitReference;
use ferry_dockerfile::ignore::has_wildcards;
use ferry_dockerfile::instruction::{Add, Copy, InlineFile, Sources};
use ferry_dockerfile::quoted;
use ferry_spec::digest::Digest;
use ferry_spec::path;

use super::naming::shown;
use super::{Step, line_ranges, naming, symbolic_mode};
use crate::graph::{
    ActionInput, ArchiveHandling, ChangeOwner, CopyAction, FileAction, FileOp, FileStep, MakeFile, Op, Output, Owner,
    ProgressGroup, Source, VertexMeta,
};
use crate::plan::context::{filename, git_source, http_source};
use crate::plan::error::PlanError;
use crate::plan::lint;

/// What COPY and ADD have in common.
struct Work {
    is_add: bool,
    sources: Sources,
    owner: Option<ChangeOwner>,
    chown: String,
    chmod: String,
    mode: Mode,
    link: bool,
    parents: bool,
    exclude: Vec<String>,
    keep_git_dir: Option<bool>,
    checksum: String,
    unpack: Option<bool>,
    /// The stage that is copied from; `None` is the context.
    from: Option<usize>,
    /// Where to, as an absolute path; a `/` at its end stays.
    target: String,
}

#[derive(Clone, Default)]
struct Mode {
    number: Option<u32>,
    words: String,
}

/// The copies of one instruction, with the trees that they take from; the one they go onto is the first.
struct Copies {
    inputs: Vec<Output>,
    copies: Vec<(Option<usize>, CopyAction)>,
}

impl Copies {
    fn push(&mut self, source: Option<Output>, copy: CopyAction) {
        let place = source.map(|source| match self.inputs.iter().position(|known| *known == source) {
            Some(place) => place,
            None => {
                self.inputs.push(source);
                self.inputs.len() - 1
            }
        });
        self.copies.push((place, copy));
    }
}

impl Step<'_, '_, '_> {
    pub(super) fn add(&mut self, add: Add) -> Result<(), PlanError> {
        let work = Work {
            is_add: true,
            target: self.target(&add.sources.destination),
            owner: owner(&add.chown),
            mode: mode(&add.chmod)?,
            sources: add.sources,
            chown: add.chown,
            chmod: add.chmod,
            link: add.link,
            parents: false,
            exclude: add.exclude,
            keep_git_dir: add.keep_git_dir,
            checksum: add.checksum,
            unpack: add.unpack,
            from: None,
        };
        self.copy_files(work)
    }

    pub(super) fn copy(&mut self, copy: Copy) -> Result<(), PlanError> {
        let from = self.sources.first().copied();
        if let Some(source) = from
            && !self.stages.list[source].is_done
        {
            let name = quoted(&self.stage().name);
            return Err(PlanError::other(format!(
                "cannot copy from stage {}, it needs to be defined before current stage {name}",
                quoted(&copy.from)
            )));
        }
        let work = Work {
            is_add: false,
            target: self.target(&copy.sources.destination),
            owner: owner(&copy.chown),
            mode: mode(&copy.chmod)?,
            sources: copy.sources,
            chown: copy.chown,
            chmod: copy.chmod,
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude,
            keep_git_dir: None,
            checksum: String::new(),
            unpack: None,
            from,
        };
        self.copy_files(work)
    }

    /// Returns a destination as an absolute path; one that is a directory ends with a slash.
    fn target(&mut self, written: &str) -> String {
        let directory = self.stage().tree.directory.clone();
        let absolute = if written.starts_with('/') { path::clean(written) } else { path::join(&directory, written) };
        let is_directory = matches!(written, "" | ".") || written.ends_with('/') || written.ends_with("/.");
        if is_directory && !absolute.ends_with('/') { format!("{absolute}/") } else { absolute }
    }

    fn copy_files(&mut self, work: Work) -> Result<(), PlanError> {
        check_checksum(&work)?;
        let lexer = self.stages.lexer;
        let environment = self.stage().tree.environment.clone();
        let text = shown(&self.source, &lexer, &environment);
        let name = self.step_name(&text, &environment);
        // With `--link` nothing is known of what the files are laid over.
        let base = self.stage().tree.output.filter(|_| !work.is_linked());
        let mut copies = Copies { inputs: base.into_iter().collect(), copies: Vec::new() };
        for path in &work.sources.paths {
            self.add_source(&work, path, &name, &mut copies)?;
        }
        for file in &work.sources.inline {
            let tree = self.inline_document(file, 0o644)?;
            let copy = CopyAction { source: path::join("/", &file.name), ..work.action() };
            copies.push(Some(tree), copy);
        }
        self.add_copies(&work, copies, name, &text)?;
        let epoch = self.stages.epoch;
        let created_by = format!("{} # buildkit", work.history());
        self.stage().remember(created_by, true, epoch);
        self.mark_used(&work);
        Ok(())
    }

    fn add_source(&mut self, work: &Work, path: &str, name: &str, copies: &mut Copies) -> Result<(), PlanError> {
        let git = match GitReference::parse(path) {
            Some(Err(error)) => return Err(PlanError::new(error)),
            Some(Ok(git)) if !git.looks_like_path => Some(git),
            _ => None,
        };
        if let Some(git) = git {
            let tree = self.git_tree(work, path, &git, name)?;
            copies.push(Some(tree), CopyAction { source: "/".to_owned(), ..work.action() });
            return Ok(());
        }
        if is_http(path) {
            let (tree, file) = self.http_tree(work, path, name)?;
            let archives = unpacking(work.unpack.unwrap_or(false));
            copies.push(Some(tree), CopyAction { source: format!("/{file}"), archives, ..work.action() });
            return Ok(());
        }
        let tree = match work.from {
            Some(stage) => self.stages.list[stage].tree.output,
            None => {
                self.check_ignored(work, path);
                Some(self.stages.context(self.graph)?)
            }
        };
        let mut action = work.path_action(path);
        let is_alone = work.sources.paths.len() == 1 && work.sources.inline.is_empty();
        if self.stages.input.request.classic && is_alone && has_wildcards(path) {
            action.allow_empty_wildcard = false;
        }
        copies.push(tree, action);
        Ok(())
    }

    fn git_tree(&mut self, work: &Work, address: &str, git: &GitReference, name: &str) -> Result<Output, PlanError> {
        if !work.is_add {
            return Err(PlanError::other("source can't be a git ref for COPY"));
        }
        if let (Some(flag), Some(query)) = (work.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(PlanError::other("inconsistent keep-git-dir configuration"));
        }
        if !work.checksum.is_empty() && !git.checksum.is_empty() && work.checksum != git.checksum {
            let (flag, query) = (quoted(&work.checksum), quoted(&git.checksum));
            return Err(PlanError::other(format!("checksum mismatch {flag} != {query}")));
        }
        let mut source = git_source(address, work.keep_git_dir == Some(true))?;
        if !work.checksum.is_empty() {
            source.checksum = Some(work.checksum.clone());
        }
        let meta = VertexMeta { name: name.to_owned(), ..VertexMeta::default() };
        Ok(self.graph.add(Op::Source(Source::Git(source)), Vec::new(), None, meta)?.into())
    }

    fn http_tree(&mut self, work: &Work, url: &str, name: &str) -> Result<(Output, String), PlanError> {
        if !work.is_add {
            return Err(PlanError::other("source can't be a URL for COPY"));
        }
        let file = filename(url);
        let mut source = http_source(url, &file);
        if !work.checksum.is_empty() {
            source.checksum = Some(Digest::parse(&work.checksum).map_err(PlanError::new)?);
        }
        let meta = VertexMeta {
            name: name.to_owned(),
            description: naming::description(&self.source),
            ..VertexMeta::default()
        };
        let vertex = self.graph.add(Op::Source(Source::Http(source)), Vec::new(), None, meta)?;
        Ok((vertex.into(), file))
    }

    /// Adds a file with the text of a here-document.
    pub(super) fn inline_document(&mut self, file: &InlineFile, mode: u32) -> Result<Output, PlanError> {
        let make = MakeFile {
            path: path::join("/", &file.name),
            mode,
            content: file.content.clone().into_bytes(),
            ..MakeFile::default()
        };
        let step = FileStep { input: None, source: None, output: Some(0), action: FileAction::MakeFile(make) };
        let meta = VertexMeta { name: "[internal] preparing inline document".to_owned(), ..VertexMeta::default() };
        let platform = self.stage().platform.clone();
        Ok(self.graph.add(Op::File(FileOp { steps: vec![step] }), Vec::new(), platform, meta)?.into())
    }

    fn check_ignored(&mut self, work: &Work, source: &str) {
        let keyword = if work.is_add { "Add" } else { "Copy" };
        lint::ignored_source(keyword, source, &self.stages.ignored, self.lines, &self.comments, self.checks);
    }

    /// Adds the copies to the graph: onto the stage's tree, or (`--link`) onto nothing, laid over it.
    fn add_copies(&mut self, work: &Work, copies: Copies, name: String, text: &str) -> Result<(), PlanError> {
        let linked = work.is_linked();
        let base = self.stage().tree.output;
        let base_input = base.filter(|_| !linked).map(|_| ActionInput::Input(0));
        let last = copies.copies.len().saturating_sub(1);
        let steps = copies.copies.into_iter().enumerate().map(|(number, (source, copy))| FileStep {
            input: match number {
                0 => base_input,
                _ => Some(ActionInput::Step(number - 1)),
            },
            source: source.map(ActionInput::Input),
            output: (number == last).then_some(0),
            action: FileAction::Copy(Box::new(copy)),
        });
        let op = Op::File(FileOp { steps: steps.collect() });
        let stage = self.stage();
        let platform = stage.platform.clone();
        let ignore_cache = stage.ignore_cache;
        let group = |weak| ProgressGroup { id: format!("link: {name}"), name: name.clone(), weak };
        let meta = VertexMeta {
            name: name.clone(),
            progress_group: linked.then(|| group(true)),
            ignore_cache,
            location: line_ranges(self.lines),
            ..VertexMeta::default()
        };
        let mut tree: Output = self.graph.add(op, copies.inputs, platform.clone(), meta)?.into();
        if let Some(base) = base.filter(|_| linked) {
            let meta = VertexMeta {
                name: self.current_step_name(&format!("LINK {text}")),
                progress_group: Some(group(false)),
                ignore_cache,
                location: line_ranges(self.lines),
                ..VertexMeta::default()
            };
            tree = self.graph.add(Op::Merge, vec![base, tree], platform, meta)?.into();
        }
        self.stage().tree.output = Some(tree);
        Ok(())
    }

    fn mark_used(&mut self, work: &Work) {
        for source in &work.sources.paths {
            match work.from {
                Some(stage) => self.stages.use_stage_path(stage, source),
                None if is_http(source) || is_git(source) => {}
                None => self.stages.use_context_path(source),
            }
        }
    }

    /// Returns the name of the next step.
    pub(super) fn step_name(&mut self, text: &str, environment: &ferry_dockerfile::expand::Environment) -> String {
        let is_trigger = self.is_trigger;
        let multi_platform = self.stages.input.request.multi_platform;
        let stage = self.stage();
        let platform = stage.platform.clone().filter(|_| multi_platform);
        stage.step_name(text, platform.as_ref(), environment, is_trigger)
    }

    /// Returns the name of the step that was named last, with another text.
    fn current_step_name(&mut self, text: &str) -> String {
        let is_trigger = self.is_trigger;
        let multi_platform = self.stages.input.request.multi_platform;
        let stage = self.stage();
        let platform = stage.platform.clone().filter(|_| multi_platform);
        let environment = stage.tree.environment.clone();
        stage.current_step_name(text, platform.as_ref(), &environment, is_trigger)
    }
}

impl Work {
    /// A mode makes it an ordinary copy, in BuildKit too.
    fn is_linked(&self) -> bool {
        self.link && self.chmod.is_empty()
    }

    /// What every copy of the instruction has in common.
    fn action(&self) -> CopyAction {
        CopyAction {
            target: self.target.clone(),
            owner: self.owner.clone(),
            mode: self.mode.number,
            mode_words: self.mode.words.clone(),
            create_target_path: true,
            exclude_patterns: self.exclude.clone(),
            ..CopyAction::default()
        }
    }

    /// A copy of a path in a tree.
    fn path_action(&self, written: &str) -> CopyAction {
        let mut source = written.to_owned();
        let mut include_patterns = Vec::new();
        let mut required_paths = Vec::new();
        if self.parents {
            // What is before a `/./` is not kept below the target.
            let (parent, pattern) = written.split_once("/./").unwrap_or(("/", written));
            let pattern = path::join("/", pattern);
            parent.clone_into(&mut source);
            if !has_wildcards(parent) && !has_wildcards(&pattern) {
                required_paths.push(path::join("/", &format!("{parent}/{pattern}")));
            }
            include_patterns.push(pattern.trim_start_matches('/').to_owned());
        }
        CopyAction {
            source: path::join("/", &source),
            follow_symlink: true,
            copy_dir_contents: true,
            include_patterns,
            required_paths,
            archives: unpacking(self.unpack.unwrap_or(self.is_add)),
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..self.action()
        }
    }

    /// What the history says of it.
    fn history(&self) -> String {
        let mut words = vec![if self.is_add { "ADD" } else { "COPY" }.to_owned()];
        if self.parents {
            words.push("--parents".to_owned());
        }
        if !self.chown.is_empty() {
            words.push(format!("--chown={}", self.chown));
        }
        if !self.chmod.is_empty() {
            words.push(format!("--chmod={}", self.chmod));
        }
        words.extend(self.sources.paths.iter().cloned());
        words.extend(self.sources.inline.iter().map(|file| format!("<<{}", file.name)));
        words.push(self.sources.destination.clone());
        words.join(" ")
    }
}

fn check_checksum(work: &Work) -> Result<(), PlanError> {
    if work.checksum.is_empty() {
        return Ok(());
    }
    let [source] = &work.sources.paths[..] else {
        return Err(PlanError::other("checksum can't be specified for multiple sources"));
    };
    if !is_http(source) && !is_git(source) {
        return Err(PlanError::other("checksum requires HTTP(S) or Git sources"));
    }
    Ok(())
}

/// Tells whether a source is a file over HTTP, and no git repository.
fn is_http(source: &str) -> bool {
    let has_scheme = source.starts_with("http://") || source.starts_with("https://");
    has_scheme && !is_git(source)
}

fn is_git(source: &str) -> bool {
    GitReference::parse(source).is_some_and(|git| git.is_ok())
}

fn unpacking(wanted: bool) -> ArchiveHandling {
    if wanted { ArchiveHandling::TryUnpack } else { ArchiveHandling::Keep }
}

/// Reads `USER[:GROUP]`, each a name or a number.
pub(super) fn owner(text: &str) -> Option<ChangeOwner> {
    if text.is_empty() {
        return None;
    }
    let one = |text: &str| match (text, text.parse::<u32>()) {
        ("", _) => None,
        (_, Ok(id)) => Some(Owner::Id(id)),
        (name, Err(_)) => Some(Owner::Name { name: name.to_owned(), input: None }),
    };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    Some(ChangeOwner { user: one(user), group: one(group) })
}

/// Reads the value of `--chmod`: an octal number, or words such as `u=rwX,go=rX`.
fn mode(text: &str) -> Result<Mode, PlanError> {
    if text.is_empty() {
        return Ok(Mode::default());
    }
    let not_octal = || {
        PlanError::other(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(number) if number <= 0o7777 => Ok(Mode { number: Some(number), words: String::new() }),
            _ => Err(not_octal()),
        };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(not_octal());
    }
    if !symbolic_mode::is_valid(text) {
        return Err(PlanError::other("invalid syntax"));
    }
    Ok(Mode { number: None, words: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        let name = |name: &str| Some(Owner::Name { name: name.to_owned(), input: None });
        assert_eq!(owner(""), None);
        assert_eq!(owner("1"), Some(ChangeOwner { user: Some(Owner::Id(1)), group: None }));
        assert_eq!(owner("a:2"), Some(ChangeOwner { user: name("a"), group: Some(Owner::Id(2)) }));
        assert_eq!(owner(":g"), Some(ChangeOwner { user: None, group: name("g") }));
    }

    #[test]
    fn modes() {
        assert_eq!(mode("0644").unwrap().number, Some(0o644));
        assert_eq!(mode("u=rwX,go=rX").unwrap().words, "u=rwX,go=rX");
        for text in ["8", "10000", "99x"] {
            let error = mode(text).err().unwrap().to_string();
            let expected = "it should be octal string and between 0 and 07777";
            assert!(error.starts_with(&format!("invalid chmod parameter: '{text}'")) && error.ends_with(expected));
        }
        assert_eq!(mode("q").err().unwrap().to_string(), "invalid syntax");
    }
}
