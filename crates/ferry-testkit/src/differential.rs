//! The differential harness: one table of command lines, answered by a real Docker once and
//! recorded, answered by ferry in every run and compared.
//!
//! Owns the table's format ([`table`]), the closed list of normalisers ([`normalise`]), running a
//! table against any engine ([`run`]) or several at once ([`pool`]), recordings on disk ([`record`]),
//! the comparison ([`compare`]), and what the lines of a table use ([`words`]).
//!
//! Invariants: what a recording says was said by a real engine, never edited by hand; nothing is
//! forgiven but by a normaliser of the list or by a `known` or `missing` line in the table that tells
//! why, and a marked case that has come to agree is itself a failure.

pub mod compare;
pub mod normalise;
pub mod pool;
pub mod record;
pub mod request;
pub mod run;
pub mod table;
pub mod words;
