//! What a container changed, told or packed.

use std::io::{BufWriter, Write};

use ferry_shim::layer::{self, Layers};

use super::Sockets;
use super::answer::{Answer, Failure, cause};
use super::tar::Archive;

/// Writes the changes as a list.
pub(crate) fn list(layers: &Layers, sockets: &Sockets) -> Answer {
    let changes = layer::compare(layers, false).map_err(|errno| Failure::internal(cause(&errno.into())))?;
    let mut out = BufWriter::new(std::fs::File::from(sockets.data.try_clone()?));
    for (path, change) in changes {
        write!(out, "{}/", change as u8)?;
        out.write_all(&path)?;
        out.write_all(&[0])?;
    }
    Ok(out.flush()?)
}

/// Writes the changes as the tar of an image layer.
///
/// Spec: OCI image layer.
pub(crate) fn layer(layers: &Layers, exact: bool, sockets: &Sockets) -> Answer {
    let mut archive = Archive::new(&sockets.data)?;
    layer::write(layers, exact, &mut archive).map_err(|error| Failure::internal(cause(&error)))?;
    Ok(archive.finish()?)
}
