//! `manifest push`

use std::sync::Arc;

use ferry_registry::{Error, Repository};
use ferry_spec::{Descriptor, Digest, Reference};

use super::remote::{Registry, failed};
use super::store::{Store, missing};
use super::{ImageManifest, list, reference};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `manifest push`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let target = reference(&parsed.args[0]).map_err(Failure::new)?;
    let store = Store::of(&context.config);
    let images = store.list(&target)?.ok_or_else(|| missing(&target))?;
    if images.is_empty() {
        return Err(Failure::new(format!("{target} not found")));
    }
    let (media_type, bytes) = checked_list(&target, &images)?;
    let elsewhere: Vec<(&ImageManifest, Reference)> = images
        .iter()
        .map(|image| Ok((image, image.name()?)))
        .filter(|pair: &Result<_>| pair.as_ref().map_or(true, |(_, name)| name.path() != target.path()))
        .collect::<Result<_>>()?;
    let readable: Vec<String> = elsewhere.iter().map(|(_, name)| name.path().to_owned()).collect();
    let repository = Registry::new(&context.config, parsed.on("insecure")).to_write(&target, &readable)?;
    for (image, name) in &elsewhere {
        mount(&repository, &target, image, name).await?;
    }
    for (image, _) in &elsewhere {
        let put = target.repository().with_digest(image.descriptor.digest.clone());
        let pushed = repository.push_manifest(&image.descriptor, &image.bytes()?, None).await;
        pushed.map_err(|error| not_put(&put, error))?;
        context.printer.line(&format!("Pushed ref {put} with digest: {}", image.descriptor.digest))?;
    }
    let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
    let tag = target.tag().filter(|_| target.digest().is_none());
    repository.push_manifest(&descriptor, &bytes, tag).await.map_err(|error| not_put(&target, error))?;
    context.printer.line(descriptor.digest.as_str())?;
    if parsed.on("purge") {
        store.remove(&target)?;
    }
    Ok(0)
}

/// Writes the list; every part must say what it runs on.
fn checked_list(target: &Reference, images: &[ImageManifest]) -> Result<(&'static str, Vec<u8>)> {
    let says = |image: &&ImageManifest| {
        let platform = image.descriptor.platform.as_ref();
        platform.is_some_and(|platform| !platform.os.is_empty() && !platform.architecture.is_empty())
    };
    if let Some(image) = images.iter().find(|image| !says(image)) {
        return Err(Failure::new(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            image.reference
        )));
    }
    list::write(target, images)
}

/// Brings what an image of another repository is made of into that of the list; the registry has all of it already.
async fn mount(repository: &Repository, target: &Reference, image: &ImageManifest, name: &Reference) -> Result<()> {
    let manifest = image.manifest()?;
    let windows = image.descriptor.platform.as_ref().is_some_and(|platform| platform.os == "windows");
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        match repository.push_blob(blob, None, Some(name.path()), Arc::new(|_| {})).await {
            Ok(_) => {}
            // Base layers of Windows lie elsewhere.
            Err(Error::NotFound { .. }) if windows => {}
            Err(Error::NotFound { .. }) => {
                let from = format!("{}@{}", name.path(), blob.digest);
                return Err(Failure::new(format!("error mounting {from} to {target}")));
            }
            Err(error) => return Err(failed(target, error)),
        }
    }
    Ok(())
}

fn not_put(reference: &Reference, error: Error) -> Failure {
    match error {
        error @ Error::Request { .. } => failed(reference, error),
        error => Failure::new(format!("failed to put manifest {reference}: {error}")),
    }
}
