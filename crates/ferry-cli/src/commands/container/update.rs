//! `update`

use ferry_api::container::UpdateResponse;

use super::own_limits;
use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::options;

/// Runs `update`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    if !parsed.has_flags() {
        return Err(Failure::new("you must provide one or more flags when using this command"));
    }
    let request = options::to_update(parsed).map_err(Failure::new)?;
    let client = context.client().await?;
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for name in &parsed.args {
        match client.container_update(name, &request).await {
            Ok(answer) => {
                errors.extend(own_limits::confirm(client, name, &request.resources).await.err());
                context.printer.line(name)?;
                if request.next_start.is_some() {
                    match what_waits(name, &answer) {
                        Ok(note) => note.iter().for_each(|note| context.printer.note(note)),
                        Err(error) => errors.push(error),
                    }
                }
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !warnings.is_empty() {
        context.printer.line(&warnings.join("\n"))?;
    }
    lists::finish(errors)
}

/// Docker's daemon passes over what it does not know, so silence is told apart from consent.
fn what_waits(name: &str, answer: &UpdateResponse) -> Result<Option<String>, String> {
    match answer.at_next_start.as_deref() {
        Some([]) => Ok(None),
        Some(words) => Ok(Some(format!("{name}: at the next start: {}", words.join(", ")))),
        None => Err(format!(
            "{name}: this daemon changes limits and restart policy only; ports, environment, labels, log options and health check are as they were"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_consent() {
        let answer = |words: Option<Vec<String>>| UpdateResponse { at_next_start: words, ..UpdateResponse::default() };
        assert_eq!(what_waits("a", &answer(Some(Vec::new()))), Ok(None));
        let words = vec!["published ports".to_owned(), "environment".to_owned()];
        let note = what_waits("a", &answer(Some(words))).unwrap().unwrap();
        assert_eq!(note, "a: at the next start: published ports, environment");
        assert!(what_waits("a", &answer(None)).is_err());
    }
}
