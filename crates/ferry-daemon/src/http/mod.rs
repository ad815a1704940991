//! HTTP as Docker's daemon speaks it: bodies, queries, the routing table, errors.
//!
//! Leaves out: sockets (`server`) and what a path means (`routes`).

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod encoding;
pub(crate) mod error;
pub(crate) mod framing;
pub(crate) mod go_json;
pub(crate) mod guard;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod router;
