//! The words of building: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::buildx::{BUILDER, DEBUG};
use super::{
    Args, Command, Flag,
    Kind::{Bool, Bytes, List, Strings, Text},
    flag, hidden, own,
};

const PROGRESS: Flag = flag(
    "progress",
    '\0',
    Text,
    "string",
    "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\"). Use plain to show container output (default \"auto\")",
);

/// `image build`
pub(crate) static IMAGE_BUILD: Command = Command {
    path: "image build",
    paths: &["image build", "build", "builder build", "buildx build", "buildx b"],
    tail: "[OPTIONS] PATH | URL | -",
    short: "Build an image from a Dockerfile",
    long: "Start a build",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("add-host", '\0', List, "strings", "Add a custom host-to-IP mapping (format: \"host:ip\")"),
        flag(
            "allow",
            '\0',
            List,
            "stringArray",
            "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\", \"device\")",
        ),
        flag("annotation", '\0', List, "stringArray", "Add annotation to the image"),
        flag("attest", '\0', List, "stringArray", "Attestation parameters (format: \"type=sbom,generator=image\")"),
        flag("build-arg", '\0', List, "stringArray", "Set build-time variables"),
        flag("build-context", '\0', List, "stringArray", "Additional build contexts (e.g., name=path)"),
        BUILDER,
        flag(
            "cache-from",
            '\0',
            List,
            "stringArray",
            "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
        ),
        flag(
            "cache-to",
            '\0',
            List,
            "stringArray",
            "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
        ),
        flag(
            "call",
            '\0',
            Text,
            "string",
            "Set method for evaluating build (\"check\", \"outline\", \"targets\") (default \"build\")",
        ),
        flag("cgroup-parent", '\0', Text, "string", "Set the parent cgroup for the \"RUN\" instructions during build"),
        flag("check", '\0', Bool, "", "Shorthand for \"--call=check\""),
        hidden("compress", Bool, ""),
        hidden("cpu-period", Text, "string"),
        hidden("cpu-quota", Text, "string"),
        Flag { short: 'c', ..hidden("cpu-shares", Text, "string") },
        hidden("cpuset-cpus", Text, "string"),
        hidden("cpuset-mems", Text, "string"),
        DEBUG,
        hidden("disable-content-trust", Bool, ""),
        flag("file", 'f', Text, "string", "Name of the Dockerfile (default: \"PATH/Dockerfile\")"),
        hidden("force-rm", Bool, ""),
        flag("iidfile", '\0', Text, "string", "Write the image ID to a file"),
        hidden("isolation", Text, "string"),
        flag("label", '\0', List, "stringArray", "Set metadata for an image"),
        flag("load", '\0', Bool, "", "Shorthand for \"--output=type=docker\""),
        Flag { short: 'm', ..hidden("memory", Bytes, "bytes") },
        hidden("memory-swap", Bytes, "bytes"),
        flag("metadata-file", '\0', Text, "string", "Write build result metadata to a file"),
        flag(
            "network",
            '\0',
            Text,
            "string",
            "Set the networking mode for the \"RUN\" instructions during build (default \"default\")",
        ),
        flag("no-cache", '\0', Bool, "", "Do not use cache when building the image"),
        flag("no-cache-filter", '\0', Strings, "stringArray", "Do not cache specified stages"),
        flag("output", 'o', List, "stringArray", "Output destination (format: \"type=local,dest=path\")"),
        flag("platform", '\0', Strings, "stringArray", "Set target platform for build"),
        hidden("print", Text, "string"),
        PROGRESS,
        flag(
            "policy",
            '\0',
            List,
            "stringArray",
            "Policy configuration (format: \"filename=path[,filename=path][,reset=true|false][,disabled=true|false][,strict=true|false][,log-level=level]\")",
        ),
        flag("provenance", '\0', Text, "string", "Shorthand for \"--attest=type=provenance\""),
        flag("pull", '\0', Bool, "", "Always attempt to pull all referenced images"),
        flag("push", '\0', Bool, "", "Shorthand for \"--output=type=registry,unpack=false\""),
        flag("quiet", 'q', Bool, "", "Suppress the build output and print image ID on success"),
        flag(
            "resource",
            '\0',
            List,
            "stringArray",
            "Resource limits of the \"RUN\" instructions (format: \"memory=1g,cpu-shares=512\")",
        ),
        hidden("rm", Bool, ""),
        flag("sbom", '\0', Text, "string", "Shorthand for \"--attest=type=sbom\""),
        flag(
            "secret",
            '\0',
            List,
            "stringArray",
            "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
        ),
        hidden("security-opt", List, "strings"),
        flag("shm-size", '\0', Bytes, "bytes", "Shared memory size for build containers"),
        hidden("squash", Bool, ""),
        flag(
            "ssh",
            '\0',
            List,
            "stringArray",
            "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>|<key>[,<key>]]\")",
        ),
        flag("tag", 't', List, "stringArray", "Image identifier (format: \"[registry/]repository[:tag]\")"),
        flag("target", '\0', Text, "string", "Set the target build stage to build"),
        flag("ulimit", '\0', List, "ulimit", "Ulimit options (default [])"),
        own("expand", Bool, "", "Print the Dockerfile with everything resolved, and build nothing"),
        own("explain", Bool, "", "Say for each step why it was not cached"),
        own("on-error", Text, "string", "What to do when a step fails (\"shell\" opens a shell in it)"),
        Flag {
            short: 'v',
            ..own("volume", List, "list", "Bind mount a folder of the host into steps (HOST:PATH[:ro])")
        },
    ],
};

