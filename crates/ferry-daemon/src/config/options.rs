//! Every option of the daemon: one long table, named as dockerd names them.

pub(crate) use super::spec::{Kind, Spec, Status};
use super::spec::{built, command, inert, short, unbuilt};

const NO_CONTAINERD: &str = "ferry needs no containerd";
const NO_PROXY_PROCESS: &str = "ferry publishes ports without a process per port";

/// The options, sorted by flag; those without a flag last.
pub(crate) const OPTIONS: &[Spec] = &[
    built("add-runtime", "runtimes", Kind::Object, "runtime", "Register an additional OCI compatible runtime"),
    built(
        "allow-direct-routing",
        "allow-direct-routing",
        Kind::Bool,
        "",
        "Allow remote access to published ports on container IP addresses",
    ),
    inert(
        "allow-nondistributable-artifacts",
        "allow-nondistributable-artifacts",
        Kind::List,
        "list",
        "it is always allowed",
        "Allow push of nondistributable artifacts to registry",
    ),
    built("authorization-plugin", "authorization-plugins", Kind::List, "list", "Authorization plugins to load"),
    built("bip", "bip", Kind::Text, "string", "IPv4 address for the default bridge"),
    built("bip6", "bip6", Kind::Text, "string", "IPv6 address for the default bridge"),
    short(
        'b',
        built(
            "bridge",
            "bridge",
            Kind::Text,
            "string",
            "Name of the default bridge; none makes none (default \"ferry0\")",
        ),
    ),
    built(
        "bridge-accept-fwmark",
        "bridge-accept-fwmark",
        Kind::Text,
        "string",
        "In bridge networks, accept packets with this firewall mark/mask",
    ),
    built("cdi-spec-dir", "cdi-spec-dirs", Kind::List, "list", "CDI specification directories to use"),
    built("cgroup-parent", "cgroup-parent", Kind::Text, "string", "Set parent cgroup for all containers"),
    command(
        "config-file",
        None,
        Kind::Text,
        "string",
        "Daemon configuration file (default \"/etc/ferry/daemon.json\")",
    ),
    inert("containerd", "containerd", Kind::Text, "string", NO_CONTAINERD, "containerd grpc address"),
    inert(
        "containerd-namespace",
        "containerd-namespace",
        Kind::Text,
        "string",
        NO_CONTAINERD,
        "Containerd namespace to use",
    ),
    inert(
        "containerd-plugins-namespace",
        "containerd-plugins-namespace",
        Kind::Text,
        "string",
        NO_CONTAINERD,
        "Containerd namespace to use for plugins",
    ),
    built("cpu-rt-period", "cpu-rt-period", Kind::Int, "int", "Limit the CPU real-time period in microseconds"),
    built("cpu-rt-runtime", "cpu-rt-runtime", Kind::Int, "int", "Limit the CPU real-time runtime in microseconds"),
    unbuilt("cri-containerd", "cri-containerd", Kind::Bool, "", &["false"], "start containerd with cri"),
    built(
        "data-root",
        "data-root",
        Kind::Text,
        "string",
        "Root directory of persistent state (default \"/var/lib/ferry\")",
    ),
    short('D', built("debug", "debug", Kind::Bool, "", "Enable debug mode")),
    built(
        "default-address-pool",
        "default-address-pools",
        Kind::Object,
        "pool-options",
        "Default address pools for node specific local networks",
    ),
    unbuilt(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Kind::Text,
        "string",
        &["private"],
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    built(
        "default-gateway",
        "default-gateway",
        Kind::Text,
        "ip",
        "Default gateway IPv4 address for the default bridge network",
    ),
    built(
        "default-gateway-v6",
        "default-gateway-v6",
        Kind::Text,
        "ip",
        "Default gateway IPv6 address for the default bridge network",
    ),
    unbuilt(
        "default-ipc-mode",
        "default-ipc-mode",
        Kind::Text,
        "string",
        &["private"],
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    ),
    built("default-network-opt", "default-network-opts", Kind::Object, "mapmap", "Default network options"),
    built("default-runtime", "default-runtime", Kind::Text, "string", "Default OCI runtime for containers"),
    built(
        "default-shm-size",
        "default-shm-size",
        Kind::Text,
        "bytes",
        "Default shm size for containers (default 64MiB)",
    ),
    unbuilt(
        "default-stop-timeout",
        "default-stop-timeout",
        Kind::Int,
        "int",
        &["10"],
        "Set the default container stop timeout in seconds (0 to terminate immediately)",
    ),
    built("default-ulimit", "default-ulimits", Kind::Object, "ulimit", "Default ulimits for containers"),
    built(
        "disk-budget",
        "disk-budget",
        Kind::Text,
        "bytes",
        "Bytes that images may take up; those unused for longest go first (default none)",
    ),
    built("dns", "dns", Kind::List, "list", "DNS server to use"),
    built("dns-opt", "dns-opts", Kind::List, "list", "DNS options to use"),
    built("dns-search", "dns-search", Kind::List, "list", "DNS search domains to use"),
    built("exec-opt", "exec-opts", Kind::List, "list", "Runtime execution options"),
    built(
        "exec-root",
        "exec-root",
        Kind::Text,
        "string",
        "Root directory for execution state files (default \"/run/ferry\")",
    ),
    unbuilt("experimental", "experimental", Kind::Bool, "", &["false"], "Enable experimental features"),
    unbuilt(
        "feature",
        "features",
        Kind::Map,
        "map",
        &["containerd-snapshotter=true", "buildkit=true", "buildkit=false"],
        "Enable feature in the daemon",
    ),
    unbuilt(
        "firewall-backend",
        "firewall-backend",
        Kind::Text,
        "string",
        &["nftables"],
        "Firewall backend to use, iptables or nftables",
    ),
    built("fixed-cidr", "fixed-cidr", Kind::Text, "string", "IPv4 subnet for the default bridge network"),
    built("fixed-cidr-v6", "fixed-cidr-v6", Kind::Text, "string", "IPv6 subnet for the default bridge network"),
    short('G', built("group", "group", Kind::Text, "string", "Group for the unix socket (default \"docker\")")),
    command("help", Some('h'), Kind::Bool, "", "Print usage"),
    short('H', built("host", "hosts", Kind::List, "list", "Daemon socket(s) to connect to")),
    built(
        "host-gateway-ip",
        "host-gateway-ips",
        Kind::List,
        "list",
        "IP addresses that the special 'host-gateway' string in --add-host resolves to",
    ),
    built("http-proxy", "", Kind::Text, "string", "HTTP proxy URL to use for outgoing traffic"),
    built("https-proxy", "", Kind::Text, "string", "HTTPS proxy URL to use for outgoing traffic"),
    built(
        "icc",
        "icc",
        Kind::Bool,
        "",
        "Enable inter-container communication for the default bridge network (default true)",
    ),
    built(
        "image-limit",
        "image-limits",
        Kind::Map,
        "map",
        "Bounds on one layer: unpacked-bytes, entries, path-depth, header-bytes, ratio, ratio-from-bytes",
    ),
    built("init", "init", Kind::Bool, "", "Run an init in the container to forward signals and reap processes"),
    unbuilt("init-path", "init-path", Kind::Text, "string", &[], "Path to the init binary"),
    built("insecure-registry", "insecure-registries", Kind::List, "list", "Enable insecure registry communication"),
    built(
        "insecure-tcp",
        "insecure-tcp",
        Kind::Bool,
        "",
        "Allow tcp:// on loopback without TLS: whoever reaches it is root",
    ),
    built(
        "ip",
        "ip",
        Kind::Text,
        "ip",
        "Host IP for port publishing from the default bridge network (default 0.0.0.0)",
    ),
    built("ip-forward", "ip-forward", Kind::Bool, "", "Enable IP forwarding in system configuration (default true)"),
    unbuilt(
        "ip-forward-no-drop",
        "ip-forward-no-drop",
        Kind::Bool,
        "",
        // ferry never sets that policy.
        &["true", "false"],
        "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
    ),
    built("ip-masq", "ip-masq", Kind::Bool, "", "Enable IP masquerading for the default bridge network (default true)"),
    built("ip6tables", "ip6tables", Kind::Bool, "", "Enable addition of IPv6 firewall rules (default true)"),
    built("iptables", "iptables", Kind::Bool, "", "Enable addition of firewall rules (default true)"),
    built("ipv6", "ipv6", Kind::Bool, "", "Enable IPv6 networking for the default bridge network"),
    built(
        "keep-blobs",
        "keep-blobs",
        Kind::Bool,
        "",
        "Keep the compressed form of layers; without it a push changes digests (default true)",
    ),
    built("label", "labels", Kind::List, "list", "Set key=value labels to the daemon"),
    built(
        "libexec-dir",
        "libexec-dir",
        Kind::Text,
        "string",
        "Directory of ferry's helper programs (default: that of ferryd)",
    ),
    built("live-restore", "live-restore", Kind::Bool, "", "Keep containers alive without the daemon (default true)"),
    built(
        "log-driver",
        "log-driver",
        Kind::Text,
        "string",
        "Default driver for container logs (default \"json-file\")",
    ),
    unbuilt("log-format", "log-format", Kind::Text, "string", &["text"], "Set the logging format (\"text\"|\"json\")"),
    short(
        'l',
        built(
            "log-level",
            "log-level",
            Kind::Text,
            "string",
            "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\") (default \"info\")",
        ),
    ),
    built("log-opt", "log-opts", Kind::Map, "map", "Default log driver options for containers"),
    built(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Kind::Int,
        "int",
        "Set the max concurrent downloads (default 3)",
    ),
    built(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Kind::Int,
        "int",
        "Set the max concurrent uploads (default 5)",
    ),
    built(
        "max-download-attempts",
        "max-download-attempts",
        Kind::Int,
        "int",
        "Set the max download attempts for each pull (default 5)",
    ),
    unbuilt(
        "metrics-addr",
        "metrics-addr",
        Kind::Text,
        "string",
        &[],
        "Set default address and port to serve the metrics api on",
    ),
    built("mtu", "mtu", Kind::Int, "int", "Set the MTU for the default \"bridge\" network"),
    inert(
        "network-control-plane-mtu",
        "network-control-plane-mtu",
        Kind::Int,
        "int",
        "it is for swarm",
        "Network Control plane MTU",
    ),
    unbuilt(
        "network-diagnostic-port",
        "network-diagnostic-port",
        Kind::Int,
        "int",
        &["0"],
        "TCP port number of the network diagnostic server",
    ),
    built(
        "no-new-privileges",
        "no-new-privileges",
        Kind::Bool,
        "",
        "Set no-new-privileges by default for new containers",
    ),
    built(
        "no-proxy",
        "",
        Kind::Text,
        "string",
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    unbuilt(
        "node-generic-resource",
        "node-generic-resources",
        Kind::List,
        "list",
        &[],
        "Advertise user-defined resource",
    ),
    unbuilt(
        "nri-opts",
        "nri-opts",
        Kind::Object,
        "nri-opts",
        &["enable=false"],
        "Node Resource Interface configuration",
    ),
    short(
        'p',
        built(
            "pidfile",
            "pidfile",
            Kind::Text,
            "string",
            "Path to use for daemon PID file (default \"/run/ferry/ferryd.pid\")",
        ),
    ),
    built("raw-logs", "raw-logs", Kind::Bool, "", "Full timestamps without ANSI coloring"),
    built("", "registry", Kind::Object, "", "Settings by registry: mirrors"),
    built("registry-mirror", "registry-mirrors", Kind::List, "list", "Preferred registry mirror"),
    built(
        "registry-timeout",
        "registry-timeout",
        Kind::Int,
        "int",
        "Seconds without progress after which a transfer from or to a registry ends (default 60)",
    ),
    short(
        'r',
        inert(
            "restart",
            "",
            Kind::Bool,
            "",
            "please use a restart policy on run",
            "Deprecated in favor of --restart policies on run",
        ),
    ),
    unbuilt("rootless", "rootless", Kind::Bool, "", &["false"], "Enable rootless mode"),
    built(
        "seccomp-profile",
        "seccomp-profile",
        Kind::Text,
        "string",
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    built("selinux-enabled", "selinux-enabled", Kind::Bool, "", "Enable selinux support"),
    built("shutdown-timeout", "shutdown-timeout", Kind::Int, "int", "Set the default shutdown timeout (default 15)"),
    short(
        's',
        unbuilt(
            "storage-driver",
            "storage-driver",
            Kind::Text,
            "string",
            &["overlay2", "overlayfs"],
            "Storage driver to use",
        ),
    ),
    unbuilt("storage-opt", "storage-opts", Kind::List, "list", &[], "Storage driver options"),
    unbuilt(
        "swarm-default-advertise-addr",
        "swarm-default-advertise-addr",
        Kind::Text,
        "string",
        &[],
        "Set default address or interface for swarm advertised address",
    ),
    built("tls", "tls", Kind::Bool, "", "Use TLS; implied by --tlsverify"),
    built("tlscacert", "tlscacert", Kind::Text, "string", "Trust certs signed only by this CA"),
    built("tlscert", "tlscert", Kind::Text, "string", "Path to TLS certificate file"),
    built("tlskey", "tlskey", Kind::Text, "string", "Path to TLS key file"),
    built("tlsverify", "tlsverify", Kind::Bool, "", "Use TLS and verify the remote"),
    inert(
        "userland-proxy",
        "userland-proxy",
        Kind::Bool,
        "",
        NO_PROXY_PROCESS,
        "Use userland proxy for loopback traffic",
    ),
    inert(
        "userland-proxy-path",
        "userland-proxy-path",
        Kind::Text,
        "string",
        NO_PROXY_PROCESS,
        "Path to the userland proxy binary",
    ),
    unbuilt("userns-remap", "userns-remap", Kind::Text, "string", &[], "User/Group setting for user namespaces"),
    command("validate", None, Kind::Bool, "", "Validate daemon configuration and exit"),
    command("version", Some('v'), Kind::Bool, "", "Print version information and quit"),
    built("", "builder", Kind::Object, "", ""),
    inert("", "deprecated-key-path", Kind::Text, "", "it is no more used", ""),
    unbuilt("", "host-gateway-ip", Kind::Text, "", &[], ""),
    unbuilt("", "min-api-version", Kind::Text, "", &["1.24"], ""),
    built("", "proxies", Kind::Object, "", ""),
];

/// Finds an option by its flag.
pub(crate) fn by_flag(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.flag == name && !name.is_empty())
}

/// Finds an option by its letter.
pub(crate) fn by_letter(letter: char) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}

/// Finds an option by its key in the file.
pub(crate) fn by_key(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.key == name && !name.is_empty())
}

/// Returns the key in the file that is spelled most like `name`, if one is near.
pub(crate) fn nearest_key(name: &str) -> Option<&'static str> {
    nearest(name, OPTIONS.iter().map(|spec| spec.key))
}

/// Returns the flag that is spelled most like `name`, if one is near.
pub(crate) fn nearest_flag(name: &str) -> Option<&'static str> {
    nearest(name, OPTIONS.iter().map(|spec| spec.flag))
}

fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let limit = 2.max(name.len() / 3);
    candidates
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let flags: Vec<&str> = OPTIONS.iter().map(|spec| spec.flag).filter(|flag| !flag.is_empty()).collect();
        let mut sorted = flags.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(flags, sorted);
        let mut keys: Vec<&str> = OPTIONS.iter().map(|spec| spec.key).filter(|key| !key.is_empty()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn near_misses_are_found() {
        assert_eq!(nearest_key("registry-mirror"), Some("registry-mirrors"));
        assert_eq!(nearest_key("dataroot"), Some("data-root"));
        assert_eq!(nearest_key("quite-something-else-entirely"), None);
        assert_eq!(nearest_flag("debgu"), Some("debug"));
    }
}
