//! Containers.

use ferry_api::container::{
    CreateRequest, CreateResponse, Flows, PruneReport, StopReport, Summary, TopResponse, UpdateRequest, UpdateResponse,
    WaitResponse, Why,
};
use ferry_api::filters::Filters;
use http::{HeaderMap, Method};

use crate::connection::{Client, Raw, decode};
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::request::{Payload, Query, segment};
use crate::stream::ByteStream;

/// How to attach.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Output from the start of the log on.
    pub logs: bool,
    /// Keys that detach; empty for the daemon's.
    pub detach_keys: String,
}

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogsOptions {
    /// Go on with new lines.
    pub follow: bool,
    /// Not before this time.
    pub since: String,
    /// Not after this time.
    pub until: String,
    /// With times.
    pub timestamps: bool,
    /// With extra attributes.
    pub details: bool,
    /// `all` or a number of lines.
    pub tail: String,
}

/// How to stop.
#[derive(Clone, Debug, Default)]
pub struct StopOptions {
    /// Another signal than the container's.
    pub signal: String,
    /// Seconds until SIGKILL.
    pub timeout_s: Option<i64>,
    /// Kill at once a process that cannot receive the signal; ferry's own, other daemons wait.
    pub kill_deaf: bool,
}

/// A wait that the daemon has registered.
#[derive(Debug)]
pub struct Wait {
    stream: ByteStream,
}

impl Wait {
    /// Waits for the exit.
    ///
    /// # Errors
    /// When the daemon goes away first.
    pub async fn finish(mut self) -> Result<WaitResponse> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.stream.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        if bytes.is_empty() {
            return Err(Error::UnexpectedEof);
        }
        decode(&bytes)
    }
}

fn stop_query(options: &StopOptions) -> Query {
    let query = Query::new().with_text("signal", &options.signal);
    match options.timeout_s {
        Some(seconds) => query.with("t", seconds.to_string()),
        None => query,
    }
}

impl Client {
    /// API: `POST /containers/create`
    ///
    /// # Errors
    /// 404 for an unknown image, 409 for a name in use, 400 and 501 for options that cannot be had.
    pub async fn container_create(
        &self,
        name: &str,
        platform: &str,
        request: &CreateRequest,
    ) -> Result<CreateResponse> {
        let query = Query::new().with_text("name", name).with_text("platform", platform);
        self.post_json("/containers/create", &query, request).await
    }

    /// Asks what a container would be, without making it: an inspect document and warnings.
    ///
    /// API: `POST /containers/create?dryRun=true`, ferry's own
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_dry_run(
        &self,
        name: &str,
        platform: &str,
        request: &CreateRequest,
    ) -> Result<serde_json::Value> {
        let query = Query::new().with_text("name", name).with_text("platform", platform).with_flag("dryRun", true);
        self.post_json("/containers/create", &query, request).await
    }

