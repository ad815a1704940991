//! `push`

use ferry_api::stream::JsonMessage;
use ferry_client::ByteStream;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde_json::Value;

use crate::commands::lists;
use crate::config::credentials::registry_auth;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

const PLATFORM_NOTE: &str = "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n\
    Other components, like attestations, will not be included.\n\
    To push the complete multi-platform image, remove the --platform flag.\n";
const MISSING_NOTE: &str = "You're trying to push a manifest list/index which \n\
    \t\t\t\treferences multiple platform specific manifests, but not all of them are available locally\n\
    \t\t\t\tor available to the remote repository.\n\n\
    \t\t\t\tMake sure you have all the referenced content and try again.\n\n\
    \t\t\t\tYou can also push only a single platform specific manifest directly by specifying the platform you want to push with the --platform flag.";

/// Runs `push`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let platform = match parsed.text_or_empty("platform") {
        "" => String::new(),
        text => {
            let platform = Platform::parse(text).map_err(|error| {
                context.printer.error_bytes(format!("Invalid platform {text}").as_bytes());
                Failure::new(error.to_string())
            })?;
            context.printer.data(note(PLATFORM_NOTE))?;
            serde_json::to_string(&platform).map_err(|error| Failure::new(error.to_string()))?
        }
    };
    if !parsed.on_or("disable-content-trust", true) {
        return Err(Failure::not_implemented("content trust (`--disable-content-trust=false`)"));
    }
    let (all, quiet) = (parsed.on("all-tags"), parsed.on("quiet"));
    let given = Reference::parse(&parsed.args[0]).map_err(|error| Failure::new(error.to_string()))?;
    let is_name_only = given.tag().is_none() && given.digest().is_none();
    if all && !is_name_only {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && is_name_only && !quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let reference = if all { given } else { given.with_default_tag() };
    let (auth, warning) = registry_auth(&context.config, reference.domain());
    if let Some(warning) = warning {
        return Err(Failure::new(warning));
    }
    let access = super::registry_access(parsed)?;
    let client = context.client().await?;
    lists::require(client, parsed, "platform", 46).await?;
    let tag = reference.tag().unwrap_or_default();
    let stream = client.image_push(&reference.familiar_name(), tag, &platform, &auth, &access).await?;
    let notes = show(stream, quiet).await?;
    for text in notes {
        context.printer.data(note(&text))?;
    }
    if quiet {
        context.printer.line(&reference.to_string())?;
    }
    Ok(0)
}

/// Shows the progress; what is said for programs becomes notes.
async fn show(stream: ByteStream, quiet: bool) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut take = |message: &JsonMessage| notes.extend(message.aux.as_ref().and_then(note_of));
    if quiet {
        super::show_nothing_with(stream, &mut take).await?
    } else {
        super::show_with(stream, &mut take).await?
    }
    Ok(notes)
}

fn note_of(aux: &Value) -> Option<String> {
    let is = |key: &str| aux.get(key).and_then(Value::as_bool).unwrap_or(false);
    let digest = |key: &str| aux.get(key).and_then(|one| one.get("digest")).and_then(Value::as_str).unwrap_or_default();
    if is("manifestPushedInsteadOfIndex") {
        return Some(format!(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
            digest("originalIndex"),
            digest("selectedManifest")
        ));
    }
    is("contentMissing").then(|| MISSING_NOTE.to_owned())
}

/// Lays a note out as Docker's client does.
fn note(text: &str) -> String {
    format!("\n Info -> {}\n", text.replace('\n', "\n         "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_laid_out_below_their_head() {
        assert_eq!(note("a\nb"), "\n Info -> a\n         b\n");
        let aux = serde_json::json!({
            "manifestPushedInsteadOfIndex": true, "originalIndex": {"digest": "a"}, "selectedManifest": {"digest": "b"},
        });
        assert!(note_of(&aux).unwrap().ends_with("\na -> b"));
        assert!(note_of(&serde_json::json!({"other": true})).is_none());
    }
}
