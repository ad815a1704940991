//! The words of the commands on registries: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Int, List, Text},
    flag,
};

/// `login`
pub(crate) static LOGIN: Command = Command {
    path: "login",
    paths: &["login"],
    tail: "[OPTIONS] [SERVER]",
    short: "Authenticate to a registry",
    long: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    args: Args::AtMost(1),
    options_first: false,
    flags: &[
        flag("password", 'p', Text, "string", "Password or Personal Access Token (PAT)"),
        flag("password-stdin", '\0', Bool, "", "Take the Password or Personal Access Token (PAT) from stdin"),
        flag("username", 'u', Text, "string", "Username"),
    ],
};

/// `logout`
pub(crate) static LOGOUT: Command = Command {
    path: "logout",
    paths: &["logout"],
    tail: "[SERVER]",
    short: "Log out from a registry",
    long: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    args: Args::AtMost(1),
    options_first: false,
    flags: &[],
};

/// `search`
pub(crate) static SEARCH: Command = Command {
    path: "search",
    paths: &["search"],
    tail: "[OPTIONS] TERM",
    short: "Search Docker Hub for images",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("filter", 'f', List, "filter", "Filter output based on conditions provided"),
        flag("format", '\0', Text, "string", "Pretty-print search using a Go template"),
        flag("limit", '\0', Int, "int", "Max number of search results"),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&LOGIN, &LOGOUT, &SEARCH];
