//! `plugin push`: a plugin goes to a registry, content first and its name last.

use std::fs;
use std::sync::Arc;

use ferry_api::stream::JsonMessage;
use ferry_registry::Credentials;
use ferry_spec::Reference;
use serde_json::json;

use super::fetch::{Out, begin};
use super::{Managed, Record, blobs};
use crate::error::{Context, Error, Result};
use crate::images::{JsonMessageStream, progress};

impl Managed {
    /// Sends a plugin to the registry that its name says, and tells how it goes.
    ///
    /// API: `POST /plugins/{name}/push`
    ///
    /// # Errors
    /// NotFound; a failure after the first message is the last one.
    pub async fn push(&self, name: &str, auth: Option<Credentials>) -> Result<JsonMessageStream> {
        let record = self.find(name)?.record();
        let managed = self.clone();
        begin(move |out| async move { managed.push_now(&record, auth, &out).await }).await
    }

    async fn push_now(&self, record: &Record, auth: Option<Credentials>, out: &Out) -> Result<()> {
        let reference = Reference::parse(&record.name)
            .map_err(|error| Error::internal(format!("plugin has invalid name {} for push: {error}", record.name)))?;
        let repository = self.repository(&reference, auth, true)?;
        out.say(progress::line("", format!("The push refers to repository [{}]", reference.familiar_name()))).await;
        let folder = self.folder(&record.id);
        for blob in record.layers.iter().chain([&record.config_blob]) {
            let id: String = blob.digest.hex().chars().take(12).collect();
            out.say(progress::step(&id, "Preparing")).await;
            let source = Arc::new(blobs::BlobFile(blobs::path(&folder, &blob.digest)));
            repository.push_blob(blob, Some(source), None, Arc::new(|_| {})).await.context("error pushing plugin")?;
            out.say(progress::step(&id, "Upload complete")).await;
        }
        let bytes = fs::read(blobs::path(&folder, &record.manifest.digest)).context("error reading plugin manifest")?;
        let tag = reference.tag().unwrap_or("latest");
        repository.push_manifest(&record.manifest, &bytes, Some(tag)).await.context("error pushing plugin")?;
        let aux = json!({ "Tag": tag, "Digest": record.manifest.digest.as_str(), "Size": record.manifest.size });
        out.say(JsonMessage { aux: Some(aux), ..JsonMessage::default() }).await;
        Ok(())
    }
}
