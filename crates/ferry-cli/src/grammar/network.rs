//! The words of the `network` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Int, List, Map, Strings, Text},
    flag,
};

/// `network ls`
pub(crate) static NETWORK_LS: Command = Command {
    path: "network ls",
    paths: &["network ls", "network list"],
    tail: "[OPTIONS]",
    short: "List networks",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", 'f', List, "filter", "Provide filter values (e.g. \"driver=bridge\")"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("no-trunc", '\0', Bool, "", "Do not truncate the output"),
        flag("quiet", 'q', Bool, "", "Only display network IDs"),
    ],
};

/// `ports`
pub(crate) static PORTS: Command = Command {
    path: "ports",
    paths: &["ports"],
    tail: "[OPTIONS]",
    short: "List published ports and who can reach them",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("audit", '\0', Bool, "", "Tell what the host's own firewall (ufw, firewalld) believes of each port"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'",
        ),
    ],
};

/// `network flows`
pub(crate) static NETWORK_FLOWS: Command = Command {
    path: "network flows",
    paths: &["network flows", "net flows"],
    tail: "[OPTIONS] CONTAINER",
    short: "Show what a container was allowed to reach and refused",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag(
        "format",
        '\0',
        Text,
        "string",
        "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'",
    )],
};

/// `network inspect`
pub(crate) static NETWORK_INSPECT: Command = Command {
    path: "network inspect",
    paths: &["network inspect"],
    tail: "[OPTIONS] NETWORK [NETWORK...]",
    short: "Display detailed information on one or more networks",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag(
            "format",
            'f',
            Text,
            "string",
            "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("verbose", 'v', Bool, "", "Verbose output for diagnostics"),
    ],
};

/// `network create`
pub(crate) static NETWORK_CREATE: Command = Command {
    path: "network create",
    paths: &["network create"],
    tail: "[OPTIONS] NETWORK",
    short: "Create a network",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("attachable", '\0', Bool, "", "Enable manual container attachment"),
        flag(
            "aux-address",
            '\0',
            Map,
            "map",
            "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])",
        ),
        flag("config-from", '\0', Text, "string", "The network from which to copy the configuration"),
        flag("config-only", '\0', Bool, "", "Create a configuration only network"),
        flag("driver", 'd', Text, "string", "Driver to manage the Network (default \"bridge\")"),
        flag("gateway", '\0', Strings, "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        flag("ingress", '\0', Bool, "", "Create swarm routing-mesh network"),
        flag("internal", '\0', Bool, "", "Restrict external access to the network"),
        flag("ip-range", '\0', Strings, "strings", "Allocate container ip from a sub-range"),
        flag("ipam-driver", '\0', Text, "string", "IP Address Management Driver (default \"default\")"),
        flag("ipam-opt", '\0', Map, "map", "Set IPAM driver specific options (default map[])"),
        flag("ipv4", '\0', Bool, "", "Enable or disable IPv4 address assignment (default true)"),
        flag("ipv6", '\0', Bool, "", "Enable or disable IPv6 address assignment"),
        flag("label", '\0', List, "list", "Set metadata on a network"),
        flag("opt", 'o', Map, "map", "Set driver specific options (default map[])"),
        flag("scope", '\0', Text, "string", "Control the network's scope"),
        flag("subnet", '\0', Strings, "strings", "Subnet in CIDR format that represents a network segment"),
    ],
};

/// `network connect`
pub(crate) static NETWORK_CONNECT: Command = Command {
    path: "network connect",
    paths: &["network connect"],
    tail: "[OPTIONS] NETWORK CONTAINER",
    short: "Connect a container to a network",
    long: "",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[
        flag("alias", '\0', Strings, "strings", "Add network-scoped alias for the container"),
        flag("driver-opt", '\0', Strings, "strings", "driver options for the network"),
        flag(
            "gw-priority",
            '\0',
            Int,
            "int",
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        flag("ip", '\0', Text, "string", "IPv4 address (e.g., \"172.30.100.104\")"),
        flag("ip6", '\0', Text, "string", "IPv6 address (e.g., \"2001:db8::33\")"),
        flag("link", '\0', List, "list", "Add link to another container"),
        flag("link-local-ip", '\0', Strings, "strings", "Add a link-local address for the container"),
    ],
};

/// `network disconnect`
pub(crate) static NETWORK_DISCONNECT: Command = Command {
    path: "network disconnect",
    paths: &["network disconnect"],
    tail: "[OPTIONS] NETWORK CONTAINER",
    short: "Disconnect a container from a network",
    long: "",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Force the container to disconnect from a network")],
};

/// `network rm`
pub(crate) static NETWORK_RM: Command = Command {
    path: "network rm",
    paths: &["network rm", "network remove"],
    tail: "NETWORK [NETWORK...]",
    short: "Remove one or more networks",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Do not error if the network does not exist")],
};

/// `network prune`
pub(crate) static NETWORK_PRUNE: Command = Command {
    path: "network prune",
    paths: &["network prune"],
    tail: "[OPTIONS]",
    short: "Remove all unused networks",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", '\0', List, "filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &NETWORK_CONNECT,
    &NETWORK_CREATE,
    &NETWORK_DISCONNECT,
    &NETWORK_FLOWS,
    &NETWORK_INSPECT,
    &NETWORK_LS,
    &PORTS,
    &NETWORK_PRUNE,
    &NETWORK_RM,
];
