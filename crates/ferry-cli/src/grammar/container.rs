//! The words of the `container` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Bytes, Decimal, Duration, Int, List, Text, Uint16},
    flag, hidden, own,
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
        hidden("as", Text, "string"),
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

/// `container stats`
pub(crate) static CONTAINER_STATS: Command = Command {
    path: "container stats",
    paths: &["container stats", "stats"],
    tail: "[OPTIONS] [CONTAINER...]",
    short: "Display a live stream of container(s) resource usage statistics",
    long: "",
    args: Args::Any,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Show all containers (default shows just running)"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("no-stream", '\0', Bool, "", "Disable streaming stats and only pull the first result"),
        flag("no-trunc", '\0', Bool, "", "Do not truncate output"),
    ],
};

/// `container update`: Docker's flags, and ferry's own, which take effect with the next start.
pub(crate) static CONTAINER_UPDATE: Command = Command {
    path: "container update",
    paths: &["container update", "update"],
    tail: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Update configuration of one or more containers",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag(
            "blkio-weight",
            '\0',
            Uint16,
            "uint16",
            "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
        ),
        flag("cpu-period", '\0', Int, "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
        flag("cpu-quota", '\0', Int, "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        flag("cpu-rt-period", '\0', Int, "int", "Limit the CPU real-time period in microseconds"),
        flag("cpu-rt-runtime", '\0', Int, "int", "Limit the CPU real-time runtime in microseconds"),
        flag("cpu-shares", 'c', Int, "int", "CPU shares (relative weight)"),
        flag("cpus", '\0', Decimal, "decimal", "Number of CPUs"),
        flag("cpuset-cpus", '\0', Text, "string", "CPUs in which to allow execution (0-3, 0,1)"),
        flag("cpuset-mems", '\0', Text, "string", "MEMs in which to allow execution (0-3, 0,1)"),
        own("egress", List, "list", "What the container may reach outside of its networks; \"any\" ends the rules"),
        flag("env-add", '\0', List, "list", "Add or change an environment variable at the next start"),
        flag("env-rm", '\0', List, "list", "Remove an environment variable at the next start"),
        flag("health-cmd", '\0', Text, "string", "Command to run to check health, from the next start on"),
        flag("health-interval", '\0', Duration, "duration", "Time between running the check (ms|s|m|h)"),
        flag("health-retries", '\0', Int, "int", "Consecutive failures needed to report unhealthy"),
        flag(
            "health-start-interval",
            '\0',
            Duration,
            "duration",
            "Time between running the check during the start period (ms|s|m|h)",
        ),
        flag(
            "health-start-period",
            '\0',
            Duration,
            "duration",
            "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
        ),
        flag("health-timeout", '\0', Duration, "duration", "Maximum time to allow one check to run (ms|s|m|h)"),
        flag("label-add", '\0', List, "list", "Add or change a label"),
        flag("label-rm", '\0', List, "list", "Remove a label"),
        flag("log-opt", '\0', List, "list", "Set a log driver option at the next start; an empty value removes it"),
        flag("memory", 'm', Bytes, "bytes", "Memory limit"),
        flag("memory-reservation", '\0', Bytes, "bytes", "Memory soft limit"),
        flag("memory-swap", '\0', Bytes, "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        own("net-delay", Text, "duration", "Delay what the container sends (such as 50ms) (\"none\" ends the limit)"),
        own(
            "net-in",
            Text,
            "rate",
            "Limit what each network brings to the container (such as 10mbit) (\"none\" ends the limit)",
        ),
        own(
            "net-loss",
            Text,
            "percent",
            "Lose a part of what the container sends (such as 0.5%) (\"none\" ends the limit)",
        ),
        own(
            "net-out",
            Text,
            "rate",
            "Limit what the container sends to each network (such as 10mbit) (\"none\" ends the limit)",
        ),
        flag("no-healthcheck", '\0', Bool, "", "Disable the health check from the next start on"),
        flag("pids-limit", '\0', Int, "int", "Tune container pids limit (set -1 for unlimited)"),
        flag("publish-add", '\0', List, "list", "Publish a port at the next start"),
        flag("publish-rm", '\0', List, "list", "Stop publishing a container's port (80 or 80/udp) at the next start"),
        flag("restart", '\0', Text, "string", "Restart policy to apply when a container exits"),
        hidden("kernel-memory", Bytes, "bytes"),
    ],
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
    &CONTAINER_STATS,
    &CONTAINER_UPDATE,
    &CONTAINER_PRUNE,
];
