//! `login`

use std::io::{BufRead, Read, Write};

use ferry_api::image::AuthConfig;

use super::warn_of_variable;
use crate::config::credentials::{self, HUB, host_of};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdin_is_terminal;

const SIGN_UP: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. \
    If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.";
const TOKENS: &str = "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better \
    security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/";

/// Runs `login`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    check_flags(parsed)?;
    let user = parsed.text_or_empty("username").trim().to_owned();
    let password = password(parsed, context, &user)?;
    warn_of_variable(context);
    let server = match parsed.args.first().map(String::as_str) {
        None | Some("" | "docker.io") => HUB,
        Some(server) => server,
    };
    let key = if server == HUB { HUB } else { host_of(server) };
    let mut stored = AuthConfig { serveraddress: key.to_owned(), ..AuthConfig::default() };
    if user.is_empty() && password.is_empty() {
        stored = match credentials::look_up(&context.config, key) {
            Ok(found) => AuthConfig { serveraddress: key.to_owned(), identitytoken: String::new(), ..found },
            Err(_) => stored,
        };
        if !stored.username.is_empty()
            && !stored.password.is_empty()
            && let Some(status) = with_stored(context, &stored).await?
        {
            context.printer.line(&status)?;
            return Ok(0);
        }
    }
    if (user.is_empty() || password.is_empty()) && !stdin_is_terminal() {
        return Err(Failure::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let auth = ask(context, &user, &password, &stored)?;
    let status = log_in(context, auth).await?;
    if !status.is_empty() {
        context.printer.line(&status)?;
    }
    Ok(0)
}

fn check_flags(parsed: &Parsed) -> Result<()> {
    let password = parsed.text_or_empty("password");
    if parsed.changed("password-stdin") || password == "-" {
        if parsed.changed("password") && password != "-" {
            return Err(Failure::new("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if !parsed.changed("username") {
            return Err(Failure::new("the --password-stdin option requires --username to be set"));
        }
    }
    if parsed.changed("username") && parsed.text_or_empty("username").is_empty() {
        return Err(Failure::new("username is empty"));
    }
    if parsed.changed("password") && password.is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok(())
}

fn password(parsed: &Parsed, context: &Context, user: &str) -> Result<String> {
    let given = parsed.text_or_empty("password");
    if !parsed.on("password-stdin") && given != "-" {
        if !given.is_empty() {
            context.printer.note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        return Ok(given.to_owned());
    }
    if user.is_empty() {
        return Err(Failure::new("username is empty"));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    // An empty one is asked for, where there is somebody to ask.
    Ok(without_line_end(&text).to_owned())
}

fn without_line_end(text: &str) -> &str {
    ["\r\n", "\n", "\r"].iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text)
}

/// Tries what is stored; `None` when it is no longer good.
async fn with_stored(context: &Context, stored: &AuthConfig) -> Result<Option<String>> {
    let printer = &context.printer;
    printer.note(&format!("Authenticating with existing credentials... [Username: {}]", stored.username));
    printer.note(&format!(
        "\n Info -> To login with a different account, run '{0} logout' followed by '{0} login'\n\n",
        context.program
    ));
    let client = context.client().await?;
    match client.login(stored).await {
        Ok(answer) => {
            keep(context, stored.clone(), &answer.identity_token)?;
            Ok(Some(answer.status))
        }
        Err(error) => {
            if error.is_unauthorized() {
                printer.note("Stored credentials invalid or expired");
            } else {
                printer.note(&format!("Login did not succeed, error: {error}"));
            }
            Ok(None)
        }
    }
}

async fn log_in(context: &Context, auth: AuthConfig) -> Result<String> {
    let client = context.client().await?;
    let answer = client.login(&auth).await?;
    keep(context, auth, &answer.identity_token)?;
    Ok(answer.status)
}

fn keep(context: &Context, mut auth: AuthConfig, identity_token: &str) -> Result<()> {
    if !identity_token.is_empty() {
        auth.password = String::new();
        auth.identitytoken = identity_token.to_owned();
    }
    let warning = credentials::store(&context.config, &auth)
        .map_err(|error| Failure::new(format!("error saving credentials: {error}")))?;
    if let Some(warning) = warning {
        context.printer.note(&warning);
    }
    Ok(())
}

/// Asks on the terminal for what was not given.
fn ask(context: &Context, user: &str, password: &str, stored: &AuthConfig) -> Result<AuthConfig> {
    let printer = &context.printer;
    let is_hub = stored.serveraddress == HUB;
    let mut user = user.to_owned();
    if user.is_empty() {
        if is_hub {
            printer.line(SIGN_UP)?;
            printer.line(&format!("{TOKENS}\n"))?;
        }
        let question = match stored.username.trim() {
            "" => "Username: ".to_owned(),
            known => format!("Username ({known}): "),
        };
        user = read_line(context, &question)?;
        if user.is_empty() {
            stored.username.trim().clone_into(&mut user);
        }
        if user.is_empty() {
            return Err(Failure::new("error: username is required"));
        }
    }
    let mut password = password.to_owned();
    if password.trim().is_empty() {
        let _silent = Silence::begin();
        password = read_line(context, "Password: ")?;
        printer.line("")?;
        if password.is_empty() {
            return Err(Failure::new("error: password is required"));
        }
    }
    Ok(AuthConfig { username: user, password, serveraddress: stored.serveraddress.clone(), ..AuthConfig::default() })
}

fn read_line(context: &Context, question: &str) -> Result<String> {
    context.printer.data(question)?;
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// A terminal that does not show what is typed; shows it again when dropped.
struct Silence(Option<rustix::termios::Termios>);

impl Silence {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // A terminal that cannot be silenced shows the password; that is no reason to refuse it.
        let _ = tcsetattr(stdin, OptionalActions::Now, &silent);
        Self(Some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_password() {
        for (text, secret) in [("p\n", "p"), ("p\r\n", "p"), ("p\n\n", "p\n"), (" p ", " p "), ("", "")] {
            assert_eq!(without_line_end(text), secret, "{text:?}");
        }
    }
}
