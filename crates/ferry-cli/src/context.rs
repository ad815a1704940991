//! What every command gets: the way to the daemon, the configuration, the printer.

use std::cell::OnceCell;

use ferry_client::{Client, Endpoint};

use crate::config::{Config, contexts};
use crate::failure::{Failure, Result};
use crate::output::Printer;
use crate::{autostart, flags};

/// The socket of a daemon that nobody named.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/ferry.sock";

/// The options before the command.
#[derive(Debug, Default)]
pub(crate) struct GlobalOptions {
    /// `-H`
    pub(crate) hosts: Vec<String>,
    /// `--context`
    pub(crate) context: Option<String>,
    /// `--tls` or `--tlsverify`
    pub(crate) tls: bool,
    /// `--debug`
    pub(crate) debug: bool,
}

/// How the daemon was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Such as `unix:///run/ferry.sock`.
    pub(crate) host: String,
    /// The context in force.
    pub(crate) context: String,
    /// Nobody named a daemon, so one may be started.
    pub(crate) is_default: bool,
}

/// A command's surroundings.
pub(crate) struct Context {
    /// The program's name in texts.
    pub(crate) program: &'static str,
    /// Options before the command.
    pub(crate) global: GlobalOptions,
    /// The user's configuration.
    pub(crate) config: Config,
    /// Where text goes.
    pub(crate) printer: Printer,
    client: OnceCell<Client>,
}

impl Context {
    pub(crate) fn new(program: &'static str, global: GlobalOptions, config: Config) -> Self {
        Self { program, global, config, printer: Printer::default(), client: OnceCell::new() }
    }

    /// Finds out which daemon is meant.
    pub(crate) fn target(&self) -> Result<Target> {
        if !self.global.hosts.is_empty() && self.global.context.is_some() {
            return Err(Failure::new("conflicting options: cannot specify both --host and --context"));
        }
        let fixed = |host: &str| Target { host: host.to_owned(), context: "default".to_owned(), is_default: false };
        match self.global.hosts.as_slice() {
            [] => {}
            [host] => return Ok(fixed(host)),
            _ => return Err(unresolved("Specify only one -H")),
        }
        if let Some(name) = &self.global.context {
            return self.context_target(name);
        }
        if let Some(host) = variable("DOCKER_HOST") {
            return Ok(fixed(&host));
        }
        if let Some(name) = variable("DOCKER_CONTEXT") {
            return self.context_target(&name);
        }
        match self.config.file.current_context.as_str() {
            "" => self.context_target("default"),
            name => self.context_target(name),
        }
    }

    fn context_target(&self, name: &str) -> Result<Target> {
        if name == "default" || name.is_empty() {
            let host = variable("DOCKER_HOST");
            let is_default = host.is_none();
            let host = host.unwrap_or_else(|| DEFAULT_HOST.to_owned());
            return Ok(Target { host, context: "default".to_owned(), is_default });
        }
        let stored = contexts::load(&self.config.folder, name).map_err(|error| unresolved(&error.to_string()))?;
        Ok(Target { host: stored.host(), context: name.to_owned(), is_default: false })
    }

    /// The client of the daemon; nothing is connected yet.
    pub(crate) fn unconnected(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = self.target()?;
        if self.global.tls || variable("DOCKER_TLS_VERIFY").is_some() || variable("DOCKER_TLS").is_some() {
            return Err(Failure::not_implemented("TLS to the daemon"));
        }
        let endpoint = Endpoint::parse(&target.host).map_err(|error| match error {
            ferry_client::EndpointError::Unparsable(host) if host.contains("://") => {
                unresolved(&format!("invalid bind address format: {host}"))
            }
            other => unresolved(&other.to_string()),
        })?;
        let agent = format!("Docker-Client/{} (linux)", crate::commands::version::CLIENT_VERSION);
        let client = Client::new(endpoint, target.host, agent);
        if let Some(version) = variable("DOCKER_API_VERSION") {
            let text = version.trim_start_matches('v');
            let parsed = text.parse().map_err(|_| Failure::new(format!("invalid API version ({version})")))?;
            client.pin_version(parsed);
        }
        Ok(self.client.get_or_init(|| client))
    }

    /// The client of a daemon that answers; starts one where that is allowed.
    ///
    /// A daemon that cannot be reached is no error here: the command's own request tells it in Docker's words.
    pub(crate) async fn client(&self) -> Result<&Client> {
        let connected = self.client.get().is_some();
        let client = self.unconnected()?;
        if connected {
            return Ok(client);
        }
        let target = self.target()?;
        if target.is_default
            && let Err(error) = client.connect().await
        {
            autostart::start_or_explain(client, &error, &self.printer).await?;
        }
        Ok(client)
    }

    /// The keys that detach: the flag, else the configuration; empty for the daemon's.
    pub(crate) fn detach_keys(&self, parsed: &flags::Parsed) -> String {
        match parsed.text_or_empty("detach-keys") {
            "" => self.config.file.detach_keys.clone(),
            keys => keys.to_owned(),
        }
    }
}

fn unresolved(reason: &str) -> Failure {
    Failure::new(format!("Failed to initialize: unable to resolve docker endpoint: {reason}"))
}

/// An environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
