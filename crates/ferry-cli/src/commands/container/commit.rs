//! `commit`

use ferry_client::CommitOptions;
use ferry_spec::reference::Reference;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `commit`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let options = to_options(parsed)?;
    if parsed.changed("pause") {
        context.printer.note(
            "Flag --pause has been deprecated, and enabled by default. Use --no-pause to disable pausing during commit.",
        );
    }
    let id = context.client().await?.container_commit(&parsed.args[0], &options).await?;
    context.printer.line(&id)?;
    Ok(0)
}

fn to_options(parsed: &Parsed) -> Result<CommitOptions> {
    if parsed.changed("pause") && parsed.changed("no-pause") {
        return Err(Failure::new("conflicting options: --no-pause and --pause cannot be used together"));
    }
    if parsed.args.first().is_some_and(String::is_empty) {
        return Err(Failure::new("invalid container name or ID: value is empty"));
    }
    let mut options = CommitOptions {
        comment: parsed.text_or_empty("message").to_owned(),
        author: parsed.text_or_empty("author").to_owned(),
        pause: parsed.on_or("pause", true) && !parsed.on("no-pause"),
        changes: parsed.all("change").to_vec(),
        ..CommitOptions::default()
    };
    if let Some(name) = parsed.args.get(1).filter(|name| !name.is_empty()) {
        let reference = Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
        if reference.digest().is_some() {
            return Err(Failure::new("refusing to create a tag with a digest reference"));
        }
        let reference = reference.with_default_tag();
        options.repository = reference.repository().familiar();
        options.tag = reference.tag().unwrap_or_default().to_owned();
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::CONTAINER_COMMIT;
    use crate::{flags, options};

    fn parse(line: &str) -> Result<CommitOptions> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        to_options(&flags::parse(CONTAINER_COMMIT.flags, true, &words, options::checks::check).unwrap())
    }

    #[test]
    fn names_are_taken_apart() {
        let commit = parse("-a me -m note -c ENV=1 -c CMD=x web reg:5000/a/b:v1").unwrap();
        assert_eq!((commit.repository.as_str(), commit.tag.as_str()), ("reg:5000/a/b", "v1"));
        assert_eq!((commit.author.as_str(), commit.comment.as_str()), ("me", "note"));
        assert_eq!(commit.changes, ["ENV=1", "CMD=x"]);
        assert!(commit.pause);
        assert_eq!(parse("web debian").unwrap().tag, "latest");
        assert_eq!(parse("web").unwrap().repository, "");
    }

    #[test]
    fn a_container_may_run_on() {
        assert!(!parse("--no-pause web").unwrap().pause);
        assert!(!parse("--pause=false web").unwrap().pause);
        assert!(parse("--pause --no-pause web").is_err());
        assert!(parse("web Upper").is_err());
    }
}
