//! Settings become one validated value.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ferry_engine::EngineConfig;
use ferry_engine::config::{
    BridgeConfig, CpuRealtime, Live, LiveSettings, ProxyConfig, RegistrySettings, SeccompDefault,
};
use ferry_shim::protocol::ForeignRuntime;
use indexmap::IndexMap;
use serde_json::Value;

use super::parse::{Setting, Settings};
use super::{ConfigError, DEFAULT_SOCKET, exec_options, registries};
use super::{network_options, pools};
use crate::server::listen::Address;
use crate::server::tls::TlsFiles;

/// Everything that the daemon is started with.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) hosts: Vec<Address>,
    pub(crate) group: String,
    pub(crate) insecure_tcp: bool,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) pidfile: PathBuf,
    pub(crate) log_level: String,
    pub(crate) raw_logs: bool,
    pub(crate) engine: EngineConfig,
    pub(crate) builder: ferry_build::gc::Settings,
    /// Options that have no effect.
    pub(crate) warnings: Vec<String>,
}

/// Ferry's own runtime in `default-runtime`; Docker's name for its own is understood too.
const OWN_RUNTIMES: [&str; 2] = ["ferry", "runc"];

/// Validates settings.
pub(crate) fn resolve(settings: &Settings, mut warnings: Vec<String>) -> Result<Config, ConfigError> {
    let read = Reader(settings);
    let exec_root = read.path("exec-root", "/run/ferry")?;
    let debug = read.flag("debug", false);
    let log_level = read.log_level(debug)?;
    let tls = read.tls();
    let hosts = match read.list("host") {
        hosts if hosts.is_empty() => vec![Address::Unix(DEFAULT_SOCKET.into())],
        hosts => hosts.iter().map(|host| Address::parse(host, tls.is_some())).collect::<Result<_, _>>()?,
    };
    Ok(Config {
        hosts,
        group: read.text("group", "docker"),
        insecure_tcp: read.flag("insecure-tcp", false),
        tls,
        pidfile: read.path("pidfile", &exec_root.join("ferryd.pid").to_string_lossy())?,
        log_level,
        raw_logs: read.flag("raw-logs", false),
        engine: engine_config(&read, exec_root, debug)?,
        builder: super::builder::settings(&read, &mut warnings)?,
        warnings,
    })
}

fn engine_config(read: &Reader<'_>, exec_root: PathBuf, debug: bool) -> Result<EngineConfig, ConfigError> {
    let libexec = read.libexec_dir();
    let cgroup_driver = exec_options::cgroup_driver(&read.list("exec-opt"))?;
    let cgroup_parent = read.optional("cgroup-parent");
    exec_options::check_parent(cgroup_driver, cgroup_parent.as_deref())?;
    Ok(EngineConfig {
        data_root: read.path("data-root", "/var/lib/ferry")?,
        exec_root,
        shim_program: libexec.join("ferry-shim"),
        netd_program: libexec.join("ferry-netd"),
        logger_program: libexec.join("ferry-logger"),
        bridge: bridge_config(read)?,
        image_store: super::storage::image_store(read)?,
        live: LiveSettings::new(live_settings(read, debug)?),
        proxies: read.proxies()?,
        log_driver: read.text("log-driver", "json-file"),
        log_options: read.map("log-opt"),
        init: read.flag("init", false),
        cgroup_driver,
        cgroup_parent,
        seccomp: read.seccomp()?,
        no_new_privileges: read.flag("no-new-privileges", false),
        selinux: read.flag("selinux-enabled", false),
        cpu_realtime: CpuRealtime {
            period_us: read.number("cpu-rt-period", 0),
            runtime_us: read.number("cpu-rt-runtime", 0),
        },
        host_gateways: read.parsed_list("host-gateway-ip")?,
        dns: read.parsed_list("dns")?,
        dns_search: read.list("dns-search"),
        dns_options: read.list("dns-opt"),
        default_ulimits: read.ulimits()?,
        link_variables: std::env::var_os("DOCKER_KEEP_DEPRECATED_LEGACY_LINKS_ENV_VARS")
            .is_some_and(|value| value == "1"),
        cdi_spec_dirs: read.cdi_spec_dirs(),
        log_file: log_file(),
        server_version: crate::app::SERVER_VERSION.to_owned(),
    })
}

