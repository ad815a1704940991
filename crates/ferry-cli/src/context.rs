//! What every command gets: the way to the daemon, the configuration, the printer.

use std::cell::OnceCell;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ferry_client::{Client, Endpoint, Tls, TlsMaterial};

use crate::config::{Config, contexts};
use crate::failure::{Failure, Result};
use crate::output::Printer;
use crate::{autostart, flags};

/// The socket of a daemon that nobody named.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/ferry.sock";

/// The address of a daemon with TLS that nobody named.
const DEFAULT_TLS_HOST: &str = "tcp://localhost:2376";

/// The options before the command.
#[derive(Debug, Default)]
pub(crate) struct GlobalOptions {
    /// `-H`
    pub(crate) hosts: Vec<String>,
    /// `--context`
    pub(crate) context: Option<String>,
    /// `--tls…`, and what the environment says of it.
    pub(crate) tls: TlsOptions,
    /// `--debug`
    pub(crate) debug: bool,
}

/// TLS as it is asked for beside a host.
#[derive(Debug, Default)]
pub(crate) struct TlsOptions {
    is_on: bool,
    verifies: bool,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsOptions {
    pub(crate) fn read(global: &flags::Parsed) -> Self {
        let verifies = global.on_or("tlsverify", variable("DOCKER_TLS_VERIFY").is_some());
        // Whoever says a word about verifying wants TLS, even `--tlsverify=false`.
        let is_on = verifies || global.changed("tlsverify") || global.on_or("tls", variable("DOCKER_TLS").is_some());
        let path = |name: &str| global.text(name).map(PathBuf::from);
        Self { is_on, verifies, authority: path("tlscacert"), certificate: path("tlscert"), key: path("tlskey") }
    }

    /// Reads the files: those that were named must be there, of the usual ones only the authority's.
    fn material(&self, folder: &Path) -> io::Result<Option<TlsMaterial>> {
        if !self.is_on {
            return Ok(None);
        }
        let folder = variable("DOCKER_CERT_PATH").map_or_else(|| folder.to_owned(), PathBuf::from);
        let authority = self.authority.clone().unwrap_or_else(|| folder.join("ca.pem"));
        let authority = match read(&authority) {
            Err(_) if !self.verifies && self.authority.is_none() => None,
            read => Some(read?),
        };
        let optional = |named: &Option<PathBuf>, usual: &str| match named {
            Some(path) => read(path).map(Some),
            None => Ok(read(&folder.join(usual)).ok()),
        };
        let pair = optional(&self.certificate, "cert.pem")?.zip(optional(&self.key, "key.pem")?);
        Ok(Some(TlsMaterial { authority, pair, skip_verify: !self.verifies }))
    }
}

/// Reads a file; the error names it as Go does.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("open {}: {reason}", path.display()))
    })
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
    /// TLS to it.
    pub(crate) tls: Option<TlsMaterial>,
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
        let fixed = |host: &str| {
            let tls = self.tls_material()?;
            Ok(Target { host: host.to_owned(), context: "default".to_owned(), is_default: false, tls })
        };
        match self.global.hosts.as_slice() {
            [] => {}
            [host] => return fixed(host),
            _ => return Err(unresolved("Specify only one -H")),
        }
        if let Some(name) = &self.global.context {
            return self.context_target(name);
        }
        if let Some(host) = variable("DOCKER_HOST") {
            return fixed(&host);
        }
        if let Some(name) = variable("DOCKER_CONTEXT") {
            return self.context_target(&name);
        }
        match self.config.file.current_context.as_str() {
            "" => self.context_target("default"),
            name => self.context_target(name),
        }
    }

    /// The name of the context in force; what it holds is not looked at.
    pub(crate) fn current_name(&self) -> String {
        if !self.global.hosts.is_empty() {
            return "default".to_owned();
        }
        let named = self.global.context.clone().filter(|name| !name.is_empty());
        let from_environment = || match variable("DOCKER_HOST") {
            Some(_) => Some("default".to_owned()),
            None => variable("DOCKER_CONTEXT"),
        };
        let from_file = || Some(self.config.file.current_context.clone()).filter(|name| !name.is_empty());
        named.or_else(from_environment).or_else(from_file).unwrap_or_else(|| "default".to_owned())
    }

    /// The daemon of the built-in context.
    pub(crate) fn default_target(&self) -> Result<Target> {
        self.context_target("default")
    }

    fn context_target(&self, name: &str) -> Result<Target> {
        if name == "default" || name.is_empty() {
            let host = variable("DOCKER_HOST");
            let tls = self.tls_material()?;
            let is_default = host.is_none() && tls.is_none();
            let usual = if tls.is_some() { DEFAULT_TLS_HOST } else { DEFAULT_HOST };
            let host = host.unwrap_or_else(|| usual.to_owned());
            return Ok(Target { host, context: "default".to_owned(), is_default, tls });
        }
        let stored = contexts::load(&self.config.folder, name).map_err(|error| unresolved(&error.to_string()))?;
        let tls = stored.tls_material().map_err(|error| unresolved(&error.to_string()))?;
        Ok(Target { host: stored.host(), context: name.to_owned(), is_default: false, tls })
    }

    fn tls_material(&self) -> Result<Option<TlsMaterial>> {
        self.global.tls.material(&self.config.folder).map_err(|error| unresolved(&error.to_string()))
    }

    /// The client of the daemon; nothing is connected yet.
    pub(crate) fn unconnected(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = self.target()?;
        let tls = target.tls.as_ref().map(Tls::new).transpose().map_err(|error| unresolved(&error.to_string()))?;
        let port = if tls.is_some() { 2376 } else { 2375 };
        let endpoint = Endpoint::parse_with_port(&target.host, port).map_err(|error| match error {
            ferry_client::EndpointError::Unparsable(host) if host.contains("://") => {
                unresolved(&format!("invalid bind address format: {host}"))
            }
            other => unresolved(&other.to_string()),
        })?;
        let agent = format!("Docker-Client/{} (linux)", crate::commands::version::CLIENT_VERSION);
        let client = Client::new(endpoint, target.host, agent).with_tls(tls);
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
