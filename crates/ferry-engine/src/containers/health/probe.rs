//! One run of a check.

use std::sync::Arc;

use super::check::{Check, Test};
use super::{go_duration, network};
use crate::containers::{Container, Containers};
use crate::error::{Error, Result};
use crate::execs::CheckEnd;

/// Exit code of a check that could not be run, or not be waited for.
const NO_ANSWER: i32 = -1;

impl Containers {
    /// Runs the check once; what went wrong with that is its output.
    pub(super) async fn probe(&self, container: &Arc<Container>, check: &Check) -> (i32, String) {
        let result = match &check.test {
            Test::Command(argv) => self.probe_command(container, check, argv.clone()).await,
            Test::Shell(command) => {
                let mut argv = container.with_record(|record| record.config.shell.clone());
                if argv.is_empty() {
                    argv = vec!["/bin/sh".to_owned(), "-c".to_owned()];
                }
                // No command at all is told as such, not as a shell without one.
                let argv = if command.is_empty() { Vec::new() } else { [argv, command.clone()].concat() };
                self.probe_command(container, check, argv).await
            }
            Test::Http(_) | Test::Tcp(_) => network::probe(container, check).await,
        };
        result.unwrap_or_else(|error| (NO_ANSWER, error.text()))
    }

    async fn probe_command(
        &self,
        container: &Arc<Container>,
        check: &Check,
        argv: Vec<String>,
    ) -> Result<(i32, String)> {
        if argv.is_empty() {
            return Err(Error::invalid(format!("healthcheck for container {} has no command", container.id)));
        }
        match self.run_check(container, argv, check.timeout).await? {
            CheckEnd::Exited { code, output } => Ok((code, output)),
            CheckEnd::TimedOut { output } => {
                let exceeded = format!("Health check exceeded timeout ({})", go_duration(check.timeout));
                Ok((NO_ANSWER, if output.is_empty() { exceeded } else { format!("{exceeded}: {output}") }))
            }
        }
    }
}