fn live_settings(read: &Reader<'_>, debug: bool) -> Result<Live, ConfigError> {
    let runtimes = read.runtimes()?;
    let default_runtime = read.text("default-runtime", OWN_RUNTIMES[0]);
    if !OWN_RUNTIMES.contains(&default_runtime.as_str()) && !runtimes.contains_key(&default_runtime) {
        let reason = format!("specified default runtime '{default_runtime}' does not exist");
        return Err(ConfigError::BadValue { name: "default-runtime", value: default_runtime, reason });
    }
    Ok(Live {
        debug,
        labels: read.labels()?,
        registry_mirrors: read.checked("registry-mirror", registries::mirror)?,
        registries: read.registries()?,
        insecure_registries: read.checked("insecure-registry", registries::insecure)?,
        registry_timeout_s: read.positive("registry-timeout", 60)? as u64,
        live_restore: read.flag("live-restore", true),
        shutdown_timeout_s: read.number("shutdown-timeout", 15),
        max_concurrent_downloads: read.positive("max-concurrent-downloads", 3)?,
        max_concurrent_uploads: read.positive("max-concurrent-uploads", 5)?,
        max_download_attempts: u32::try_from(read.positive("max-download-attempts", 5)?).unwrap_or(u32::MAX),
        default_runtime,
        runtimes,
        default_shm_size_bytes: read.bytes("default-shm-size", 64 << 20)?,
        disk_budget_bytes: super::storage::disk_budget(read)?,
        authorization_plugins: read.list("authorization-plugin"),
    })
}

/// What a reload puts in force: of what can change, that which the file says; all else stays as it is, as in Docker, but for the numbers of
/// transfers, which go back to what they are without a word.
pub(super) fn reload(before: &Live, merged: &Settings, in_file: &Settings) -> Result<(Live, String), ConfigError> {
    let read = Reader(merged);
    let debug = read.flag("debug", before.debug);
    let new = live_settings(&read, debug)?;
    let says = |name: &str| in_file.contains_key(name);
    fn pick<T: Clone>(says: bool, new: T, before: &T) -> T {
        if says { new } else { before.clone() }
    }
    let live = Live {
        debug: pick(says("debug"), new.debug, &before.debug),
        labels: pick(says("label"), new.labels, &before.labels),
        registry_mirrors: pick(says("registry-mirror"), new.registry_mirrors, &before.registry_mirrors),
        insecure_registries: pick(says("insecure-registry"), new.insecure_registries, &before.insecure_registries),
        registries: pick(says("registry"), new.registries, &before.registries),
        registry_timeout_s: pick(says("registry-timeout"), new.registry_timeout_s, &before.registry_timeout_s),
        live_restore: pick(says("live-restore"), new.live_restore, &before.live_restore),
        shutdown_timeout_s: pick(says("shutdown-timeout"), new.shutdown_timeout_s, &before.shutdown_timeout_s),
        default_runtime: pick(says("default-runtime"), new.default_runtime, &before.default_runtime),
        runtimes: pick(says("add-runtime"), new.runtimes, &before.runtimes),
        authorization_plugins: pick(
            says("authorization-plugin"),
            new.authorization_plugins,
            &before.authorization_plugins,
        ),
        default_shm_size_bytes: pick(
            says("default-shm-size"),
            new.default_shm_size_bytes,
            &before.default_shm_size_bytes,
        ),
        disk_budget_bytes: pick(says("disk-budget"), new.disk_budget_bytes, &before.disk_budget_bytes),
        max_concurrent_downloads: new.max_concurrent_downloads,
        max_concurrent_uploads: new.max_concurrent_uploads,
        max_download_attempts: new.max_download_attempts,
    };
    let level = read.log_level(live.debug)?;
    Ok((live, level))
}

