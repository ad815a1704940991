//! `buildx history inspect`

use std::collections::BTreeMap;

use ferry_buildkit_proto::messages::RpcStatus;
use ferry_buildkit_proto::messages::control::{BuildHistoryRecord, StatusRequest, StatusResponse};
use ferry_gotmpl::{Options, Template, Value};
use serde_json::{Map, Value as Json, json};

use super::super::control::{Control, next};
use super::super::failed;
use super::attachment::{self, Attachment};
use super::records::{began_ns, duration, duration_ns, events, is_over, name_of, ns, the_record};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::tabwriter::with_tabs;

/// Code of what was broken off.
const CANCELLED: i32 = 1;
/// Lines of output that are shown of the step that failed.
const LOG_LINES: usize = 16;

/// Options that say how steps ran: what they are called in the JSON, in the text, and as options.
const CONFIG: &[(&str, &str, &str)] = &[
    ("Network", "Network", "force-network-mode"),
    ("Hostname", "Hostname", "hostname"),
    ("ExtraHosts", "Extra Hosts", "add-hosts"),
    ("CgroupParent", "Cgroup Parent", "cgroup-parent"),
    ("ImageResolveMode", "Image Resolve Mode", "image-resolve-mode"),
    ("MultiPlatform", "Multi-Platform", "multi-platform"),
    ("NoCache", "No Cache", "no-cache"),
    ("ShmSize", "Shm Size", "shm-size"),
    ("Ulimit", "Resource Limits", "ulimit"),
    ("CacheMountNS", "Cache Mount Namespace", "build-arg:BUILDKIT_CACHE_MOUNT_NS"),
    ("DockerfileCheckConfig", "Dockerfile Check Config", "build-arg:BUILDKIT_DOCKERFILE_CHECK"),
    ("SourceDateEpoch", "Source Date Epoch", "build-arg:SOURCE_DATE_EPOCH"),
    ("SandboxHostname", "Sandbox Hostname", "build-arg:SANDBOX_HOSTNAME"),
];

/// What is told of a record.
struct Told {
    record: BuildHistoryRecord,
    attachments: Vec<Attachment>,
    /// Where what was built came from: address and digests.
    materials: Vec<(String, Vec<String>)>,
    /// Name and last lines of the step that failed.
    failed_step: Option<(String, Vec<String>)>,
}

/// Runs `buildx history inspect`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let reference = parsed.args.first().map_or("", String::as_str);
    let control = Control::open(parsed, context).await?;
    let record = the_record(&control, reference).await?;
    let attachments = attachment::all(&control, &record).await;
    let materials = materials(&control, &attachments).await?;
    let failed_step = match &record.error {
        Some(_) => failed_step(&control, &record.reference).await?,
        None => None,
    };
    let told = Told { record, attachments, materials, failed_step };
    match parsed.text_or_empty("format") {
        "" | "pretty" => context.printer.data(told.text(reference.is_empty(), context.program))?,
        "json" => {
            let text = serde_json::to_string_pretty(&told.json()).map_err(failed)?;
            context.printer.line(&text)?;
        }
        template => {
            let parsed = Template::parse("inspect", template)
                .map_err(|error| failed(format!("failed to parse format template: {error}")))?;
            let text = parsed
                .execute(&Value::from_json(&told.json()), Options::default())
                .map_err(|error| failed(format!("failed to execute format template: {error}")))?;
            context.printer.line(&text)?;
        }
    }
    Ok(0)
}

async fn materials(control: &Control, attachments: &[Attachment]) -> Result<Vec<(String, Vec<String>)>> {
    let is_origin = |one: &&Attachment| one.kind.starts_with("https://slsa.dev/provenance/");
    let Some(origin) = attachments.iter().find(is_origin) else { return Ok(Vec::new()) };
    let origin: Json = serde_json::from_slice(&attachment::read(control, &origin.digest).await?).map_err(failed)?;
    let listed = match &origin["buildDefinition"]["resolvedDependencies"] {
        Json::Null => &origin["materials"],
        listed => listed,
    };
    let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(listed
        .iter()
        .map(|one| {
            let digests = one["digest"].as_object().into_iter().flatten();
            let digests = digests.map(|(name, hex)| format!("{name}:{}", hex.as_str().unwrap_or_default()));
            (one["uri"].as_str().unwrap_or_default().to_owned(), digests.collect())
        })
        .collect())
}

