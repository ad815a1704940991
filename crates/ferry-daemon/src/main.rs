//! `ferryd`: the daemon.
//!
//! Owns configuration, listeners, the routes of the Engine API and the daemon's life from start to stop. Leaves out what the routes
//! mean: that is `ferry-engine`.

mod app;
mod config;
mod http;
mod lifecycle;
mod log;
mod routes;
mod server;
mod streams;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match config::read(std::env::args().skip(1)) {
        Ok(config::Request::Print(text)) => {
            // Whoever closed stdout does not want to read it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(config::Request::Validated) => {
            say("configuration OK");
            ExitCode::SUCCESS
        }
        Ok(config::Request::Serve(config)) => match lifecycle::run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("failed to start daemon: {}", chain(&*error)));
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            say(&chain(&error));
            say("See 'ferryd --help'.");
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever started the daemon; there may be nobody to hear it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Returns an error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
