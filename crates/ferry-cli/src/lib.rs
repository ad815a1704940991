//! `ferry`, the command line client.
//!
//! Owns the command grammar, what a user reads and the exit codes; speaks to the daemon through `ferry-client` alone.
//! Flags are read by an own parser (`flags`) over static tables (`grammar`) rather than by a general library: texts,
//! exit codes and help layout are Docker's to the letter, and a start costs nothing for commands that are not used.
//! One file per command in `commands`; a command turns flags into a request by a pure function and prints through the
//! printer in its context.

pub mod app;
mod autostart;
mod commands;
mod config;
mod context;
mod failure;
mod flags;
mod format;
mod grammar;
mod help;
mod options;
mod output;
mod output_file;
mod progress;
mod recreate;
mod streams;

pub use app::main;
