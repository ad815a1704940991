//! Builds cases with `ferry build`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::answer::{Answer, Known, steps_run};
use super::cases::Case;
use super::place::Place;
use crate::{Daemon, Outcome, api, command, programs};

/// A `ferryd` with the base images.
#[derive(Debug)]
pub struct Ferry {
    /// The daemon.
    pub daemon: Daemon,
    /// Where it runs.
    pub place: Place,
    known: Known,
}

impl Ferry {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        let place = Place::start()?;
        let daemon = Daemon::ferry(&place.sandbox, "a");
        daemon.start()?;
        for archive in place.bases.archives() {
            let loaded = api::send(&daemon.socket(), "POST", "/images/load?quiet=1", "application/x-tar", &archive)?;
            ensure!(loaded.status == 200, "{}", loaded.text());
        }
        let known = place.bases.known();
        Ok(Self { daemon, place, known })
    }

    /// Builds a case; none when `ferry build` has no flag for an option of it.
    ///
    /// # Errors
    /// When it cannot be told what came of it.
    pub fn build(&self, case: &Case) -> Result<Option<Answer>> {
        let folder = self.place.folder(&case.name)?;
        let Some(flags) = flags(case, &folder, &case.options)? else { return Ok(None) };
        case.lay_out(&folder)?;
        let name = format!("case-{}", &crate::image::digest(case.name.as_bytes())[7..23]);
        let mut answer = Answer::default();
        let mut done = self.run(case, &folder, &name, &flags)?;
        if done.code == 0 && case.is_built_twice() {
            case.change(&folder)?;
            let kept = case.options.iter().filter(|(key, _)| !case.then_options.iter().any(|(name, _)| name == key));
            let options: Vec<_> = kept.chain(&case.then_options).cloned().collect();
            let flags =
                self::flags(case, &folder, &options)?.context("the second build has a flag for every option")?;
            done = self.run(case, &folder, &name, &flags)?;
            answer.again = Some(steps_run(&done.err()));
        }
        let is_asked = case.option("requestid").is_some();
        if done.code != 0 && (!is_asked || done.out().is_empty()) {
            let text = done.err();
            let (_, error) =
                text.rsplit_once("failed to solve: ").or(text.rsplit_once("ERROR: ")).unwrap_or(("", &text));
            error.trim_end().clone_into(&mut answer.error);
            return Ok(Some(answer));
        }
        answer.text = done.out();
        if is_asked {
            return Ok(Some(answer));
        }
        answer.warnings = warnings(&done.err());
        answer.images = self.image(&name)?;
        Ok(Some(answer))
    }

    /// Reads an image of the daemon's.
    ///
    /// # Errors
    /// When it is not there.
    pub fn image(&self, name: &str) -> Result<std::collections::BTreeMap<String, super::answer::Image>> {
        let saved = api::send(&self.daemon.socket(), "GET", &format!("/images/{name}/get"), "", b"")?;
        ensure!(saved.status == 200, "{}", saved.text());
        self.known.read(&saved.body)
    }

    fn run(&self, case: &Case, folder: &Path, name: &str, flags: &[String]) -> Result<Outcome> {
        let mut ferry = self.daemon.client(programs::binary("ferry")?);
        ferry.env("SSH_AUTH_SOCK", "/run/agent.sock").args(["build", "--progress", "plain", "-t", name]).args(flags);
        let mut stdin = Vec::new();
        match case.stdin.as_deref() {
            Some("Dockerfile") => {
                stdin = case.source.clone().into_bytes();
                ferry.args(["-f", "-"]).arg(folder);
            }
            Some(form) => {
                let flag = match form {
                    "gz" => "z",
                    "bz2" => "j",
                    "xz" => "J",
                    _ => "",
                };
                let mut tar = std::process::Command::new("tar");
                tar.arg(format!("-c{flag}f")).arg("-").arg("-C").arg(folder).arg(".");
                stdin = tar.output().context("start tar")?.stdout;
                ferry.arg("-");
            }
            None => match case.option("context") {
                Some(context) => drop(ferry.arg(context)),
                None => drop(ferry.arg(folder)),
            },
        }
        command::run_with_input(ferry, &stdin)
    }
}

/// The flags of `ferry build` for a case.
fn flags(case: &Case, folder: &Path, options: &[(String, String)]) -> Result<Option<Vec<String>>> {
    let mut flags: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: &str| flags.extend([flag.to_owned(), value.to_owned()]);
    for (key, value) in options {
        match key.split_once(':') {
            Some(("build-arg", name)) => add("--build-arg", &format!("{name}={value}")),
            Some(("label", name)) => add("--label", &format!("{name}={value}")),
            Some(("context", name)) => match value.strip_prefix("local:") {
                Some(path) => add("--build-context", &format!("{name}={}", folder.join(path).display())),
                None => add("--build-context", &format!("{name}={value}")),
            },
            Some(("attest", kind)) => add("--attest", &format!("type={kind},{value}")),
            Some(_) => return Ok(None),
            None => match (key.as_str(), value.as_str()) {
                ("context", _) => {}
                ("filename", name) if case.option("context").is_none() => {
                    add("--file", &folder.join(name).display().to_string());
                }
                ("filename", name) => add("--file", name),
                ("target", _) => add("--target", value),
                ("platform", _) => add("--platform", value),
                ("no-cache", "") => add("--no-cache=true", "--no-cache=true"),
                ("no-cache", stages) => add("--no-cache-filter", stages),
                ("image-resolve-mode", "pull") => add("--pull=true", "--pull=true"),
                ("add-hosts", hosts) => hosts.split(',').for_each(|host| add("--add-host", host)),
                ("force-network-mode", _) => add("--network", value),
                ("shm-size", _) => add("--shm-size", value),
                ("ulimit", limits) => limits.split(',').for_each(|limit| add("--ulimit", limit)),
                ("cgroup-parent", _) => add("--cgroup-parent", value),
                ("requestid", text) => match text.strip_prefix("frontend.") {
                    Some(call @ ("lint" | "outline" | "targets")) => {
                        add("--call", if call == "lint" { "check" } else { call });
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            },
        }
    }
    for (id, text) in &case.secrets {
        let file = folder.with_extension(format!("secret-{id}"));
        std::fs::write(&file, text).context("write a secret")?;
        add("--secret", &format!("id={id},src={}", file.display()));
    }
    case.allowed.iter().for_each(|name| add("--allow", name));
    if case.has_agent {
        add("--ssh", "default");
        add("--ssh", "other=/run/agent.sock");
    }
    Ok(Some(flags))
}

/// Reads the warnings that are told after a build.
fn warnings(text: &str) -> Vec<String> {
    let Some((_, told)) = text.rsplit_once("(use docker --debug to expand):\n") else { return Vec::new() };
    let mut found: Vec<String> = told.lines().filter_map(|line| line.strip_prefix(" - ")).map(str::to_owned).collect();
    found.sort();
    found
}