    /// API: `POST /containers/{id}/start`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_start(&self, id: &str, detach_keys: &str) -> Result<()> {
        let query = Query::new().with_text("detachKeys", detach_keys);
        self.post_empty(&format!("/containers/{}/start", segment(id)), &query).await
    }

    /// API: `POST /containers/{id}/stop`. Tells why the container was killed without waiting, if it was.
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_stop(&self, id: &str, options: &StopOptions) -> Result<Option<String>> {
        self.end_run(&format!("/containers/{}/stop", segment(id)), options).await
    }

    async fn end_run(&self, path: &str, options: &StopOptions) -> Result<Option<String>> {
        let query = stop_query(options).with_flag("kill-deaf", options.kill_deaf);
        let answer = self.call(Method::POST, path, &query, None).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        Ok(Some(decode::<StopReport>(&answer)?.killed_at_once))
    }

    /// API: `GET /containers/{id}/flows`, which only ferry has.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn container_flows(&self, id: &str) -> Result<Flows> {
        self.get(&format!("/containers/{}/flows", segment(id)), &Query::new()).await
    }

    /// API: `GET /containers/{id}/why`, which only ferry has.
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_why(&self, id: &str) -> Result<Why> {
        self.get(&format!("/containers/{}/why", segment(id)), &Query::new()).await
    }

    /// API: `POST /containers/{id}/restart`. Tells why the container was killed without waiting, if it was.
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_restart(&self, id: &str, options: &StopOptions) -> Result<Option<String>> {
        self.end_run(&format!("/containers/{}/restart", segment(id)), options).await
    }

    /// API: `POST /containers/{id}/kill`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_kill(&self, id: &str, signal: &str) -> Result<()> {
        let query = Query::new().with_text("signal", signal);
        self.post_empty(&format!("/containers/{}/kill", segment(id)), &query).await
    }

    /// API: `POST /containers/{id}/pause` and `/unpause`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_set_paused(&self, id: &str, paused: bool) -> Result<()> {
        let verb = if paused { "pause" } else { "unpause" };
        self.post_empty(&format!("/containers/{}/{verb}", segment(id)), &Query::new()).await
    }

    /// API: `POST /containers/{id}/rename`
    ///
    /// # Errors
    /// 409 for a name in use.
    pub async fn container_rename(&self, id: &str, name: &str) -> Result<()> {
        self.post_empty(&format!("/containers/{}/rename", segment(id)), &Query::new().with("name", name)).await
    }

    /// API: `DELETE /containers/{id}`
    ///
    /// # Errors
    /// 409 for a running container without force.
    pub async fn container_remove(&self, id: &str, force: bool, volumes: bool, link: bool) -> Result<()> {
        let query = Query::new().with_flag("force", force).with_flag("v", volumes).with_flag("link", link);
        self.delete(&format!("/containers/{}", segment(id)), &query).await.map(drop)
    }

    /// API: `POST /containers/prune`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_prune(&self, filters: &Filters) -> Result<PruneReport> {
        let query = Query::new().with_text("filters", &filters.to_parameter());
        decode(&self.call(Method::POST, "/containers/prune", &query, None).await?)
    }

    /// API: `GET /containers/json`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn container_list(&self, all: bool, limit: i64, size: bool, filters: &Filters) -> Result<Vec<Summary>> {
        let mut query = Query::new().with_flag("all", all).with_flag("size", size);
        if limit > 0 {
            query = query.with("limit", limit.to_string());
        }
        self.get("/containers/json", &query.with_text("filters", &filters.to_parameter())).await
    }

    /// API: `GET /containers/{id}/json`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<Raw> {
        self.get_raw(&format!("/containers/{}/json", segment(id)), &Query::new().with_flag("size", size)).await
    }

    /// API: `GET /containers/{id}/top`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn container_top(&self, id: &str, arguments: &[String]) -> Result<TopResponse> {
        let query = Query::new().with_text("ps_args", &arguments.join(" "));
        self.get(&format!("/containers/{}/top", segment(id)), &query).await
    }

    /// API: `GET /containers/{id}/stats`: JSON documents, one a second, or one alone that holds two readings.
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_stats(&self, id: &str, stream: bool) -> Result<ByteStream> {
        let query = Query::new().with("stream", if stream { "1" } else { "0" });
        let path = format!("/containers/{}/stats", segment(id));
        self.stream(Method::GET, &path, &query, HeaderMap::new(), Payload::empty()).await
    }

    /// API: `POST /containers/{id}/update`
    ///
    /// # Errors
    /// 404 for an unknown container, 400 for a bad value, 409 for one that does not go with what is set.
    pub async fn container_update(&self, id: &str, request: &UpdateRequest) -> Result<UpdateResponse> {
        self.post_json(&format!("/containers/{}/update", segment(id)), &Query::new(), request).await
    }

    /// API: `POST /containers/{id}/wait`. Returns when the daemon has registered the wait.
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_wait(&self, id: &str, condition: &str) -> Result<Wait> {
        let query = Query::new().with_text("condition", condition);
        let path = format!("/containers/{}/wait", segment(id));
        let stream = self.stream(Method::POST, &path, &query, HeaderMap::new(), Payload::empty()).await?;
        Ok(Wait { stream })
    }

    /// API: `POST /containers/{id}/attach`
    ///
    /// # Errors
    /// 404 for an unknown container.
    pub async fn container_attach(&self, id: &str, options: &AttachOptions) -> Result<Hijacked> {
        let query = Query::new()
            .with("stream", "1")
            .with_flag("stdin", options.stdin)
            .with_flag("stdout", options.stdout)
            .with_flag("stderr", options.stderr)
            .with_flag("logs", options.logs)
            .with_text("detachKeys", &options.detach_keys);
        self.hijack(&format!("/containers/{}/attach", segment(id)), &query, None).await
    }

    /// API: `POST /containers/{id}/resize`
    ///
    /// # Errors
    /// 409 for a container that does not run.
    pub async fn container_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let query = Query::new().with("h", height.to_string()).with("w", width.to_string());
        self.post_empty(&format!("/containers/{}/resize", segment(id)), &query).await
    }

    /// API: `GET /containers/{id}/logs`
    ///
    /// # Errors
    /// 404 for an unknown container, 501 for a driver that cannot be read.
    pub async fn container_logs(&self, id: &str, options: &LogsOptions) -> Result<ByteStream> {
        let query = Query::new()
            .with("stdout", "1")
            .with("stderr", "1")
            .with_text("since", &options.since)
            .with_text("until", &options.until)
            .with_flag("timestamps", options.timestamps)
            .with_flag("details", options.details)
            .with_flag("follow", options.follow)
            .with_text("tail", &options.tail);
        let path = format!("/containers/{}/logs", segment(id));
        self.stream(Method::GET, &path, &query, HeaderMap::new(), Payload::empty()).await
    }
}
