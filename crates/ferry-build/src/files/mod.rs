//! Changing files of trees, by descriptors alone: copies, new files and directories, removals, archives.
//!
//! Trees are hostile. Every path is first made plain (links followed inside of the tree's root), and then opened without following
//! anything; nothing leads out, whatever a tree contains.

mod archive;
mod change;
mod copy;
mod mode;
mod owner;
mod place;
mod wildcard;

pub(crate) use archive::unpack_context;
pub(crate) use change::{make_dir, make_file, make_symlink, remove};
pub(crate) use copy::{CopyOrder, TakesFile, copy, digest, fill, lies_in};
pub(crate) use owner::{Ids, find_ids};
pub(crate) use place::{clean, open_folder, plain, read_file};
