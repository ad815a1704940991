//! Steps that failed and are looked at before their build ends: the step stays as it was left, and a client runs a shell in it.

use ferry_api::build::FailedStep;
use ferry_engine::containers::Step;

use super::Solve;
use crate::failure::Failure;

impl Solve {
    /// Lets whoever asked for it look at a step that failed; returns when they have left. Of a build one step is shown: others that fail
    /// meanwhile wait, and end with it.
    pub(super) async fn show_failed(&self, args: &[String], step: &mut Step, failure: &Failure) {
        let Some(viewer) = &self.options.failed_steps else { return };
        let mut was_shown = self.looked_at_failed.lock().await;
        if std::mem::replace(&mut *was_shown, true) {
            return;
        }
        let shell = shell_of(args);
        let container = match step.hand_over(shell.clone()) {
            Ok(container) => container,
            Err(error) => return tracing::warn!(error = %error.text(), "a failed step cannot be looked at"),
        };
        let failed = FailedStep { container, error: failure.message.clone(), shell };
        if viewer.send(failed).is_ok() {
            // How the shell ended changes nothing about why the step failed.
            let _ = step.wait().await;
        }
    }
}

/// The shell that runs a step's command: its own where it has one.
fn shell_of(args: &[String]) -> Vec<String> {
    let runs_text = |flag: &String| flag.starts_with('-') && !flag.starts_with("--") && flag.ends_with('c');
    match args {
        [shell @ .., flag, _] if !shell.is_empty() && runs_text(flag) => shell.to_vec(),
        _ => vec!["/bin/sh".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_own_shell_is_taken() {
        for (args, shell) in [
            (&["/bin/sh", "-c", "make"][..], &["/bin/sh"][..]),
            (&["/bin/bash", "-o", "pipefail", "-ec", "make"], &["/bin/bash", "-o", "pipefail"]),
            (&["make", "-j", "4"], &["/bin/sh"]),
            (&["-c", "x"], &["/bin/sh"]),
            (&["cc", "--exec", "x"], &["/bin/sh"]),
        ] {
            let args: Vec<String> = args.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(shell_of(&args), shell, "{args:?}");
        }
    }
}
