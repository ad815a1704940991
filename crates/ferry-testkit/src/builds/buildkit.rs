//! Builds cases with BuildKit: `buildkitd` and `buildctl` out of a folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::answer::{Answer, Known, comparable_error, steps_run};
use super::cases::Case;
use super::place::Place;
use crate::{Outcome, command, wait};

/// A `buildkitd`.
#[derive(Debug)]
pub struct BuildKit {
    place: Place,
    known: Known,
    programs: PathBuf,
    daemon: Child,
}

impl BuildKit {
    /// Starts it out of a folder with `buildkitd` and `buildctl`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(programs: &Path) -> Result<Self> {
        let place = Place::start()?;
        let sandbox = &place.sandbox;
        let _ = sandbox.sh("ip address add 172.17.0.1/16 dev lo").ok();
        let config = sandbox.dir().join("buildkitd.toml");
        let text = format!(
            "root = '{}'\ninsecure-entitlements = ['network.host', 'security.insecure', 'device']\n\
             [grpc]\naddress = ['unix:///run/buildkit.sock']\n[worker.oci]\nenabled = true\ngc = false\n\
             [worker.containerd]\nenabled = false\n[registry.'docker.io']\nmirrors = ['127.0.0.1:5000']\n\
             [registry.'127.0.0.1:5000']\nhttp = true\n",
            sandbox.dir().join("buildkit").display()
        );
        std::fs::write(&config, text).context("write buildkitd's configuration")?;
        let log = std::fs::File::create(sandbox.dir().join("buildkitd.log")).context("make buildkitd's log")?;
        let mut daemon = sandbox.command(programs.join("buildkitd"));
        daemon.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = daemon.spawn().context("start buildkitd")?;
        let socket = sandbox.host_path("/run/buildkit.sock");
        let ready = wait::until("buildkitd to listen", Duration::from_secs(60), || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        let known = place.bases.known();
        let started = Self { place, known, programs: programs.to_owned(), daemon };
        ready.with_context(|| {
            std::fs::read_to_string(started.place.sandbox.dir().join("buildkitd.log")).unwrap_or_default()
        })?;
        Ok(started)
    }

    /// Builds a case.
    ///
    /// # Errors
    /// When it cannot be told what came of it.
    pub fn build(&self, case: &Case) -> Result<Answer> {
        let folder = self.place.folder(&case.name)?;
        case.lay_out(&folder)?;
        // Contexts are brought up to date in place; each is to be as if it were the first.
        let mut prune = self.place.sandbox.command(self.programs.join("buildctl"));
        prune.args(["--addr", "unix:///run/buildkit.sock", "prune", "--all", "--filter", "type==source.local"]);
        command::run(prune)?;
        let mut answer = Answer::default();
        let archive = folder.with_extension("oci");
        let mut done = self.run(case, &folder, &archive, &[])?;
        if done.code == 0 && case.is_built_twice() {
            case.change(&folder)?;
            done = self.run(case, &folder, &archive, &case.then_options)?;
            answer.again = Some(steps_run(&done.err()));
        }
        if done.code != 0 {
            let text = done.err();
            let (_, error) =
                text.rsplit_once("failed to solve: ").or(text.rsplit_once("error: ")).unwrap_or(("", &text));
            answer.error = comparable_error(error.trim_end());
            return Ok(answer);
        }
        done.out().clone_into(&mut answer.text);
        answer.warnings = warnings(&folder.with_extension("trace"))?;
        if archive.exists() && case.option("requestid").is_none() {
            answer.images = self.known.read(&std::fs::read(&archive).context("read the archive")?)?;
        }
        Ok(answer)
    }

    fn run(&self, case: &Case, folder: &Path, archive: &Path, more: &[(String, String)]) -> Result<Outcome> {
        let mut buildctl = self.place.sandbox.command(self.programs.join("buildctl"));
        buildctl.env("SSH_AUTH_SOCK", "/run/agent.sock");
        buildctl.args(["--addr", "unix:///run/buildkit.sock", "build", "--progress", "plain"]);
        buildctl.args(["--frontend", "dockerfile.v0", "--trace"]).arg(folder.with_extension("trace"));
        let mut option = |flag: &str, text: String| {
            buildctl.arg(flag).arg(text);
        };
        let own = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for name in ["context", "dockerfile", "other"] {
            option("--local", format!("{name}={}", folder.display()));
        }
        // So the frontend that the Dockerfile names is the one that is built in.
        option("--opt", "cmdline=docker/dockerfile:1".to_owned());
        for (key, value) in case.options.iter().filter(|(key, _)| !more.iter().any(|(name, _)| name == key)).chain(more)
        {
            let mut value = value.clone();
            if key.starts_with("context:")
                && let Some(name) = value.clone().strip_prefix("local:")
            {
                let local = format!("named-{}-{own}", name.replace('/', "-"));
                option("--local", format!("{local}={}", folder.join(name).display()));
                value = format!("local:{local}");
            }
            option("--opt", format!("{key}={value}"));
        }
        for (id, text) in &case.secrets {
            let file = folder.with_extension(format!("secret-{id}"));
            std::fs::write(&file, text).context("write a secret")?;
            option("--secret", format!("id={id},src={}", file.display()));
        }
        for name in &case.allowed {
            option("--allow", name.clone());
        }
        if case.has_agent {
            option("--ssh", "default".to_owned());
            option("--ssh", "other=/run/agent.sock".to_owned());
        }
        option("--output", format!("type=oci,dest={}", archive.display()));
        command::run(buildctl)
    }
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        command::kill_tree(self.daemon.id());
        drop(self.daemon.wait());
    }
}

/// Reads the warnings out of what was traced.
fn warnings(trace: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    for document in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let document = document.context("read buildctl's trace")?;
        for warning in document["Warnings"].as_array().or(document["warnings"].as_array()).into_iter().flatten() {
            let short = warning["Short"].as_str().or(warning["short"].as_str()).unwrap_or_default();
            found.push(decoded(short)?);
        }
    }
    found.sort();
    Ok(found)
}

/// Decodes base64 by the program that every machine has: the harness needs it nowhere else.
fn decoded(text: &str) -> Result<String> {
    let mut base64 = Command::new("base64");
    base64.arg("-d");
    Ok(command::run_with_input(base64, text.as_bytes())?.out())
}
