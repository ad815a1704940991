//! `why`: why a container ended, failed to start, or is unwell. Docker has nothing like it.

use ferry_api::container::Why;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `why`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let as_json = match parsed.text_or_empty("format") {
        "" => false,
        "json" => true,
        other => return Err(Failure::new(format!("unknown format {other:?}: must be `json`"))),
    };
    let client = context.client().await?;
    let mut errors = Vec::new();
    let mut first = true;
    for name in &parsed.args {
        match client.container_why(name).await {
            Ok(why) if as_json => {
                let json = serde_json::to_string(&why).map_err(|error| Failure::new(error.to_string()))?;
                context.printer.line(&json)?;
            }
            Ok(why) => {
                if !std::mem::take(&mut first) {
                    context.printer.line("")?;
                }
                context.printer.data(in_words(&why))?;
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    lists::finish(errors)
}

/// One block of text; nothing in it can play with a terminal.
fn in_words(why: &Why) -> String {
    let mut text = format!("{}: {}\nwhy:  {}\n", why.name, why.status, why.reason);
    for detail in &why.details {
        text.push_str(&format!("      {detail}\n"));
    }
    if !why.log.is_empty() {
        text.push_str("log:  the last lines were\n");
        for line in &why.log {
            text.push_str(&format!("      | {line}\n"));
        }
    }
    for (index, next) in why.next.iter().enumerate() {
        text.push_str(&format!("{}{next}\n", if index == 0 { "next: " } else { "      " }));
    }
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_columns_and_are_harmless() {
        let why = Why {
            name: "web".into(),
            status: "Exited (137) 2 minutes ago".into(),
            reason: "the memory limit of 64 MiB killed process 12 (python)".into(),
            details: vec!["a fact".into()],
            log: vec!["\u{1b}[31mlast\r".into()],
            next: vec!["one".into(), "two".into()],
            ..Why::default()
        };
        assert_eq!(
            in_words(&why),
            "web: Exited (137) 2 minutes ago\nwhy:  the memory limit of 64 MiB killed process 12 (python)\n      a fact\n\
             log:  the last lines were\n      | [31mlast\nnext: one\n      two\n"
        );
    }
}