fn bridge_config(read: &Reader<'_>) -> Result<BridgeConfig, ConfigError> {
    let mtu = match read.number("mtu", 0) {
        0 => None,
        mtu => Some(u32::try_from(mtu).map_err(|_| ConfigError::BadValue {
            name: "mtu",
            value: mtu.to_string(),
            reason: format!("invalid default MTU: {mtu}"),
        })?),
    };
    Ok(BridgeConfig {
        name: read.text("bridge", "ferry0"),
        bip: read.parsed("bip")?,
        fixed_cidr: read.parsed("fixed-cidr")?,
        ipv6: read.flag("ipv6", false),
        bip6: read.parsed("bip6")?,
        fixed_cidr_v6: read.parsed("fixed-cidr-v6")?,
        default_gateway: read.parsed("default-gateway")?,
        default_gateway_v6: read.parsed("default-gateway-v6")?,
        default_pools: pools::read(read)?,
        default_options: network_options::read(read)?,
        direct_routing: read.flag("allow-direct-routing", false),
        accepted_mark: read.parsed("bridge-accept-fwmark")?,
        mtu,
        icc: read.flag("icc", true),
        default_binding_ip: read.parsed("ip")?.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        firewall: read.flag("iptables", true),
        firewall6: read.flag("ip6tables", true),
        ip_forward: read.flag("ip-forward", true),
        ip_masquerade: read.flag("ip-masq", true),
    })
}

/// Returns the file that stderr goes to, if it is one; a client that starts the daemon sends it there.
fn log_file() -> Option<PathBuf> {
    let path = std::fs::read_link("/proc/self/fd/2").ok()?;
    path.is_file().then_some(path)
}

/// Typed access to settings.
pub(super) struct Reader<'settings>(pub(super) &'settings Settings);

