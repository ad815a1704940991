//! `import`

use ferry_api::image::ImportOptions;
use ferry_spec::reference::Reference;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `import`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let options = to_options(parsed).map_err(Failure::new)?;
    let source = parsed.args[0].as_str();
    let tarball =
        if options.source == "-" { super::open(source).await? } else { Box::pin(futures_util::stream::empty()) };
    let client = context.client().await?;
    super::show(client.image_import(&options, tarball).await?).await?;
    Ok(0)
}

fn to_options(parsed: &Parsed) -> Result<ImportOptions, String> {
    let source = parsed.args[0].as_str();
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let mut options = ImportOptions {
        source: if is_url { source.to_owned() } else { "-".to_owned() },
        message: parsed.text_or_empty("message").to_owned(),
        changes: parsed.all("change").to_vec(),
        platform: parsed.text_or_empty("platform").to_owned(),
        ..ImportOptions::default()
    };
    if let Some(name) = parsed.args.get(1).filter(|name| !name.is_empty()) {
        Reference::parse(name).map_err(|error| error.to_string())?;
        // The daemon splits the name itself.
        options.repository = name.clone();
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::IMAGE_IMPORT;
    use crate::{flags, options};

    #[test]
    fn files_and_urls() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            to_options(&flags::parse(IMAGE_IMPORT.flags, false, &words, options::checks::check).unwrap()).unwrap()
        };
        let import = parse("-m note -c ENV=1 ./a.tar me/x:1");
        assert_eq!((import.source.as_str(), import.repository.as_str()), ("-", "me/x:1"));
        assert_eq!(import.changes, ["ENV=1"]);
        assert_eq!(parse("http://x/y.tar").source, "http://x/y.tar");
    }
}
