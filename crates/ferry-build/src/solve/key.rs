//! Keys of steps: what an operation does, and what it does it to.
//!
//! The quick key takes the trees by what they are made of, which costs nothing. The thorough one takes only what the step looks at, by
//! content: a copied file, a mounted directory. Times are in neither.

use std::os::fd::AsFd;

use ferry_engine::workshop::Workshop;
use ferry_spec::digest::Digest;
use serde_json::json;

use crate::content;
use crate::failure::Result;
use crate::files;
use crate::graph::{ActionInput, Exec, FileAction, FileOp, MountKind, Op, Source, Vertex};
use crate::tree::Tree;

/// A key, with what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) digest: String,
    pub(crate) parts: Vec<(String, String)>,
}

impl Key {
    fn of(parts: Vec<(String, String)>) -> Self {
        let bytes = serde_json::to_vec(&parts).expect("pairs of texts");
        Self { digest: Digest::sha256(&bytes).to_string(), parts }
    }
}

impl Key {
    /// Says what differs from the parts of another key.
    pub(super) fn differences(&self, others: &[(String, String)]) -> String {
        let of = |parts: &[(String, String)], name: &str| {
            parts.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut text = String::new();
        for (name, value) in &self.parts {
            match of(others, name) {
                Some(other) if other == *value => {}
                Some(other) => text.push_str(&format!("not in the cache: {name} was {other}, is {value}\n")),
                None => text.push_str(&format!("not in the cache: {name} is new: {value}\n")),
            }
        }
        for (name, _) in others.iter().filter(|(name, _)| of(&self.parts, name).is_none()) {
            text.push_str(&format!("not in the cache: {name} is gone\n"));
        }
        match text.as_str() {
            "" => "not in the cache: its layers are gone\n".to_owned(),
            _ => text,
        }
    }
}

/// The key by what the inputs are made of; `None` when that is not known without work.
pub(super) fn quick(vertex: &Vertex, inputs: &[Tree], volumes: &[String]) -> Result<Option<Key>> {
    if !inputs.iter().all(Tree::has_quick_identity) {
        return Ok(None);
    }
    let mut parts = vec![("quick".to_owned(), String::new())];
    parts.extend(operation(vertex));
    parts.extend(of_volumes(vertex, volumes));
    for (at, input) in inputs.iter().enumerate() {
        parts.push((format!("input {at}"), input.identity()?));
    }
    Ok(Some(Key::of(parts)))
}

/// The key by what the step looks at. Blocks.
pub(super) fn thorough(vertex: &Vertex, inputs: &[Tree], volumes: &[String], workshop: &Workshop) -> Result<Key> {
    let mut parts = operation(vertex);
    parts.extend(of_volumes(vertex, volumes));
    match &vertex.op {
        Op::Exec(exec) => of_exec(exec, inputs, workshop, &mut parts)?,
        Op::File(file) => of_file(file, inputs, workshop, &mut parts)?,
        _ => {
            for (at, input) in inputs.iter().enumerate() {
                parts.push((format!("input {at}"), input.identity()?));
            }
        }
    }
    Ok(Key::of(parts))
}

/// Folders of the host, by their names: what is in them is the user's business.
fn of_volumes(vertex: &Vertex, volumes: &[String]) -> Vec<(String, String)> {
    match &vertex.op {
        Op::Exec(_) => volumes.iter().map(|volume| ("volume".to_owned(), volume.clone())).collect(),
        _ => Vec::new(),
    }
}

fn of_exec(exec: &Exec, inputs: &[Tree], workshop: &Workshop, parts: &mut Vec<(String, String)>) -> Result<()> {
    for mount in &exec.mounts {
        let Some(input) = mount.input.map(|place| &inputs[place]) else { continue };
        if matches!(mount.kind, MountKind::Cache(_)) {
            // What a cache mount begins with is no part of what a step is.
            continue;
        }
        let by_content = mount.content_cache.unwrap_or(mount.output.is_none());
        let identity = match by_content && mount.target != "/" {
            true => content_at(input, &mount.selector, workshop)?,
            false => input.identity()?,
        };
        parts.push((format!("mount {}", mount.target), identity));
    }
    Ok(())
}

fn of_file(file: &FileOp, inputs: &[Tree], workshop: &Workshop, parts: &mut Vec<(String, String)>) -> Result<()> {
    for (at, step) in file.steps.iter().enumerate() {
        if let Some(ActionInput::Input(place)) = step.input {
            parts.push((format!("step {at} onto"), inputs[place].identity()?));
        }
        let FileAction::Copy(copy) = &step.action else { continue };
        if let Some(ActionInput::Input(place)) = step.source {
            let source = inputs[place].open(workshop)?;
            let digest = files::digest(source.as_fd(), inputs[place].index(), copy);
            let digest = digest.map_err(|failure| failure.during("failed to calculate checksum of ref"))?;
            parts.push((format!("step {at} files of {}", copy.source), digest));
        }
        if let Some(owner) = &copy.owner {
            for name in [&owner.user, &owner.group].into_iter().flatten() {
                if let crate::graph::Owner::Name { input: Some(place), .. } = name {
                    parts.push((format!("step {at} names"), inputs[*place].identity()?));
                }
            }
        }
    }
    Ok(())
}

fn content_at(tree: &Tree, selector: &str, workshop: &Workshop) -> Result<String> {
    let path = files::clean(selector);
    if path.is_empty() {
        if let Tree::Folder(_) = tree {
            return tree.identity();
        }
        let open = tree.open(workshop)?;
        return content::of_tree(open.as_fd());
    }
    let open = tree.open(workshop)?;
    let copy = crate::graph::CopyAction { source: path, follow_symlink: true, ..Default::default() };
    files::digest(open.as_fd(), tree.index(), &copy)
}

/// What an operation does, as far as that changes its outcome.
fn operation(vertex: &Vertex) -> Vec<(String, String)> {
    let platform = vertex.platform.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut parts = vec![("platform".to_owned(), platform)];
    match &vertex.op {
        Op::Exec(exec) => {
            let mut plain = exec.as_ref().clone();
            // Proxies lead to the same things.
            plain.proxy = None;
            let (args, env) = (std::mem::take(&mut plain.args), std::mem::take(&mut plain.env));
            parts.push(("command".to_owned(), json!(args).to_string()));
            parts.extend(env.into_iter().map(|variable| {
                let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
                (format!("environment {name}"), value.to_owned())
            }));
            for mount in &mut plain.mounts {
                if let MountKind::Cache(_) = mount.kind {
                    mount.input = None;
                }
            }
            parts.push(("settings".to_owned(), json!(plain).to_string()));
        }
        op => parts.push(("operation".to_owned(), json!(op).to_string())),
    }
    parts
}

/// A name for a step that has none.
pub(super) fn described(op: &Op) -> String {
    match op {
        Op::Source(Source::Image(image)) => format!("docker-image://{}", image.reference),
        Op::Source(Source::Local(local)) => format!("local://{}", local.name),
        Op::Source(Source::Git(git)) => format!("git://{}", git.remote),
        Op::Source(Source::Http(http)) => http.url.clone(),
        Op::Source(Source::Layout(layout)) => format!("oci-layout://{}", layout.reference),
        Op::Source(Source::Input(name)) => format!("input:{name}"),
        Op::Exec(exec) => exec.args.join(" "),
        Op::File(file) => {
            let words: Vec<String> = file.steps.iter().map(|step| described_action(&step.action)).collect();
            words.join(", ")
        }
        Op::Merge => "merge".to_owned(),
        Op::Diff { .. } => "diff".to_owned(),
        Op::Build(_) => "build".to_owned(),
    }
}

fn described_action(action: &FileAction) -> String {
    match action {
        FileAction::Copy(copy) => format!("copy {} {}", copy.source, copy.target),
        FileAction::MakeFile(file) => format!("mkfile {}", file.path),
        FileAction::MakeDir(dir) => format!("mkdir {}", dir.path),
        FileAction::Symlink(link) => format!("symlink {} -> {}", link.path, link.target),
        FileAction::Remove(remove) => format!("rm {}", remove.path),
    }
}
