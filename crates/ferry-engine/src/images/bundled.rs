//! The image that greets, for hosts that cannot reach its registry.

use std::io;
use std::sync::Arc;

use ferry_spec::image::{ContainerConfig, History, RootFs};
use ferry_spec::{Descriptor, DiffId, Digest, ImageConfig, media_type};

use super::Inner;
use super::layers::{Hold, Layer, blocking};
use crate::error::{Context, Result};

/// The program in the image.
const PROGRAM: &[u8] = ferry_init::HELLO;
/// The one reference that the bundled image stands in for.
const REFERENCE: &str = "docker.io/library/hello-world:latest";
/// Said before it is used.
pub(super) const NOTICE: &str = "hello-world: registry not reachable, loading the copy bundled with ferry";
/// When the image says it was made: fixed, so that its id is.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// Tells whether the bundled image may stand in for `reference`.
pub(super) fn covers(reference: &str) -> bool {
    reference == REFERENCE
}

impl Inner {
    /// Stores and unpacks the bundled image and returns its target; the caller names it.
    pub(super) async fn unpack_bundled(self: &Arc<Self>, hold: &Arc<Hold>) -> Result<Descriptor> {
        let (inner, hold) = (Arc::clone(self), Arc::clone(hold));
        blocking(move || {
            let _hold = hold;
            inner.store_bundled()
        })
        .await
    }

    fn store_bundled(&self) -> Result<Descriptor> {
        let tree = tree().context("cannot make the bundled layer")?;
        let diff_id = DiffId(Digest::sha256(&tree));
        let layer = self.store.put_blob(&tree).context("cannot store the bundled layer")?;
        let layer = Descriptor::new(media_type::OCI_LAYER, layer, tree.len() as u64);
        for part in Layer::all(std::slice::from_ref(&layer), std::slice::from_ref(&diff_id)) {
            self.unpack(&part, tree.as_slice()).context("cannot unpack the bundled layer")?;
        }
        let config = config(diff_id, &self.host);
        Ok(self.write_manifest(&config, &[layer], Default::default())?.target)
    }
}

fn tree() -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(PROGRAM.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "hello", PROGRAM)?;
    builder.into_inner()
}

fn config(diff_id: DiffId, host: &ferry_spec::Platform) -> ImageConfig {
    let command = "CMD [\"/hello\"]".to_owned();
    ImageConfig {
        created: Some(CREATED.to_owned()),
        architecture: host.architecture.clone(),
        os: host.os.clone(),
        config: ContainerConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec!["/hello".to_owned()]),
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![
            History { created: Some(CREATED.to_owned()), created_by: "COPY hello /".to_owned(), ..History::default() },
            History { created: Some(CREATED.to_owned()), created_by: command, empty_layer: true, ..History::default() },
        ],
        ..ImageConfig::default()
    }
}
