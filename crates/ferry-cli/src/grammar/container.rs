//! The words of the `container` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Int, List, Text},
    flag, hidden,
};

/// `container attach`
pub(crate) static CONTAINER_ATTACH: Command = Command {
    path: "container attach",
    paths: &["container attach", "attach"],
    tail: "[OPTIONS] CONTAINER",
    short: "Attach local standard input, output, and error streams to a running container",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("detach-keys", '\0', Text, "string", "Override the key sequence for detaching a container"),
        flag("no-stdin", '\0', Bool, "", "Do not attach STDIN"),
        flag("sig-proxy", '\0', Bool, "", "Proxy all received signals to the process (default true)"),
    ],
};

/// `container exec`
pub(crate) static CONTAINER_EXEC: Command = Command {
    path: "container exec",
    paths: &["container exec", "exec"],
    tail: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    short: "Execute a command in a running container",
    long: "",
    args: Args::AtLeast(2),
    options_first: true,
    flags: &[
        flag("detach", 'd', Bool, "", "Detached mode: run command in the background"),
        flag("detach-keys", '\0', Text, "string", "Override the key sequence for detaching a container"),
        flag("env", 'e', List, "list", "Set environment variables"),
        flag("env-file", '\0', List, "list", "Read in a file of environment variables"),
        flag("interactive", 'i', Bool, "", "Keep STDIN open even if not attached"),
        flag("privileged", '\0', Bool, "", "Give extended privileges to the command"),
        flag("tty", 't', Bool, "", "Allocate a pseudo-TTY"),
        flag("user", 'u', Text, "string", "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
        flag("workdir", 'w', Text, "string", "Working directory inside the container"),
    ],
};

/// `container inspect`
pub(crate) static CONTAINER_INSPECT: Command = Command {
    path: "container inspect",
    paths: &["container inspect"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Display detailed information on one or more containers",
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
        flag("size", 's', Bool, "", "Display total file sizes"),
    ],
};

/// `container kill`
pub(crate) static CONTAINER_KILL: Command = Command {
    path: "container kill",
    paths: &["container kill", "kill"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Kill one or more running containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("signal", 's', Text, "string", "Signal to send to the container")],
};

/// `container logs`
pub(crate) static CONTAINER_LOGS: Command = Command {
    path: "container logs",
    paths: &["container logs", "logs"],
    tail: "[OPTIONS] CONTAINER",
    short: "Fetch the logs of a container",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("details", '\0', Bool, "", "Show extra details provided to logs"),
        flag("follow", 'f', Bool, "", "Follow log output"),
        flag(
            "since",
            '\0',
            Text,
            "string",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        flag("tail", 'n', Text, "string", "Number of lines to show from the end of the logs (default \"all\")"),
        flag("timestamps", 't', Bool, "", "Show timestamps"),
        flag(
            "until",
            '\0',
            Text,
            "string",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
    ],
};

/// `container ls`
pub(crate) static CONTAINER_LS: Command = Command {
    path: "container ls",
    paths: &["container ls", "container list", "container ps", "ps"],
    tail: "[OPTIONS]",
    short: "List containers",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Show all containers (default shows just running)"),
        flag("filter", 'f', List, "filter", "Filter output based on conditions provided"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("last", 'n', Int, "int", "Show n last created containers (includes all states) (default -1)"),
        flag("latest", 'l', Bool, "", "Show the latest created container (includes all states)"),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
        flag("quiet", 'q', Bool, "", "Only display container IDs"),
        flag("size", 's', Bool, "", "Display total file sizes"),
    ],
};

/// `container port`
pub(crate) static CONTAINER_PORT: Command = Command {
    path: "container port",
    paths: &["container port", "port"],
    tail: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    short: "List port mappings or a specific mapping for the container",
    long: "",
    args: Args::Between(1, 2),
    options_first: false,
    flags: &[],
};

/// `container restart`
pub(crate) static CONTAINER_RESTART: Command = Command {
    path: "container restart",
    paths: &["container restart", "restart"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Restart one or more containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("signal", 's', Text, "string", "Signal to send to the container"),
        flag("timeout", 't', Int, "int", "Seconds to wait before killing the container"),
        hidden("time", Int, "int"),
    ],
};

/// `container rm`
pub(crate) static CONTAINER_RM: Command = Command {
    path: "container rm",
    paths: &["container rm", "container remove", "rm", "remove"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Remove one or more containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("force", 'f', Bool, "", "Force the removal of a running container (uses SIGKILL)"),
        flag("link", 'l', Bool, "", "Remove the specified link"),
        flag("volumes", 'v', Bool, "", "Remove anonymous volumes associated with the container"),
    ],
};

/// `container start`
pub(crate) static CONTAINER_START: Command = Command {
    path: "container start",
    paths: &["container start", "start"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Start one or more stopped containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("attach", 'a', Bool, "", "Attach STDOUT/STDERR and forward signals"),
        flag("checkpoint", '\0', Text, "string", "Restore from this checkpoint"),
        flag("checkpoint-dir", '\0', Text, "string", "Use a custom checkpoint storage directory"),
        flag("detach-keys", '\0', Text, "string", "Override the key sequence for detaching a container"),
        flag("interactive", 'i', Bool, "", "Attach container's STDIN"),
    ],
};

/// `container stop`
pub(crate) static CONTAINER_STOP: Command = Command {
    path: "container stop",
    paths: &["container stop", "stop"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Stop one or more running containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("signal", 's', Text, "string", "Signal to send to the container"),
        flag("timeout", 't', Int, "int", "Seconds to wait before killing the container"),
        hidden("time", Int, "int"),
    ],
};

/// `container wait`
pub(crate) static CONTAINER_WAIT: Command = Command {
    path: "container wait",
    paths: &["container wait", "wait"],
    tail: "CONTAINER [CONTAINER...]",
    short: "Block until one or more containers stop, then print their exit codes",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[],
};

/// `container why`
pub(crate) static CONTAINER_WHY: Command = Command {
    path: "container why",
    paths: &["container why", "why"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Tell why a container ended, failed to start, or is unwell",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("format", 'f', Text, "string", "Format of the output (\"json\")")],
};

/// `container rename`
pub(crate) static CONTAINER_RENAME: Command = Command {
    path: "container rename",
    paths: &["container rename", "rename"],
    tail: "CONTAINER NEW_NAME",
    short: "Rename a container",
    long: "",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[],
};

/// `container pause`
pub(crate) static CONTAINER_PAUSE: Command = Command {
    path: "container pause",
    paths: &["container pause", "pause"],
    tail: "CONTAINER [CONTAINER...]",
    short: "Pause all processes within one or more containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[],
};

/// `container unpause`
pub(crate) static CONTAINER_UNPAUSE: Command = Command {
    path: "container unpause",
    paths: &["container unpause", "unpause"],
    tail: "CONTAINER [CONTAINER...]",
    short: "Unpause all processes within one or more containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[],
};

/// `container top`
pub(crate) static CONTAINER_TOP: Command = Command {
    path: "container top",
    paths: &["container top", "top"],
    tail: "CONTAINER [ps OPTIONS]",
    short: "Display the running processes of a container",
    long: "",
    args: Args::AtLeast(1),
    options_first: true,
    flags: &[],
};

/// `container prune`
pub(crate) static CONTAINER_PRUNE: Command = Command {
    path: "container prune",
    paths: &["container prune"],
    tail: "[OPTIONS]",
    short: "Remove all stopped containers",
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
    &CONTAINER_ATTACH,
    &CONTAINER_EXEC,
    &CONTAINER_INSPECT,
    &CONTAINER_KILL,
    &CONTAINER_LOGS,
    &CONTAINER_LS,
    &CONTAINER_PORT,
    &CONTAINER_RESTART,
    &CONTAINER_RM,
    &CONTAINER_START,
    &CONTAINER_STOP,
    &CONTAINER_WAIT,
    &CONTAINER_WHY,
    &CONTAINER_RENAME,
    &CONTAINER_PAUSE,
    &CONTAINER_UNPAUSE,
    &CONTAINER_TOP,
    &CONTAINER_PRUNE,
];