impl Reader<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        match self.0.get(name) {
            Some(Setting::Text(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        match self.0.get(name) {
            Some(Setting::Bool(value)) => *value,
            _ => default,
        }
    }

    fn number(&self, name: &str, default: i64) -> i64 {
        match self.0.get(name) {
            Some(Setting::Int(value)) => *value,
            _ => default,
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.0.get(name) {
            Some(Setting::List(values)) => values.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn map(&self, name: &str) -> IndexMap<String, String> {
        match self.0.get(name) {
            Some(Setting::Map(values)) => values.clone(),
            _ => IndexMap::new(),
        }
    }

    fn path(&self, name: &'static str, default: &str) -> Result<PathBuf, ConfigError> {
        let path = PathBuf::from(self.text(name, default));
        if path.is_absolute() {
            return Ok(path);
        }
        std::path::absolute(&path).map_err(|error| bad(name, &path.to_string_lossy(), error))
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        self.optional(name).map(|text| text.parse().map_err(|error| bad(name, &text, error))).transpose()
    }

    fn parsed_list<T: FromStr>(&self, name: &'static str) -> Result<Vec<T>, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        self.list(name).iter().map(|text| text.parse().map_err(|error| bad(name, text, error))).collect()
    }

    fn positive(&self, name: &'static str, default: usize) -> Result<usize, ConfigError> {
        let Some(Setting::Int(number)) = self.0.get(name) else { return Ok(default) };
        match usize::try_from(*number) {
            // As in Docker, 0 means the default.
            Ok(0) => Ok(default),
            Ok(number) => Ok(number),
            Err(_) => Err(bad(name, &number.to_string(), "it must not be negative")),
        }
    }

    pub(super) fn bytes(&self, name: &'static str, default: i64) -> Result<i64, ConfigError> {
        let Some(text) = self.optional(name) else { return Ok(default) };
        ram_in_bytes(&text).ok_or_else(|| bad(name, &text, "expected a size such as 64m"))
    }

    fn log_level(&self, debug: bool) -> Result<String, ConfigError> {
        let level = self.text("log-level", if debug { "debug" } else { "info" });
        match level.as_str() {
            "trace" | "debug" | "info" | "warn" | "error" => Ok(if debug { "debug".to_owned() } else { level }),
            "warning" => Ok("warn".to_owned()),
            "fatal" | "panic" => Ok("error".to_owned()),
            _ => Err(ConfigError::BadValue {
                name: "log-level",
                reason: format!("invalid logging level: {level}"),
                value: level,
            }),
        }
    }

    /// The folder of the helper programs: that of ferryd itself, unless told otherwise.
    fn libexec_dir(&self) -> PathBuf {
        if let Some(folder) = self.optional("libexec-dir") {
            return folder.into();
        }
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        beside.filter(|folder| folder.join("ferry-shim").exists()).unwrap_or_else(|| "/usr/libexec/ferry".into())
    }

    /// One empty folder turns them off.
    fn cdi_spec_dirs(&self) -> Vec<PathBuf> {
        let given = self.list("cdi-spec-dir");
        if given.is_empty() {
            return ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec();
        }
        given.into_iter().filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
    }

    fn labels(&self) -> Result<Vec<String>, ConfigError> {
        let labels = self.list("label");
        match labels.iter().find(|label| !label.contains('=') || label.starts_with('=')) {
            Some(label) => Err(bad("label", label, "expected key=value")),
            None => Ok(labels),
        }
    }

    /// Flags and file win over the environment.
    fn proxies(&self) -> Result<ProxyConfig, ConfigError> {
        let from_file = match self.0.get("proxies") {
            Some(Setting::Object(Value::Object(map))) => map.clone(),
            _ => serde_json::Map::new(),
        };
        if let Some(key) =
            from_file.keys().find(|key| !["http-proxy", "https-proxy", "no-proxy"].contains(&key.as_str()))
        {
            return Err(bad("proxies", key, "expected http-proxy, https-proxy or no-proxy"));
        }
        let pick = |name: &str, variables: [&str; 2]| {
            let from_environment = || variables.iter().find_map(|variable| std::env::var(variable).ok());
            self.optional(name)
                .or_else(|| from_file.get(name).and_then(Value::as_str).map(str::to_owned))
                .or_else(from_environment)
                .filter(|value| !value.is_empty())
        };
        Ok(ProxyConfig {
            http: pick("http-proxy", ["HTTP_PROXY", "http_proxy"]),
            https: pick("https-proxy", ["HTTPS_PROXY", "https_proxy"]),
            no_proxy: pick("no-proxy", ["NO_PROXY", "no_proxy"]),
        })
    }

    fn registries(&self) -> Result<IndexMap<String, RegistrySettings>, ConfigError> {
        let Some(Setting::Object(value)) = self.0.get("registry") else { return Ok(IndexMap::new()) };
        registries::by_name(value).map_err(|(name, reason)| bad("registry", &name, reason))
    }

    /// Checks and rewrites each entry of a list; a failure says what is wrong in Docker's words.
    fn checked(
        &self,
        name: &'static str,
        check: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<String>, ConfigError> {
        let check = |text: &String| check(text).map_err(|reason| bad(name, text, reason));
        self.list(name).iter().map(check).collect()
    }

    fn runtimes(&self) -> Result<IndexMap<String, ForeignRuntime>, ConfigError> {
        match self.0.get("add-runtime") {
            Some(Setting::List(entries)) => entries
                .iter()
                .map(|entry| {
                    let (name, path) = entry.split_once('=').ok_or_else(|| ConfigError::BadRuntime(entry.clone()))?;
                    foreign_runtime(name, &Value::String(path.to_owned()), &Value::Null)
                })
                .collect(),
            Some(Setting::Object(Value::Object(map))) => map
                .iter()
                .map(|(name, runtime)| {
                    for key in ["runtimeType", "options"] {
                        if runtime.get(key).is_some_and(|value| !value.is_null()) {
                            return Err(ConfigError::NotImplemented {
                                name: format!("runtimes.{name}.{key}"),
                                value: runtime[key].to_string(),
                            });
                        }
                    }
                    foreign_runtime(name, &runtime["path"], &runtime["runtimeArgs"])
                })
                .collect(),
            _ => Ok(IndexMap::new()),
        }
    }

    /// As in Docker, `tlsverify` is TLS as well, and files that are not named lie where the client's do.
    fn tls(&self) -> Option<TlsFiles> {
        let verifies = self.flag("tlsverify", false);
        if !verifies && !self.flag("tls", false) {
            return None;
        }
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker");
        let folder = std::env::var_os("DOCKER_CERT_PATH").map_or_else(home, PathBuf::from);
        let file = |name: &str, default: &str| self.optional(name).map_or_else(|| folder.join(default), PathBuf::from);
        Some(TlsFiles {
            client_authority: verifies.then(|| file("tlscacert", "ca.pem")),
            certificate: file("tlscert", "cert.pem"),
            key: file("tlskey", "key.pem"),
        })
    }

    fn seccomp(&self) -> Result<SeccompDefault, ConfigError> {
        let path = self.text("seccomp-profile", "builtin");
        match path.as_str() {
            // `default` is what Docker said before version 22.
            "builtin" | "default" => Ok(SeccompDefault::Builtin),
            "unconfined" => Ok(SeccompDefault::Unconfined),
            _ => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    bad("seccomp-profile", &path, format!("opening seccomp profile ({path}) failed: {error}"))
                })?;
                Ok(SeccompDefault::Custom { path, text })
            }
        }
    }

    fn ulimits(&self) -> Result<Vec<(String, i64, i64)>, ConfigError> {
        match self.0.get("default-ulimit") {
            Some(Setting::List(entries)) => entries
                .iter()
                .map(|entry| ulimit(entry).ok_or_else(|| bad("default-ulimit", entry, "expected name=soft[:hard]")))
                .collect(),
            Some(Setting::Object(Value::Object(map))) => map
                .iter()
                .map(|(key, limit)| {
                    let number = |field: &str| limit.get(field).map_or(Some(0), Value::as_i64);
                    let name = limit.get("Name").and_then(Value::as_str).unwrap_or(key).to_owned();
                    match (number("Soft"), number("Hard")) {
                        (Some(soft), Some(hard)) => Ok((name, soft, hard)),
                        _ => Err(bad("default-ulimits", key, "expected numbers for Soft and Hard")),
                    }
                })
                .collect(),
            _ => Ok(Vec::new()),
        }
    }
}

pub(super) fn bad(name: &'static str, value: &str, reason: impl std::fmt::Display) -> ConfigError {
    ConfigError::BadValue { name, value: value.to_owned(), reason: reason.to_string() }
}

fn foreign_runtime(name: &str, path: &Value, arguments: &Value) -> Result<(String, ForeignRuntime), ConfigError> {
    if OWN_RUNTIMES[0] == name {
        return Err(bad("runtimes", name, "the name is that of ferry's own runtime"));
    }
    let path = path.as_str().filter(|path| !path.is_empty()).ok_or_else(|| bad("runtimes", name, "it has no path"))?;
    let args = match arguments {
        Value::Null => Vec::new(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| bad("runtimes", name, "runtimeArgs wants a list of strings"))?,
        _ => return Err(bad("runtimes", name, "runtimeArgs wants a list of strings")),
    };
    Ok((name.to_owned(), ForeignRuntime { path: path.into(), args }))
}

fn ulimit(entry: &str) -> Option<(String, i64, i64)> {
    let (name, limits) = entry.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Some((name.to_owned(), soft.parse().ok()?, hard.parse().ok()?))
}

/// Reads `64m`, `1.5g`, `1024`, `64MiB`; units are powers of 1024.
pub(super) fn ram_in_bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    // Beyond 2^53 a size in floating point is no size any more.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
    (bytes <= 9_007_199_254_740_992.0).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config(document: &str) -> Result<Config, ConfigError> {
        resolve(&parse::file(document)?, Vec::new())
    }

    #[test]
    fn defaults_are_ferry_s() {
        let config = config("{}").unwrap();
        assert_eq!(config.hosts, [Address::Unix("/run/ferry.sock".into())]);
        assert_eq!(config.pidfile, PathBuf::from("/run/ferry/ferryd.pid"));
        assert!(config.engine.live.get().live_restore && config.engine.bridge.icc && !config.engine.init);
        assert_eq!(config.engine.bridge.name, "ferry0");
        assert_eq!(config.engine.live.get().default_shm_size_bytes, 64 << 20);
        assert_eq!(config.engine.live.get().shutdown_timeout_s, 15);
    }

    #[test]
    fn values_are_passed_on() {
        let config = config(
            r#"{"bip": "10.1.0.1/24", "exec-root": "/run/x", "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
                "runtimes": {"crun": {"path": "/usr/bin/crun", "runtimeArgs": ["--debug"]}}, "default-runtime": "crun",
                "proxies": {"http-proxy": "http://p:1"}, "log-opts": {"max-size": "1m"}, "default-shm-size": "128M"}"#,
        )
        .unwrap();
        assert_eq!(config.pidfile, PathBuf::from("/run/x/ferryd.pid"));
        let engine = config.engine;
        assert_eq!(engine.bridge.bip.unwrap().to_string(), "10.1.0.1/24");
        assert_eq!(engine.default_ulimits, [("nofile".to_owned(), 1, 2)]);
        assert_eq!(engine.live.get().runtimes["crun"].args, ["--debug"]);
        assert_eq!(engine.proxies.http.as_deref(), Some("http://p:1"));
        assert_eq!(
            (engine.log_options["max-size"].as_str(), engine.live.get().default_shm_size_bytes),
            ("1m", 128 << 20)
        );
    }

