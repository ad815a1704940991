//! From what `inspect` tells of a container to what would make it again: a command line, or a compose file. Pure.
//!
//! Only what differs from the image and from the defaults is said. What no command line can say is told apart.

mod command;
mod compose;
mod origin;
mod yaml;

pub(crate) use self::command::command_line;
pub(crate) use self::compose::compose_file;
pub(crate) use self::origin::Origin;

/// What was written, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Ready to be printed.
    pub(crate) text: String,
    /// Settings that have no words there.
    pub(crate) left_out: Vec<String>,
}
