//! `info`

use ferry_api::system::Info;
use ferry_gotmpl::{Options, Template};
use serde_json::{Value as Json, json};

use crate::commands::version::{self, CLIENT_VERSION};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;
use crate::format::typed::Kind;

/// Runs `info`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let template = match parsed.text_or_empty("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let template = template
        .map(|text| Template::parse("", text))
        .transpose()
        .map_err(|error| Failure::with_code(64, format!("template parsing error: {error}")))?;
    let client = context.client().await?;
    let server = match client.info().await {
        Ok(raw) => Ok(raw.value()?),
        Err(error) => Err(error),
    };
    let current = context.target()?.context;
    if let Some(template) = template {
        return formatted(&template, server, context, &current);
    }
    let mut text = format!(
        "Client:\n Version:    {CLIENT_VERSION}\n Context:    {current}\n Debug Mode: {}\n\nServer:\n",
        context.global.debug
    );
    let mut warnings = Vec::new();
    let failure = match server {
        Ok(document) => {
            let info: Info =
                ferry_api::json::from_value(document.clone()).map_err(|error| Failure::new(error.to_string()))?;
            text.push_str(&server_text(&info, &document));
            text.push('\n');
            warnings = info.warnings.unwrap_or_default();
            None
        }
        Err(error) => Some(error),
    };
    context.printer.data(text)?;
    for warning in warnings {
        context.printer.note(&warning);
    }
    match failure {
        None => Ok(0),
        Some(error) => Err(error.into()),
    }
}

fn formatted(
    template: &Template,
    server: Result<Json, ferry_client::Error>,
    context: &Context,
    current: &str,
) -> Result<u8> {
    let (mut document, failure) = match server {
        Ok(document) => (document, None),
        Err(error) => (json!({ "ServerErrors": [error.to_string()] }), Some(error)),
    };
    document["ClientInfo"] = json!({
        "Debug": context.global.debug,
        "Version": CLIENT_VERSION,
        "DefaultAPIVersion": ferry_api::version::NEWEST.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": version::architecture(),
        "BuildTime": "",
        "Context": current,
        "Plugins": [],
        "Warnings": null,
    });
    let shown = template.execute(&Kind::Info.value(&document), Options::default());
    let text = shown.map_err(|error| {
        // What was written before the failure is shown, as Docker's client does.
        let _ = context.printer.line(error.partial());
        Failure::new(error.to_string())
    })?;
    context.printer.line(&text)?;
    match failure {
        None => Ok(0),
        Some(error) => Err(error.into()),
    }
}

/// Lines of the server's part, each with its indentation.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!(" {name}: {value}\n"));
    }

    fn add_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add(name, value);
        }
    }

    fn raw(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }
}

fn server_text(info: &Info, document: &Json) -> String {
    let mut lines = Lines(String::new());
    lines.add("Containers", info.containers);
    lines.raw(&format!("  Running: {}", info.containers_running));
    lines.raw(&format!("  Paused: {}", info.containers_paused));
    lines.raw(&format!("  Stopped: {}", info.containers_stopped));
    lines.add("Images", info.images);
    lines.add_text("Server Version", &info.server_version);
    lines.add_text("Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().flatten() {
        lines.raw(&format!("  {name}: {value}"));
    }
    lines.add_text("Logging Driver", &info.logging_driver);
    lines.add_text("Cgroup Driver", &info.cgroup_driver);
    lines.add_text("Cgroup Version", &info.cgroup_version);
    lines.raw(" Plugins:");
    for (name, plugins) in [
        ("Volume", &info.plugins.volume),
        ("Network", &info.plugins.network),
        ("Authorization", &info.plugins.authorization),
        ("Log", &info.plugins.log),
    ] {
        let plugins = plugins.as_deref().unwrap_or_default();
        if !plugins.is_empty() || matches!(name, "Volume" | "Network" | "Log") {
            lines.raw(&format!("  {name}: {}", plugins.join(" ")));
        }
    }
    let folders = info.cdi_spec_dirs.as_deref().unwrap_or_default();
    if !folders.is_empty() {
        lines.raw(" CDI spec directories:");
        for folder in folders {
            lines.raw(&format!("  {folder}"));
        }
    }
    lines.add("Swarm", if info.swarm.local_node_state.is_empty() { "inactive" } else { &info.swarm.local_node_state });
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        lines.add("Runtimes", names.join(" "));
        lines.add("Default Runtime", &info.default_runtime);
    }
    engine_lines(&mut lines, info);
    host_lines(&mut lines, info);
    debug_lines(&mut lines, info);
    registry_lines(&mut lines, info);
    lines.add("Live Restore Enabled", info.live_restore_enabled);
    lines.add_text("Product License", &info.product_license);
    if !info.default_address_pools.is_empty() {
        lines.raw(" Default Address Pools:");
        for pool in &info.default_address_pools {
            lines.raw(&format!("   Base: {}, Size: {}", pool.base, pool.size));
        }
    }
    lines.add_text("Daemon Log File", document["FerryLogFile"].as_str().unwrap_or_default());
    lines.0
}

