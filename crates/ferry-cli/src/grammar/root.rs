//! The root of the command tree: groups, top-level order, global options, and what is known but not built.

use super::{
    Flag, Group,
    Kind::{Bool, List, Text},
    flag,
};

/// Options before the command.
pub(crate) static GLOBAL: &[Flag] = &[
    flag("config", '\0', Text, "string", "Location of client config files (default \"{config}\")"),
    flag(
        "context",
        'c',
        Text,
        "string",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    ),
    flag("debug", 'D', Bool, "", "Enable debug mode"),
    flag("host", 'H', List, "list", "Daemon socket to connect to"),
    flag(
        "log-level",
        'l',
        Text,
        "string",
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\") (default \"info\")",
    ),
    flag("tls", '\0', Bool, "", "Use TLS; implied by --tlsverify"),
    flag("tlscacert", '\0', Text, "string", "Trust certs signed only by this CA (default \"{config}/ca.pem\")"),
    flag("tlscert", '\0', Text, "string", "Path to TLS certificate file (default \"{config}/cert.pem\")"),
    flag("tlskey", '\0', Text, "string", "Path to TLS key file (default \"{config}/key.pem\")"),
    flag("tlsverify", '\0', Bool, "", "Use TLS and verify the remote"),
    flag("version", 'v', Bool, "", "Print version information and quit"),
];

/// Groups, sorted.
pub(crate) static GROUPS: &[Group] = &[
    Group { name: "builder", short: "Manage builds" },
    Group { name: "buildx", short: "Docker Buildx" },
    Group { name: "container", short: "Manage containers" },
    Group { name: "context", short: "Manage contexts" },
    Group { name: "image", short: "Manage images" },
    Group { name: "manifest", short: "Manage Docker image manifests and manifest lists" },
    Group { name: "network", short: "Manage networks" },
    Group { name: "plugin", short: "Manage plugins" },
    Group { name: "system", short: "Manage Docker" },
    Group { name: "volume", short: "Manage volumes" },
];

/// The commands that the root help lists first, in its order.
pub(crate) static COMMON: &[&str] =
    &["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// The other top-level commands that the root help lists.
pub(crate) static TOP_LEVEL: &[&str] = &[
    "attach", "commit", "cp", "create", "diff", "events", "export", "history", "import", "inspect", "kill", "load",
    "logs", "pause", "port", "rename", "restart", "rm", "rmi", "save", "start", "stats", "stop", "tag", "top",
    "unpause", "update", "wait",
];

/// Commands that Docker does not have: its client's help does not list them.
pub(crate) static OWN: &[&str] = &[
    "container why",
    "doctor",
    "image explore",
    "network flows",
    "ports",
    "prune",
    "volume cp",
    "volume du",
    "volume export",
    "volume import",
    "volume mv",
    "volume snapshot",
    "volume used-by",
    "why",
];

/// Commands of Docker's client that are not built.
pub(crate) static NOT_BUILT: &[&str] = &[
    "checkpoint",
    "checkpoint create",
    "checkpoint list",
    "checkpoint ls",
    "checkpoint remove",
    "checkpoint rm",
    "config",
    "config create",
    "config inspect",
    "config list",
    "config ls",
    "config remove",
    "config rm",
    "node",
    "node demote",
    "node inspect",
    "node list",
    "node ls",
    "node promote",
    "node ps",
    "node remove",
    "node rm",
    "node update",
    "secret",
    "secret create",
    "secret inspect",
    "secret list",
    "secret ls",
    "secret remove",
    "secret rm",
    "service",
    "service create",
    "service inspect",
    "service list",
    "service logs",
    "service ls",
    "service ps",
    "service remove",
    "service rm",
    "service rollback",
    "service scale",
    "service update",
    "stack",
    "stack config",
    "stack deploy",
    "stack down",
    "stack list",
    "stack ls",
    "stack ps",
    "stack remove",
    "stack rm",
    "stack services",
    "stack up",
    "swarm",
    "swarm ca",
    "swarm init",
    "swarm join",
    "swarm join-token",
    "swarm leave",
    "swarm unlock",
    "swarm unlock-key",
    "swarm update",
    "system dial-stdio",
    "trust",
    "trust inspect",
    "trust key",
    "trust key generate",
    "trust key load",
    "trust revoke",
    "trust sign",
    "trust signer",
    "trust signer add",
    "trust signer remove",
];
