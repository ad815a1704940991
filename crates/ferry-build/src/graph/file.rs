//! The operation that changes files.

use serde::Serialize;

/// Changes files, one step after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FileOp {
    /// The steps.
    pub steps: Vec<FileStep>,
}

/// One step: a tree, changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStep {
    /// The tree that is changed; `None` is an empty one.
    pub input: Option<ActionInput>,
    /// The tree that is copied from; `None` is an empty one.
    pub source: Option<ActionInput>,
    /// The result is this output of the vertex; `None` is for later steps alone.
    pub output: Option<usize>,
    /// The change.
    pub action: FileAction,
}

/// A tree that a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ActionInput {
    /// A place in the inputs of the vertex.
    Input(usize),
    /// The result of an earlier step, counted from zero.
    Step(usize),
}

/// A change of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum FileAction {
    /// Copies from the source tree.
    Copy(Box<CopyAction>),
    /// Writes a file.
    MakeFile(MakeFile),
    /// Makes a directory.
    MakeDir(MakeDir),
    /// Makes a symlink.
    Symlink(Symlink),
    /// Removes.
    Remove(Remove),
}

/// Copies from the source tree; BuildKit's `FileActionCopy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CopyAction {
    /// What is copied, in the source tree.
    pub source: String,
    /// Where to, in the changed tree; a trailing `/` says that it is a directory.
    pub target: String,
    /// New owner.
    pub owner: Option<ChangeOwner>,
    /// New permission bits, by number.
    pub mode: Option<u32>,
    /// New permission bits, in chmod's words (`u=rwX,go=rX`); goes before [`Self::mode`].
    pub mode_words: String,
    /// A symlink at the source is followed.
    pub follow_symlink: bool,
    /// Of a directory its content is copied, not itself.
    pub copy_dir_contents: bool,
    /// Local archives are unpacked (`ADD`).
    pub archives: ArchiveHandling,
    /// Missing directories on the way to the target are made.
    pub create_target_path: bool,
    /// The source is a pattern (`*`, `?`, `[…]`).
    pub allow_wildcard: bool,
    /// No match is no error.
    pub allow_empty_wildcard: bool,
    /// Time of change for what is made, in nanoseconds since 1970; `None` keeps that of the files.
    pub timestamp: Option<i64>,
    /// Only what matches these, below the source.
    pub include_patterns: Vec<String>,
    /// Not what matches these, below the source.
    pub exclude_patterns: Vec<String>,
    /// What is in the way and of another kind is replaced (`COPY --link` onto scratch and `alwaysReplaceExistingDestPaths`).
    pub replace_existing: bool,
    /// The path of the source, after a `/./` if there is one, is kept below the target (`COPY --parents`).
    pub parents: bool,
    /// Files that are named must be there, although they are given as [`Self::include_patterns`].
    pub required_paths: Vec<String>,
}

/// What happens to an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum ArchiveHandling {
    /// It is copied.
    #[default]
    Keep,
    /// It is unpacked when it is one.
    TryUnpack,
}

/// A new owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ChangeOwner {
    /// The user; `None` is root.
    pub user: Option<Owner>,
    /// The group; `None` is the user's own by name, the same number by number.
    pub group: Option<Owner>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Owner {
    /// By number.
    Id(u32),
    /// By name, from the `/etc/passwd` or `/etc/group` of a tree.
    Name {
        /// The name.
        name: String,
        /// The tree, a place in the inputs; `None` is the tree that is changed.
        input: Option<usize>,
    },
}

/// Writes a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MakeFile {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Vec<u8>,
    /// Its owner; `None` is root.
    pub owner: Option<ChangeOwner>,
    /// Time of change in nanoseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MakeDir {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Directories on the way are made, and one that is there is no error.
    pub make_parents: bool,
    /// Its owner; `None` is root.
    pub owner: Option<ChangeOwner>,
    /// Time of change in nanoseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Makes a symlink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Symlink {
    /// What it points to.
    pub target: String,
    /// Where it is.
    pub path: String,
    /// Its owner; `None` is root.
    pub owner: Option<ChangeOwner>,
    /// Time of change in nanoseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Removes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Remove {
    /// What.
    pub path: String,
    /// It need not be there.
    pub allow_not_found: bool,
    /// The path is a pattern.
    pub allow_wildcard: bool,
}

impl FileOp {
    /// How many outputs it has.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.steps.iter().filter_map(|step| step.output).map(|output| output + 1).max().unwrap_or(0)
    }

    /// The places in the inputs of the vertex that it names.
    pub(crate) fn named_inputs(&self) -> Vec<usize> {
        let mut named = Vec::new();
        for step in &self.steps {
            for input in [step.input, step.source].into_iter().flatten() {
                if let ActionInput::Input(index) = input {
                    named.push(index);
                }
            }
            if let Some(owner) = step.action.owner() {
                for name in [&owner.user, &owner.group].into_iter().flatten() {
                    if let Owner::Name { input: Some(index), .. } = name {
                        named.push(*index);
                    }
                }
            }
        }
        named
    }
}

impl FileAction {
    /// The owner it gives.
    #[must_use]
    pub fn owner(&self) -> Option<&ChangeOwner> {
        match self {
            Self::Copy(copy) => copy.owner.as_ref(),
            Self::MakeFile(file) => file.owner.as_ref(),
            Self::MakeDir(dir) => dir.owner.as_ref(),
            Self::Symlink(link) => link.owner.as_ref(),
            Self::Remove(_) => None,
        }
    }
}
