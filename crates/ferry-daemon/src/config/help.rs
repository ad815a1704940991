//! `--help` and `--version`.

use std::fmt::Write as _;

use super::options::{Kind, OPTIONS, Status};

/// Returns the text of `--version`.
pub(crate) fn version() -> String {
    format!("Ferry version {}, build {}\n", env!("CARGO_PKG_VERSION"), crate::app::build())
}

/// Returns the text of `--help`.
pub(crate) fn text() -> String {
    let lines: Vec<(String, String)> = OPTIONS
        .iter()
        .filter(|spec| !spec.flag.is_empty() && !matches!(spec.status, Status::Inert(_)))
        .map(|spec| {
            let letter = spec.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
            let value = if spec.kind == Kind::Bool { String::new() } else { format!(" {}", spec.value_name) };
            let note = if matches!(spec.status, Status::Unbuilt(_)) { " (not implemented)" } else { "" };
            (format!("{letter}--{}{value}", spec.flag), format!("{}{note}", spec.help))
        })
        .collect();
    let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    let mut text =
        String::from("\nUsage:  ferryd [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n");
    for (left, right) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {left:<width$}   {right}");
    }
    text
}
