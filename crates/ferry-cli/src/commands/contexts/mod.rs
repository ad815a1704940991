//! Commands on contexts, which are Docker's own files.

mod archive;
pub(super) mod create;
mod endpoint;
pub(super) mod export;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod list;
pub(super) mod make_current;
pub(super) mod remove;
pub(super) mod show;
pub(super) mod update;

use serde_json::json;

use crate::config::contexts::{self, Whole};
use crate::context::Context;
use crate::failure::{Failure, Result};

/// What the built-in context is described by.
const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";

/// A context by its name, the built-in one included.
fn find(context: &Context, name: &str) -> Result<Whole> {
    if name != "default" {
        check_name(name)?;
        return Whole::load(&context.config.folder, name).map_err(|error| Failure::new(error.to_string()));
    }
    let target = context.default_target()?;
    let mut tls = Vec::new();
    let mut skip_verify = false;
    if let Some(material) = target.tls {
        skip_verify = material.skip_verify;
        let (certificate, key) = material.pair.unzip();
        for (file, content) in [("ca.pem", material.authority), ("cert.pem", certificate), ("key.pem", key)] {
            tls.extend(content.map(|content| ("docker".to_owned(), file.to_owned(), content)));
        }
    }
    let endpoint = json!({ "Host": target.host, "SkipTLSVerify": skip_verify });
    let metadata = json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": endpoint } });
    Ok(Whole { metadata, tls })
}

/// A context whose parts another one is made from.
fn copied(context: &Context, name: &str) -> Result<Whole> {
    let mut whole = find(context, name)?;
    if name == "default" {
        whole.metadata["Metadata"]["Description"] = DEFAULT_DESCRIPTION.into();
    }
    Ok(whole)
}

fn check_name(name: &str) -> Result<()> {
    contexts::check_name(name).map_err(|error| Failure::new(error.to_string()))
}

/// Checks the name of a context that is to be made.
fn check_new_name(context: &Context, name: &str) -> Result<()> {
    check_name(name)?;
    if contexts::exists(&context.config.folder, name) {
        return Err(Failure::new(format!("context \"{name}\" already exists")));
    }
    Ok(())
}

/// Names a context and says what was done to it.
fn told(context: &Context, name: &str, done: &str) -> Result<u8> {
    context.printer.line(name)?;
    context.printer.note(&format!("Successfully {done} context \"{name}\""));
    Ok(0)
}
