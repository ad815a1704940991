//! The Dockerfile language: text in, types out.
//!
//! [`Dockerfile::parse`] reads a whole file in two passes, as BuildKit does: the first cuts it into logical lines (comments,
//! continuations, here-documents), the second gives every line its meaning. Errors and warnings carry the lines they speak of,
//! and their texts are BuildKit's to the letter, because clients match on them.
//!
//! Nothing in here reads a file, resolves an image or knows a build: variables are expanded by whoever plans one, through
//! [`expand`].

pub mod check;
pub mod directive;
pub mod expand;
pub mod git;
pub mod ignore;
pub mod instruction;
pub mod source;

pub mod csv;
mod error;
mod file;
mod quote;
mod suggest;
mod syntax;

pub use error::{ParseError, ParseErrorCause};
pub use file::{Dockerfile, GlobalArg, Stage, Statement};
pub use instruction::Instruction;
pub use quote::quoted;
pub use source::Lines;
pub use suggest::{nearest, with_suggestion};
pub use syntax::SyntaxError;