fn engine_lines(lines: &mut Lines, info: &Info) {
    if info.os_type == "linux" {
        lines.add("Init Binary", &info.init_binary);
        lines.add("containerd version", &info.containerd_commit.id);
        lines.add("runc version", &info.runc_commit.id);
        lines.add("init version", &info.init_commit.id);
        let options = info.security_options.as_deref().unwrap_or_default();
        if !options.is_empty() {
            lines.raw(" Security Options:");
        }
        for option in options {
            let mut parts = option.split(',').filter_map(|part| part.split_once('='));
            let name = parts.next().map_or(option.as_str(), |(_, name)| name);
            lines.raw(&format!("  {name}"));
            for (key, value) in parts.filter(|(key, _)| *key == "profile") {
                let mut title = key.to_owned();
                title[..1].make_ascii_uppercase();
                lines.raw(&format!("   {title}: {value}"));
            }
        }
    }
}

fn host_lines(lines: &mut Lines, info: &Info) {
    lines.add_text("Kernel Version", &info.kernel_version);
    lines.add_text("Operating System", &info.operating_system);
    lines.add_text("OSType", &info.os_type);
    lines.add_text("Architecture", &info.architecture);
    lines.add("CPUs", info.n_cpu);
    lines.add("Total Memory", human::bytes_size(info.mem_total));
    lines.add_text("Name", &info.name);
    lines.add_text("ID", &info.id);
    lines.add_text("Docker Root Dir", &info.docker_root_dir);
}

fn debug_lines(lines: &mut Lines, info: &Info) {
    lines.add("Debug Mode", info.debug);
    if info.debug {
        lines.raw(&format!("  File Descriptors: {}", info.n_fd));
        lines.raw(&format!("  Goroutines: {}", info.n_goroutines));
        lines.raw(&format!("  System Time: {}", info.system_time));
        lines.raw(&format!("  EventsListeners: {}", info.n_events_listener));
    }
    lines.add_text("HTTP Proxy", &info.http_proxy);
    lines.add_text("HTTPS Proxy", &info.https_proxy);
    lines.add_text("No Proxy", &info.no_proxy);
    let labels = info.labels.as_deref().unwrap_or_default();
    if !labels.is_empty() {
        lines.raw(" Labels:");
        for label in labels {
            lines.raw(&format!("  {label}"));
        }
    }
    lines.add("Experimental", info.experimental_build);
}

fn registry_lines(lines: &mut Lines, info: &Info) {
    let Some(registry) = &info.registry_config else { return };
    let insecure: Vec<&str> =
        registry.index_configs.values().filter(|index| !index.secure).map(|index| index.name.as_str()).collect();
    let ranges = registry.insecure_registry_cidrs.as_deref().unwrap_or_default();
    if !insecure.is_empty() || !ranges.is_empty() {
        lines.raw(" Insecure Registries:");
        for name in insecure.into_iter().chain(ranges.iter().map(String::as_str)) {
            lines.raw(&format!("  {name}"));
        }
    }
    let mirrors = registry.mirrors.as_deref().unwrap_or_default();
    if !mirrors.is_empty() {
        lines.raw(" Registry Mirrors:");
        for mirror in mirrors {
            lines.raw(&format!("  {mirror}"));
        }
    }
}