/// The step that failed, with the last of what it wrote.
async fn failed_step(control: &Control, reference: &str) -> Result<Option<(String, Vec<String>)>> {
    let request = StatusRequest { reference: reference.to_owned() };
    let mut replies = control.listen("Status", &request).await?;
    let (mut step, mut logs) = (None, BTreeMap::<String, Vec<u8>>::new());
    while let Some(status) = next::<StatusResponse>(&mut replies).await? {
        for event in events(status) {
            match event {
                ferry_api::build::Event::Vertex(state) if !state.error.is_empty() => {
                    step = Some((state.digest.to_string(), state.name));
                }
                ferry_api::build::Event::Log(piece) => {
                    logs.entry(piece.vertex.to_string()).or_default().extend_from_slice(&piece.data);
                }
                _ => {}
            }
        }
    }
    Ok(step.map(|(digest, name)| {
        let text = String::from_utf8_lossy(logs.get(&digest).map(Vec::as_slice).unwrap_or_default()).into_owned();
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        (name, lines[lines.len().saturating_sub(LOG_LINES)..].to_vec())
    }))
}

impl Told {
    fn option(&self, name: &str) -> Option<&str> {
        self.record.frontend_attrs.get(name).map(String::as_str)
    }

    /// Options of one kind, without the beginning that says so, and without those told elsewhere.
    fn pairs(&self, prefix: &str) -> Vec<(&str, &str)> {
        let is_elsewhere = |key: &str| CONFIG.iter().any(|(_, _, option)| *option == key);
        let options = self.record.frontend_attrs.iter().filter(|(key, _)| !is_elsewhere(key));
        options.filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value.as_str()))).collect()
    }

    /// Options that nobody else tells.
    fn others(&self) -> Vec<(&str, &str)> {
        let told = ["context", "filename", "target", "platform", "frontend.caps"];
        let kinds = ["vcs:", "build-arg:", "label:", "context:", "attest:"];
        let is_told = |key: &str| {
            told.contains(&key)
                || kinds.iter().any(|kind| key.starts_with(kind))
                || CONFIG.iter().any(|(_, _, option)| *option == key)
        };
        let options = self.record.frontend_attrs.iter().filter(|(key, _)| !is_told(key));
        options.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    fn context(&self) -> &str {
        self.option("context").or_else(|| self.option("vcs:localdir:context")).unwrap_or_default()
    }

    fn status(&self) -> &'static str {
        match (&self.record.error, is_over(&self.record)) {
            (Some(error), _) if error.code == CANCELLED => "canceled",
            (Some(_), _) => "failed",
            (None, true) => "completed",
            (None, false) => "running",
        }
    }

    /// How steps ran, as far as anything was said: JSON name, text name, value.
    fn config(&self) -> Vec<(&'static str, &'static str, String)> {
        let given =
            CONFIG.iter().filter_map(|(name, shown, option)| Some((*name, *shown, *option, self.option(option)?)));
        given
            .map(|(name, shown, option, value)| match (option, value) {
                ("no-cache", "") => (name, shown, "true".to_owned()),
                ("no-cache", stages) => ("NoCacheFilter", "No Cache Filter", stages.replace(',', ", ")),
                ("add-hosts", hosts) => (name, shown, hosts.replace(',', ", ")),
                (_, value) => (name, shown, value.to_owned()),
            })
            .collect()
    }

    fn text(&self, names_it: bool, program: &str) -> String {
        let record = &self.record;
        let mut head = vec![("Name", name_of(&record.frontend_attrs))];
        if names_it {
            head.push(("Ref", record.reference.clone()));
        }
        let of = |name: &str| self.option(name).unwrap_or_default().to_owned();
        head.extend([
            ("Context", self.context().to_owned()),
            ("Dockerfile", of("filename")),
            ("VCS Repository", of("vcs:source")),
            ("VCS Revision", of("vcs:revision")),
            ("Target", of("target")),
            ("Platforms", of("platform").replace(',', ", ")),
        ]);
        head.retain(|(_, value)| !value.is_empty());
        let mut text = lines(&head) + "\n" + &table("NAMED CONTEXT", &self.pairs("context:"));
        text += &lines(&self.course());
        let config = self.config();
        let mut config: Vec<(&str, String)> = config.iter().map(|(_, shown, value)| (*shown, value.clone())).collect();
        let others = self.others();
        config.extend(others.iter().map(|(name, value)| (*name, (*value).to_owned())));
        text = text + "\n" + &lines(&config) + "\n";
        text += &table("BUILD ARG", &self.pairs("build-arg:"));
        text += &table("LABEL", &self.pairs("label:"));
        if !self.materials.is_empty() {
            let rows = self.materials.iter().map(|(uri, digests)| vec![uri.clone(), digests.join(", ")]);
            let rows: Vec<_> = std::iter::once(vec!["URI".to_owned(), "DIGEST".to_owned()]).chain(rows).collect();
            text = text + "Materials:\n" + &with_tabs(&rows) + "\n";
        }
        if !self.attachments.is_empty() {
            let head = ["DIGEST", "PLATFORM", "TYPE"].map(str::to_owned).to_vec();
            let rows = self.attachments.iter();
            let rows = rows.map(|one| vec![one.digest.clone(), one.platform.clone(), one.kind.clone()]);
            let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
            text = text + "Attachments:\n" + &with_tabs(&rows) + "\n";
        }
        if let Some((name, output)) = self.failed_step.as_ref().filter(|(_, output)| !output.is_empty()) {
            text += &format!("Logs:\n> => {name}:\n");
            output.iter().for_each(|line| text += &format!("> {line}\n"));
            text.push('\n');
        }
        text + &format!("Print build logs: {program} buildx history logs {}\n", record.reference)
    }

    /// How the build went.
    fn course(&self) -> Vec<(&'static str, String)> {
        let record = &self.record;
        let started = jiff::Timestamp::from_nanosecond(i128::from(began_ns(record))).unwrap_or_default();
        let started = started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let goes_on = if is_over(record) { "" } else { " (running)" };
        let mut told = vec![("Started", started), ("Duration", duration(duration_ns(record)) + goes_on)];
        match &record.error {
            Some(error) if error.code == CANCELLED => told.push(("Status", "Canceled".to_owned())),
            Some(error) => told.push(("Error", format!("{} {}", code_name(error), error.message))),
            None => {}
        }
        let (done, all, cached) = (record.num_completed_steps, record.num_total_steps, record.num_cached_steps);
        let share = if all == 0 { 0.0 } else { f64::from(cached) / f64::from(all) * 100.0 };
        told.push(("Build Steps", format!("{done}/{all} ({share:.0}% cached)")));
        told
    }

    fn json(&self) -> Json {
        let record = &self.record;
        let mut told = Map::new();
        let mut put = |name: &str, value: Json| {
            let is_empty = match &value {
                Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Array(items) => items.is_empty(),
                _ => false,
            };
            if !is_empty {
                told.insert(name.to_owned(), value);
            }
        };
        let option = |name: &str| json!(self.option(name).unwrap_or_default());
        let pairs = |prefix: &str| -> Json {
            self.pairs(prefix).into_iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect()
        };
        let time = |nanoseconds: i64| {
            let time = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds));
            json!(time.map(|time| time.to_string()).unwrap_or_default())
        };
        put("Name", json!(name_of(&record.frontend_attrs)));
        put("Ref", json!(record.reference));
        put("Context", json!(self.context()));
        put("Dockerfile", option("filename"));
        put("VCSRepository", option("vcs:source"));
        put("VCSRevision", option("vcs:revision"));
        put("Target", option("target"));
        let platforms = self.option("platform").unwrap_or_default();
        put("Platform", platforms.split(',').filter(|one| !one.is_empty()).map(|one| json!(one)).collect());
        put("NamedContexts", pairs("context:"));
        put("StartedAt", time(began_ns(record)));
        if let Some(ended) = record.completed_at {
            put("CompletedAt", time(ns(ended)));
        }
        put("Duration", json!(duration_ns(record)));
        put("Status", json!(self.status()));
        if let Some(error) = &record.error {
            let (name, logs) = self.failed_step.clone().unwrap_or_default();
            let mut shown = json!({ "Code": error.code, "Message": error.message });
            if !name.is_empty() {
                shown["Name"] = json!(name);
                shown["Logs"] = json!(logs);
            }
            put("Error", shown);
        }
        put("NumCompletedSteps", json!(record.num_completed_steps));
        put("NumTotalSteps", json!(record.num_total_steps));
        put("NumCachedSteps", json!(record.num_cached_steps));
        put("BuildArgs", pairs("build-arg:"));
        put("Labels", pairs("label:"));
        put("Config", self.config_json());
        let materials = self.materials.iter().map(|(uri, digests)| json!({ "URI": uri, "Digests": digests }));
        put("Materials", materials.collect());
        let attachments = self.attachments.iter().map(|one| {
            let mut shown = json!({ "Digest": one.digest });
            if !one.platform.is_empty() {
                shown["Platform"] = json!(one.platform);
            }
            shown["Type"] = json!(one.kind);
            shown
        });
        put("Attachments", attachments.collect());
        Json::Object(told)
    }

    fn config_json(&self) -> Json {
        let mut shown = Map::new();
        for (name, _, value) in self.config() {
            let value = match name {
                "NoCache" | "MultiPlatform" => json!(matches!(value.as_str(), "true" | "1")),
                "ExtraHosts" | "NoCacheFilter" => json!(value.split(", ").collect::<Vec<_>>()),
                _ => json!(value),
            };
            shown.insert(name.to_owned(), value);
        }
        let rest: Vec<Json> =
            self.others().into_iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        if !rest.is_empty() {
            shown.insert("RestRaw".to_owned(), json!(rest));
        }
        Json::Object(shown)
    }
}

