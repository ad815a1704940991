//! Commands on contexts, which are Docker's own files.

pub(super) mod inspect;
pub(super) mod list;
pub(super) mod make_current;
pub(super) mod show;
