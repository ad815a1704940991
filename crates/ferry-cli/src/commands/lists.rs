//! What commands over many objects and filters share.

use ferry_api::filters::Filters;
use ferry_api::version::ApiVersion;
use ferry_client::Client;
use ferry_spec::platform::Platform;
use futures_util::StreamExt;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Reads `--filter` values.
pub(super) fn filters(parsed: &Parsed) -> Filters {
    let mut filters = Filters::default();
    for value in parsed.all("filter") {
        if let Some((name, text)) = value.split_once('=') {
            filters.add(name.trim().to_ascii_lowercase(), text.trim());
        }
    }
    filters
}

/// Objects that are worked on at a time.
const PARALLEL: usize = 50;

/// Tries an operation on every object, several at a time; prints the name of each that succeeded, in order, and fails
/// with all errors.
pub(super) async fn each<'a, F: Future<Output = Result<(), ferry_client::Error>>>(
    context: &Context,
    names: &'a [String],
    operation: impl Fn(&'a str) -> F,
) -> Result<u8> {
    let mut errors = Vec::new();
    let operation = &operation;
    let running = names.iter().map(|name| async move { (name, operation(name).await) });
    let mut results = futures_util::stream::iter(running).buffered(PARALLEL);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => context.printer.line(name)?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    finish(errors)
}

/// Exit code 1 with all errors, one per line.
pub(super) fn finish(errors: Vec<String>) -> Result<u8> {
    if errors.is_empty() { Ok(0) } else { Err(Failure::new(errors.join("\n"))) }
}

/// Asks a question on standard output and reads the answer; only `y` means yes.
pub(super) fn confirmed(context: &Context, question: &str) -> Result<bool> {
    context.printer.data(question)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// The platforms of a flag as the API wants them in queries: JSON documents.
pub(super) fn platforms(parsed: &Parsed) -> Result<Vec<String>> {
    parsed
        .all("platform")
        .iter()
        .flat_map(|list| list.split(','))
        .map(|text| {
            let platform = Platform::parse(text).map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
            serde_json::to_string(&platform).map_err(|error| Failure::new(error.to_string()))
        })
        .collect()
}

/// As [`platforms`], the last one or nothing.
pub(super) fn platform(parsed: &Parsed) -> Result<String> {
    Ok(platforms(parsed)?.pop().unwrap_or_default())
}

/// Refuses a flag that the daemon is too old for.
pub(super) async fn require(client: &Client, parsed: &Parsed, flag: &str, minor: u32) -> Result<()> {
    if !parsed.changed(flag) {
        return Ok(());
    }
    client.negotiate().await?;
    let needed = ApiVersion::new(1, minor);
    match client.version() {
        Some(version) if version < needed => Err(Failure::new(format!(
            "\"--{flag}\" requires API version {needed}, but the Docker daemon API version is {version}"
        ))),
        _ => Ok(()),
    }
}
