//! `plugin install`

use ferry_api::plugin::Privilege;
use ferry_client::{ByteStream, Client};
use ferry_spec::reference::Reference;

use crate::commands::{image, lists};
use crate::config::credentials::registry_auth;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};

/// Runs `plugin install`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let remote = &parsed.args[0];
    let local = match parsed.text_or_empty("alias") {
        "" => String::new(),
        alias => {
            let reference = parse(alias)?;
            if reference.digest().is_some() {
                return Err(Failure::new(format!("invalid name: {alias}")));
            }
            reference.with_default_tag().familiar()
        }
    };
    let wanted = Wanted::new(remote, context)?;
    let client = context.client().await?;
    let privileges = wanted.granted(client, parsed.on("grant-all-permissions"), context).await?;
    let stream = client.plugin_pull(&wanted.reference, &local, &privileges, &wanted.auth).await?;
    // The name as the daemon has it, whatever was asked for.
    let name = stream.header("docker-plugin-name").unwrap_or_else(|| remote.clone());
    finish(client, stream, &name, parsed).await?;
    context.printer.line(&format!("Installed plugin {remote}"))?;
    Ok(0)
}

async fn finish(client: &Client, stream: ByteStream, name: &str, parsed: &Parsed) -> Result<()> {
    image::show(stream).await?;
    if parsed.args.len() > 1 {
        client.plugin_set(name, &parsed.args[1..]).await?;
    }
    if !parsed.on("disable") {
        client.plugin_enable(name, 0).await?;
    }
    Ok(())
}

pub(super) fn parse(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|error| Failure::new(error.to_string()))
}

/// A plugin in a registry.
pub(super) struct Wanted<'a> {
    /// As typed.
    remote: &'a str,
    /// The whole name.
    pub(super) reference: String,
    /// Who the user is towards its registry.
    pub(super) auth: String,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(remote: &'a str, context: &Context) -> Result<Self> {
        let reference = parse(remote)?;
        let (auth, warning) = registry_auth(&context.config, reference.domain());
        match warning {
            Some(warning) => Err(Failure::new(warning)),
            None => Ok(Self { remote, reference: reference.to_string(), auth }),
        }
    }

    /// What the plugin wants, granted.
    pub(super) async fn granted(&self, client: &Client, all: bool, context: &Context) -> Result<Vec<Privilege>> {
        let privileges = client.plugin_privileges(&self.reference, &self.auth).await?;
        if !all && !privileges.is_empty() {
            context.printer.data(question(self.remote, &privileges))?;
            if !lists::confirmed(context, "")? {
                return Err(Failure::new(format!("permission denied while installing plugin {}", self.reference)));
            }
        }
        Ok(privileges)
    }
}

fn question(name: &str, privileges: &[Privilege]) -> String {
    let mut text = format!("Plugin {} is requesting the following privileges:\n", go_quote(name));
    for privilege in privileges {
        let values = privilege.value.clone().unwrap_or_default();
        text.push_str(&format!(" - {}: [{}]\n", privilege.name, values.join(" ")));
    }
    text + "Do you grant the above permissions? [y/N] "
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_listed() {
        let privileges = [Privilege {
            name: "mount".to_owned(),
            value: Some(vec!["/a".to_owned(), "/b".to_owned()]),
            ..Privilege::default()
        }];
        let text = "Plugin \"x/y\" is requesting the following privileges:\n - mount: [/a /b]\nDo you grant the above permissions? [y/N] ";
        assert_eq!(question("x/y", &privileges), text);
    }
}
