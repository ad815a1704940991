//! Git repositories, by the program `git`, with nothing of the host's or the user's configuration.
//!
//! Only addresses of the network are fetched from, and no word of a client's is an option. Nothing of a repository is run: no hooks, no
//! filters of its own configuration, no submodules but by the same rules.

use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_engine::workshop::Workshop;
use tokio::process::Command;

use crate::failure::{Doing, Failure, Result, blocking};
use crate::graph::GitSource;
use crate::progress::Begun;
use crate::session::Session;
use crate::tree::Folder;

/// Ways to a repository.
const PROTOCOLS: &str = "http:https:ssh:git";

/// Fetches one commit of a repository; returns its files and which it is.
pub(crate) async fn fetch(
    order: &GitSource,
    workshop: &Workshop,
    session: &Session,
    begun: &Begun,
) -> Result<(Folder, String)> {
    check(order)?;
    let maker = workshop.clone();
    let owner = blocking(move || Ok(maker.context_folder()?)).await?;
    let folder = owner.path().to_owned();
    let header = authorization(order, session).await?;
    let git = Git { folder: &folder, header: header.as_deref(), begun };
    git.run(&["init", "--quiet", "--initial-branch=main"]).await?;
    let wanted = if order.reference.is_empty() { "HEAD" } else { order.reference.as_str() };
    let shallow = git.run(&["fetch", "--depth=1", "--no-tags", "--", &order.remote, wanted]).await;
    let mut commit = "FETCH_HEAD";
    if let Err(failure) = shallow {
        // A commit that the server does not give by itself.
        if !is_commit(wanted) {
            return Err(failure);
        }
        git.run(&["fetch", "--tags", "--", &order.remote, "+refs/heads/*:refs/remotes/origin/*"]).await?;
        commit = wanted;
    }
    git.run(&["checkout", "--quiet", "--detach", commit, "--"]).await?;
    let found = git.run(&["rev-parse", "HEAD"]).await?;
    if let Some(expected) = &order.checksum
        && !found.trim().starts_with(expected.as_str())
    {
        return Err(Failure::invalid(format!("expected checksum to match {expected}, got {}", found.trim())));
    }
    if !order.skip_submodules && folder.join(".gitmodules").exists() {
        git.run(&["submodule", "update", "--init", "--recursive", "--depth=1"]).await?;
    }
    if !order.keep_git_dir {
        tokio::fs::remove_dir_all(folder.join(".git")).await.doing("cannot remove .git")?;
    }
    let subdirectory = order.subdirectory.clone();
    blocking(move || {
        let whole = Folder::open(owner)?;
        match subdirectory.trim_matches('/') {
            "" => Ok(whole),
            below => whole.below(below),
        }
    })
    .await
    .map(|folder| (folder, found.trim().to_owned()))
}

/// No files of the host, no options in disguise.
fn check(order: &GitSource) -> Result<()> {
    let remote = order.remote.as_str();
    let scheme = remote.split_once("://").map(|(scheme, _)| scheme);
    let is_scp =
        scheme.is_none() && remote.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    if !is_scp && !scheme.is_some_and(|scheme| PROTOCOLS.split(':').any(|known| known == scheme)) {
        return Err(Failure::invalid(format!(
            "invalid git remote {remote:?}: only http, https, ssh and git are fetched from"
        )));
    }
    for word in [remote, order.reference.as_str()] {
        if word.starts_with('-') || word.contains(|c: char| c.is_control() || c == ' ') {
            return Err(Failure::invalid(format!("invalid git reference {word:?}")));
        }
    }
    Ok(())
}

fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn authorization(order: &GitSource, session: &Session) -> Result<Option<String>> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if !order.auth_header_secret.is_empty()
        && let Some(header) = session.secret(&order.auth_header_secret).await?
    {
        return Ok(Some(text(header)));
    }
    if !order.auth_token_secret.is_empty()
        && let Some(token) = session.secret(&order.auth_token_secret).await?
    {
        let pair = format!("x-access-token:{}", text(token));
        return Ok(Some(format!("basic {}", STANDARD.encode(pair))));
    }
    Ok(None)
}

/// The program, for one repository.
struct Git<'a> {
    folder: &'a Path,
    header: Option<&'a str>,
    begun: &'a Begun,
}

impl Git<'_> {
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        run(self.folder, arguments, self.header, self.begun).await
    }
}

async fn run(folder: &Path, arguments: &[&str], header: Option<&str>, begun: &Begun) -> Result<String> {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never"])
        // Who has no name is named after the host, and git asks name servers for that of the host.
        .args(["-c", "user.name=ferry", "-c", "user.email=ferry@localhost"])
        .args(PROTOCOLS.split(':').flat_map(|known| ["-c".to_owned(), format!("protocol.{known}.allow=always")]))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(header) = header {
        // In the environment, where other users do not see it.
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: {header}"));
    }
    let output = command.output().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::invalid("git is not installed on the host of the daemon"),
        _ => Failure::internal(format!("cannot run git: {error}")),
    })?;
    begun.log(2, &output.stderr);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let what = arguments.first().copied().unwrap_or_default();
        return Err(Failure::invalid(format!("failed to {what} remote: git stderr:\n{}", text.trim_end())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(remote: &str, reference: &str) -> GitSource {
        GitSource {
            remote: remote.to_owned(),
            reference: reference.to_owned(),
            subdirectory: String::new(),
            keep_git_dir: false,
            checksum: None,
            skip_submodules: false,
            auth_token_secret: String::new(),
            auth_header_secret: String::new(),
            ssh_agent: None,
            known_ssh_hosts: String::new(),
        }
    }

    #[test]
    fn the_host_is_no_remote() {
        for remote in ["https://x/y.git", "ssh://git@x/y", "git@x:y/z.git", "git://x/y"] {
            assert!(check(&order(remote, "main")).is_ok(), "{remote}");
        }
        for remote in ["file:///etc", "/etc", "--upload-pack=x", "ext::sh -c x", "x/y@z:w", ""] {
            assert!(check(&order(remote, "main")).is_err(), "{remote}");
        }
        assert!(check(&order("https://x/y", "--output=x")).is_err());
    }
}
