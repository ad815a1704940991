//! The words of the `manifest` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Strings, Text},
    flag,
};

/// What the group says of itself.
pub(crate) const MANIFEST_LONG: &str = concat!(
    "The **{program} manifest** command has subcommands for managing image manifests and\n",
    "manifest lists. A manifest list allows you to use one name to refer to the same image\n",
    "built for multiple architectures.\n\n",
    "To see help for a subcommand, use:\n\n",
    "    {program} manifest CMD --help\n\n",
    "For full details on using {program} manifest lists, see the registry v2 specification.\n\n",
    "EXPERIMENTAL:\n",
    "  {program} manifest is an experimental feature.\n",
    "  Experimental features provide early access to product functionality. These\n",
    "  features may change between releases without warning, or can be removed from a\n",
    "  future release. Learn more about experimental features in our documentation:\n",
    "  https://docs.docker.com/go/experimental/"
);

macro_rules! experimental {
    ($short:literal, $path:literal) => {
        concat!(
            $short,
            "\n\nEXPERIMENTAL:\n  {program} ",
            $path,
            " is an experimental feature.\n",
            "  Experimental features provide early access to product functionality. These\n",
            "  features may change between releases without warning, or can be removed from a\n",
            "  future release. Learn more about experimental features in our documentation:\n",
            "  https://docs.docker.com/go/experimental/"
        )
    };
}

/// `manifest annotate`
pub(crate) static MANIFEST_ANNOTATE: Command = Command {
    path: "manifest annotate",
    paths: &["manifest annotate"],
    tail: "[OPTIONS] MANIFEST_LIST MANIFEST",
    short: "Add additional information to a local image manifest",
    long: experimental!("Add additional information to a local image manifest", "manifest annotate"),
    args: Args::Exactly(2),
    options_first: false,
    flags: &[
        flag("arch", '\0', Text, "string", "Set architecture"),
        flag("os", '\0', Text, "string", "Set operating system"),
        flag("os-features", '\0', Strings, "strings", "Set operating system feature"),
        flag("os-version", '\0', Text, "string", "Set operating system version"),
        flag("variant", '\0', Text, "string", "Set architecture variant"),
    ],
};

/// `manifest create`
pub(crate) static MANIFEST_CREATE: Command = Command {
    path: "manifest create",
    paths: &["manifest create"],
    tail: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    short: "Create a local manifest list for annotating and pushing to a registry",
    long: experimental!("Create a local manifest list for annotating and pushing to a registry", "manifest create"),
    args: Args::AtLeast(2),
    options_first: false,
    flags: &[
        flag("amend", 'a', Bool, "", "Amend an existing manifest list"),
        flag("insecure", '\0', Bool, "", "Allow communication with an insecure registry"),
    ],
};

/// `manifest inspect`
pub(crate) static MANIFEST_INSPECT: Command = Command {
    path: "manifest inspect",
    paths: &["manifest inspect"],
    tail: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    short: "Display an image manifest, or manifest list",
    long: experimental!("Display an image manifest, or manifest list", "manifest inspect"),
    args: Args::Between(1, 2),
    options_first: false,
    flags: &[
        flag("insecure", '\0', Bool, "", "Allow communication with an insecure registry"),
        flag("verbose", 'v', Bool, "", "Output additional info including layers and platform"),
    ],
};

/// `manifest push`
pub(crate) static MANIFEST_PUSH: Command = Command {
    path: "manifest push",
    paths: &["manifest push"],
    tail: "[OPTIONS] MANIFEST_LIST",
    short: "Push a manifest list to a repository",
    long: experimental!("Push a manifest list to a repository", "manifest push"),
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("insecure", '\0', Bool, "", "Allow push to an insecure registry"),
        flag("purge", 'p', Bool, "", "Remove the local manifest list after push"),
    ],
};

/// `manifest rm`
pub(crate) static MANIFEST_RM: Command = Command {
    path: "manifest rm",
    paths: &["manifest rm"],
    tail: "MANIFEST_LIST [MANIFEST_LIST...]",
    short: "Delete one or more manifest lists from local storage",
    long: experimental!("Delete one or more manifest lists from local storage", "manifest rm"),
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] =
    &[&MANIFEST_ANNOTATE, &MANIFEST_CREATE, &MANIFEST_INSPECT, &MANIFEST_PUSH, &MANIFEST_RM];