    #[test]
    fn bad_values_are_named() {
        for (document, text) in [
            (r#"{"bip": "10.1.0.300/24"}"#, "invalid value `10.1.0.300/24` for option `bip`: "),
            (r#"{"log-level": "loud"}"#, "invalid value `loud` for option `log-level`: invalid logging level: loud"),
            (
                r#"{"default-runtime": "x"}"#,
                "invalid value `x` for option `default-runtime`: specified default runtime 'x' does not exist",
            ),
            (r#"{"runtimes": {"x": {"runtimeType": "io.x"}}}"#, "not implemented: option `runtimes.x.runtimeType`"),
            (r#"{"mtu": -1}"#, "invalid value `-1` for option `mtu`: invalid default MTU: -1"),
            (r#"{"labels": ["x"]}"#, "invalid value `x` for option `label`: expected key=value"),
            (r#"{"hosts": ["x"]}"#, "bad format x, expected PROTO://ADDR"),
        ] {
            let error = config(document).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }

    #[test]
    fn a_reload_changes_what_the_file_says() {
        let before = Live {
            labels: vec!["a=b".into()],
            shutdown_timeout_s: 3,
            max_concurrent_downloads: 9,
            default_runtime: "ferry".into(),
            ..Live::default()
        };
        let file = parse::file(r#"{"debug": true, "labels": ["c=d"], "default-shm-size": "1m"}"#).unwrap();
        let (live, level) = reload(&before, &file, &file).unwrap();
        assert_eq!((live.debug, level.as_str(), live.default_shm_size_bytes), (true, "debug", 1 << 20));
        assert_eq!((live.labels.as_slice(), live.shutdown_timeout_s), (&["c=d".to_owned()][..], 3));
        assert_eq!(live.max_concurrent_downloads, 3);
        let bad = parse::file(r#"{"default-runtime": "x"}"#).unwrap();
        assert!(reload(&before, &bad, &bad).is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(ram_in_bytes("64m"), Some(64 << 20));
        assert_eq!(ram_in_bytes("1.5 GiB"), Some(3 << 29));
        assert_eq!(ram_in_bytes("1024"), Some(1024));
        assert_eq!(ram_in_bytes("x"), None);
        assert_eq!(ram_in_bytes("9e9"), None);
    }
}