fn lines(pairs: &[(&str, String)]) -> String {
    let rows: Vec<_> = pairs.iter().map(|(name, value)| vec![format!("{name}:"), value.clone()]).collect();
    with_tabs(&rows)
}

fn table(title: &str, pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let rows = pairs.iter().map(|(name, value)| vec![(*name).to_owned(), (*value).to_owned()]);
    let rows: Vec<_> = std::iter::once(vec![title.to_owned(), "VALUE".to_owned()]).chain(rows).collect();
    with_tabs(&rows) + "\n"
}

/// How gRPC calls a code.
fn code_name(error: &RpcStatus) -> &'static str {
    match error.code {
        1 => "Canceled",
        3 => "InvalidArgument",
        5 => "NotFound",
        7 => "PermissionDenied",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_with_what_was_said_of_it() {
        let options = [
            ("filename", "Dockerfile"),
            ("target", "app"),
            ("vcs:localdir:context", "src"),
            ("build-arg:WHO", "me"),
            ("label:a", "b"),
            ("no-cache", "one,two"),
            ("shm-size", "64"),
            ("other", "x"),
        ];
        let record = BuildHistoryRecord {
            reference: "abc".to_owned(),
            frontend_attrs: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            num_total_steps: 4,
            num_completed_steps: 4,
            num_cached_steps: 1,
            ..BuildHistoryRecord::default()
        };
        let told = Told { record, attachments: Vec::new(), materials: Vec::new(), failed_step: None };
        let text = told.text(true, "ferry");
        assert!(
            text.starts_with(
                "Name:\t\tsrc (app)\nRef:\t\tabc\nContext:\tsrc\nDockerfile:\tDockerfile\nTarget:\t\tapp\n\n"
            ),
            "{text}"
        );
        assert!(text.contains("Build Steps:\t4/4 (25% cached)\n"), "{text}");
        assert!(text.contains("No Cache Filter:\tone, two\nShm Size:\t\t64\nother:\t\t\tx\n"), "{text}");
        assert!(text.contains("BUILD ARG\tVALUE\nWHO\t\tme\n\nLABEL\tVALUE\na\tb\n\n"), "{text}");
        let json = told.json();
        assert_eq!(json["Config"]["NoCacheFilter"], json!(["one", "two"]));
        assert_eq!(json["BuildArgs"], json!([{ "Name": "WHO", "Value": "me" }]));
        assert_eq!(json["Config"]["RestRaw"][0]["Name"], "other");
    }
}
