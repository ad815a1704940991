//! Operations that bring trees from elsewhere.

use ferry_spec::digest::Digest;
use serde::Serialize;

/// Where a tree comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Source {
    /// An image of a registry or of the store (`docker-image://`).
    Image(ImageSource),
    /// Files of the client (`local://`).
    Local(LocalSource),
    /// A git repository (`git://`).
    Git(GitSource),
    /// One file over HTTP (`http://`, `https://`).
    Http(HttpSource),
    /// An image in an OCI layout that the client has (`oci-layout://`).
    Layout(LayoutSource),
    /// What was built before, by the name that it is lent under.
    Input(String),
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSource {
    /// The whole reference: domain, path, tag or digest.
    pub reference: String,
    /// When the registry is asked.
    pub pull: ImagePullMode,
}

/// When the registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum ImagePullMode {
    /// When the store has no such image.
    #[default]
    Prefer,
    /// Always (`--pull`).
    Always,
    /// Never.
    Never,
}

/// Files of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalSource {
    /// Which of the client's directories: `context`, `dockerfile`, or the name of a named context.
    pub name: String,
    /// Only these (patterns of an ignore file); empty takes all.
    pub include_patterns: Vec<String>,
    /// Not these (patterns of an ignore file, with `!`).
    pub exclude_patterns: Vec<String>,
    /// Symlinks at these paths are followed, and what they lead to comes along.
    pub follow_paths: Vec<String>,
    /// What the client's files are compared by to those of an earlier transfer.
    pub differ: LocalDiffer,
    /// What tells this transfer from others in the cache; empty is the content alone.
    pub shared_key_hint: String,
}

/// What tells a changed file from an unchanged one in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum LocalDiffer {
    /// Nothing, everything travels.
    None,
    /// Size, mode, owner and time of change.
    #[default]
    Metadata,
}

/// A git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitSource {
    /// The address.
    pub remote: String,
    /// Branch, tag or commit; empty is the remote's default branch.
    pub reference: String,
    /// Only this directory of it.
    pub subdirectory: String,
    /// The `.git` directory stays.
    pub keep_git_dir: bool,
    /// The commit that must come out.
    pub checksum: Option<String>,
    /// Submodules do not come along.
    pub skip_submodules: bool,
    /// The id of the secret with the token of an `Authorization` header.
    pub auth_token_secret: String,
    /// The id of the secret with an `Authorization` header.
    pub auth_header_secret: String,
    /// The id of the SSH agent that is used.
    pub ssh_agent: Option<String>,
    /// Lines of `known_hosts`.
    pub known_ssh_hosts: String,
}

/// One file over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HttpSource {
    /// The address.
    pub url: String,
    /// What it must be.
    pub checksum: Option<Digest>,
    /// What the file is called; `None` takes the name from the reply or the address.
    pub filename: Option<String>,
    /// Its permission bits; `None` is 0600.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Header fields to send.
    pub header: Vec<(String, String)>,
    /// The id of the secret with an `Authorization` header; empty for none.
    pub auth_header_secret: String,
}

/// An image in an OCI layout that the client has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayoutSource {
    /// A reference with a digest.
    pub reference: String,
    /// The name of the client's store.
    pub store: String,
    /// The session that has it; empty is the build's own.
    pub session: String,
}
