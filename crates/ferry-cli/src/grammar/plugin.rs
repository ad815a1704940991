//! The words of the `plugin` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Int, List, Text},
    flag, hidden,
};

/// `plugin create`
pub(crate) static PLUGIN_CREATE: Command = Command {
    path: "plugin create",
    paths: &["plugin create"],
    tail: "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
    short: "Create a plugin from a rootfs and configuration. Plugin data directory must contain config.json and rootfs directory.",
    long: "",
    args: Args::AtLeast(2),
    options_first: false,
    flags: &[flag("compress", '\0', Bool, "", "Compress the context using gzip")],
};

/// `plugin disable`
pub(crate) static PLUGIN_DISABLE: Command = Command {
    path: "plugin disable",
    paths: &["plugin disable"],
    tail: "[OPTIONS] PLUGIN",
    short: "Disable a plugin",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Force the disable of an active plugin")],
};

/// `plugin enable`
pub(crate) static PLUGIN_ENABLE: Command = Command {
    path: "plugin enable",
    paths: &["plugin enable"],
    tail: "[OPTIONS] PLUGIN",
    short: "Enable a plugin",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag("timeout", '\0', Int, "int", "HTTP client timeout (in seconds) (default 30)")],
};

/// `plugin inspect`
pub(crate) static PLUGIN_INSPECT: Command = Command {
    path: "plugin inspect",
    paths: &["plugin inspect"],
    tail: "[OPTIONS] PLUGIN [PLUGIN...]",
    short: "Display detailed information on one or more plugins",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag(
        "format",
        'f',
        Text,
        "string",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )],
};

/// `plugin install`
pub(crate) static PLUGIN_INSTALL: Command = Command {
    path: "plugin install",
    paths: &["plugin install"],
    tail: "[OPTIONS] PLUGIN [KEY=VALUE...]",
    short: "Install a plugin",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("alias", '\0', Text, "string", "Local name for plugin"),
        flag("disable", '\0', Bool, "", "Do not enable the plugin on install"),
        hidden("disable-content-trust", Bool, ""),
        flag("grant-all-permissions", '\0', Bool, "", "Grant all permissions necessary to run the plugin"),
    ],
};

/// `plugin ls`
pub(crate) static PLUGIN_LS: Command = Command {
    path: "plugin ls",
    paths: &["plugin ls", "plugin list"],
    tail: "[OPTIONS]",
    short: "List plugins",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", 'f', List, "filter", "Provide filter values (e.g. \"enabled=true\")"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
        flag("quiet", 'q', Bool, "", "Only display plugin IDs"),
    ],
};

/// `plugin push`
pub(crate) static PLUGIN_PUSH: Command = Command {
    path: "plugin push",
    paths: &["plugin push"],
    tail: "[OPTIONS] PLUGIN[:TAG]",
    short: "Push a plugin to a registry",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[hidden("disable-content-trust", Bool, "")],
};

/// `plugin rm`
pub(crate) static PLUGIN_RM: Command = Command {
    path: "plugin rm",
    paths: &["plugin rm", "plugin remove"],
    tail: "[OPTIONS] PLUGIN [PLUGIN...]",
    short: "Remove one or more plugins",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Force the removal of an active plugin")],
};

/// `plugin set`
pub(crate) static PLUGIN_SET: Command = Command {
    path: "plugin set",
    paths: &["plugin set"],
    tail: "PLUGIN KEY=VALUE [KEY=VALUE...]",
    short: "Change settings for a plugin",
    long: "",
    args: Args::AtLeast(2),
    options_first: false,
    flags: &[],
};

/// `plugin upgrade`
pub(crate) static PLUGIN_UPGRADE: Command = Command {
    path: "plugin upgrade",
    paths: &["plugin upgrade"],
    tail: "[OPTIONS] PLUGIN [REMOTE]",
    short: "Upgrade an existing plugin",
    long: "",
    args: Args::Between(1, 2),
    options_first: false,
    flags: &[
        hidden("disable-content-trust", Bool, ""),
        flag("grant-all-permissions", '\0', Bool, "", "Grant all permissions necessary to run the plugin"),
        flag(
            "skip-remote-check",
            '\0',
            Bool,
            "",
            "Do not check if specified remote plugin matches existing plugin image",
        ),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &PLUGIN_CREATE,
    &PLUGIN_DISABLE,
    &PLUGIN_ENABLE,
    &PLUGIN_INSPECT,
    &PLUGIN_INSTALL,
    &PLUGIN_LS,
    &PLUGIN_PUSH,
    &PLUGIN_RM,
    &PLUGIN_SET,
    &PLUGIN_UPGRADE,
];
