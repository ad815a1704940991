//! `manifest inspect`

use ferry_spec::Reference;

use super::remote::{Registry, Remote};
use super::store::{Store, missing};
use super::{ImageManifest, indented, list, reference};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `manifest inspect`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let verbose = parsed.on("verbose");
    let (list_given, given) = match &parsed.args[..] {
        [list, given] => (Some(list), given),
        [given, ..] => (None, given),
        [] => return Err(Failure::new("no manifest named")),
    };
    let name = reference(given).map_err(Failure::new)?;
    let store = Store::of(&context.config);
    let text = match list_given {
        Some(list) => {
            let list = reference(list).map_err(Failure::new)?;
            one(&store.get(&list, &name)?.ok_or_else(|| missing(&name))?, verbose)?
        }
        None => match store.list(&name)? {
            Some(images) => several(&name, &images, verbose)?,
            None => match Registry::new(&context.config, parsed.on("insecure")).fetch(&name).await? {
                Remote::Image(image) => one(&image, verbose)?,
                Remote::List(images) => several(&name, &images, verbose)?,
            },
        },
    };
    context.printer.data([&text[..], b"\n"].concat())?;
    Ok(0)
}

fn one(image: &ImageManifest, verbose: bool) -> Result<Vec<u8>> {
    if verbose { indented(image, b"\t") } else { indented(image.payload()?, b"\t") }
}

fn several(name: &Reference, images: &[ImageManifest], verbose: bool) -> Result<Vec<u8>> {
    if verbose {
        return indented(&images, b"\t");
    }
    let written = list::write(name, images);
    written
        .map(|(_, bytes)| bytes)
        .map_err(|error| Failure::new(format!("failed to assemble ManifestDescriptor: {error}")))
}
