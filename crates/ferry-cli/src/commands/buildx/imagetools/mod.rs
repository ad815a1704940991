//! `buildx imagetools`: images in registries, without a daemon.

pub(in crate::commands) mod create;
pub(in crate::commands) mod inspect;

use ferry_registry::Repository;
use ferry_spec::{Descriptor, Reference};

use super::failed;
use crate::commands::manifest::remote::Registry;
use crate::context::Context;
use crate::failure::Result;

/// Documents longer than this are none of an image.
const LIMIT: u64 = 64 << 20;

/// Reads a name as it is typed.
fn reference(text: &str) -> Result<Reference> {
    Reference::parse_with_default_tag(text).map_err(failed)
}

/// Tells whether a registry is on this machine, and needs no TLS.
fn is_local(reference: &Reference) -> bool {
    let domain = reference.domain();
    let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn to_read(context: &Context, reference: &Reference) -> Result<Repository> {
    Registry::new(&context.config, is_local(reference)).to_read(reference)
}

/// What a name stands for, and the document itself.
async fn fetch(repository: &Repository, reference: &Reference) -> Result<(Descriptor, Vec<u8>)> {
    let target = repository.resolve(reference).await.map_err(|error| worded(reference, error))?;
    let bytes = repository.manifest(&target).await.map_err(|error| worded(reference, error))?;
    Ok((target, bytes))
}

fn worded(reference: &Reference, error: ferry_registry::Error) -> crate::failure::Failure {
    match error {
        ferry_registry::Error::NotFound { .. } => failed(format!("{reference}: not found")),
        other => failed(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine_are_known() {
        for (name, local) in
            [("127.0.0.1:5000/a", true), ("localhost:5/a", true), ("[::1]:5/a", true), ("alpine", false)]
        {
            assert_eq!(is_local(&reference(name).unwrap()), local, "{name}");
        }
    }
}
