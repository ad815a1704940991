//! `GET /containers/{id}/export`.

use ferry_shim::files::Action;

use super::archive::ArchiveStream;
use super::{Scope, changes::refuse_removing};
use crate::containers::Containers;
use crate::error::Result;

impl Containers {
    /// Makes an archive of a container's root file system, without what is mounted in it.
    ///
    /// API: `GET /containers/{id}/export`
    ///
    /// # Errors
    /// NotFound; Conflict for one that is being removed.
    pub async fn export(&self, reference: &str) -> Result<ArchiveStream> {
        let container = self.find(reference)?;
        refuse_removing(&container, "export")?;
        let process = self.work_in_files(&container, Scope::RootAlone, Action::Export { itself: false }).await?;
        let stream = ArchiveStream::new(process, &container)?;
        self.publish(&container.snapshot(), "export", &[]);
        Ok(stream)
    }
}