/// `buildx bake`
pub(crate) static BAKE: Command = Command {
    path: "buildx bake",
    paths: &["buildx bake", "buildx f", "bake"],
    tail: "[OPTIONS] [TARGET...]",
    short: "Build from a file",
    long: "",
    args: Args::Any,
    options_first: false,
    flags: &[
        flag("allow", '\0', List, "stringArray", "Allow build to access specified resources"),
        BUILDER,
        flag(
            "call",
            '\0',
            Text,
            "string",
            "Set method for evaluating build (\"check\", \"outline\", \"targets\") (default \"build\")",
        ),
        flag("check", '\0', Bool, "", "Shorthand for \"--call=check\""),
        DEBUG,
        flag("file", 'f', List, "stringArray", "Build definition file"),
        flag("list", '\0', Text, "string", "List targets or variables"),
        hidden("list-targets", Bool, ""),
        hidden("list-variables", Bool, ""),
        flag("load", '\0', Bool, "", "Shorthand for \"--set=*.output=type=docker\". Conditional."),
        flag("metadata-file", '\0', Text, "string", "Write build result metadata to a file"),
        flag("no-cache", '\0', Bool, "", "Do not use cache when building the image"),
        flag(
            "policy",
            '\0',
            List,
            "stringArray",
            "Additional policy configuration (format: \"filename=path[,filename=path][,reset=true|false][,strict=true|false]\")",
        ),
        flag("print", '\0', Bool, "", "Print the options without building"),
        PROGRESS,
        flag("provenance", '\0', Text, "string", "Shorthand for \"--set=*.attest=type=provenance\""),
        flag("pull", '\0', Bool, "", "Always attempt to pull all referenced images"),
        flag("push", '\0', Bool, "", "Shorthand for \"--set=*.output=type=registry\". Conditional."),
        flag("sbom", '\0', Text, "string", "Shorthand for \"--set=*.attest=type=sbom\""),
        flag("set", '\0', List, "stringArray", "Override target value (e.g., \"targetpattern.key=value\")"),
        flag("var", '\0', List, "stringArray", "Set a variable value (e.g., \"name=value\")"),
        own("on-error", Text, "string", "What to do when a step fails (\"shell\" opens a shell in it)"),
    ],
};

/// `builder prune`
pub(crate) static BUILDER_PRUNE: Command = Command {
    path: "builder prune",
    paths: &["builder prune"],
    tail: "[OPTIONS]",
    short: "Remove build cache",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Remove all unused build cache, not just dangling ones"),
        flag("filter", '\0', List, "filter", "Provide filter values (e.g. \"until=24h\")"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
        flag("keep-storage", '\0', Bytes, "bytes", "Amount of disk space to keep for cache"),
        own("max-used-space", Bytes, "bytes", "Maximum amount of disk space allowed to keep for cache"),
        own("min-free-space", Bytes, "bytes", "Target amount of free disk space after pruning"),
        own("reserved-space", Bytes, "bytes", "Amount of disk space always allowed to keep for cache"),
    ],
};

/// `builder du`
pub(crate) static BUILDER_DU: Command = Command {
    path: "builder du",
    paths: &["builder du"],
    tail: "",
    short: "Disk usage",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", '\0', List, "filter", "Provide filter values"),
        flag("format", '\0', Text, "string", "Format the output"),
        flag("verbose", '\0', Bool, "", "Shorthand for \"--format=pretty\""),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&IMAGE_BUILD, &BAKE, &BUILDER_PRUNE, &BUILDER_DU];
