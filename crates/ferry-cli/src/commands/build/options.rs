//! From flags to a request. Pure, but for the environment that build arguments and secrets name.

use std::collections::BTreeMap;

use ferry_api::container::Ulimit;
use ferry_api::context::directory_of;
use ferry_client::BuildQuery;
use ferry_spec::reference::Reference;

use super::outputs::{self, Output};
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote, parse_bool, parse_bytes};

/// Where the context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory.
    Folder(String),
    /// An archive, or a Dockerfile alone, on standard input.
    Stdin,
    /// Something the daemon fetches.
    Remote(String),
}

/// What to do with the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    Auto,
    Plain,
    Terminal,
    Quiet,
    Raw,
}

impl Progress {
    /// By its word; empty is `auto`.
    pub(in crate::commands) fn named(word: &str) -> Result<Self> {
        match word {
            "" | "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Terminal),
            "quiet" | "none" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::Raw),
            other => Err(Failure::new(format!("ERROR: invalid progress mode {other}"))),
        }
    }
}

/// A build, as asked for.
#[derive(Debug)]
pub(crate) struct BuildOptions {
    pub(crate) source: Source,
    /// `-f`; `-` is standard input.
    pub(crate) file: Option<String>,
    pub(crate) progress: Progress,
    pub(crate) query: BuildQuery,
    /// Further directories, by name.
    pub(crate) folders: Vec<(String, String)>,
    /// Secrets: id, and where from.
    pub(crate) secrets: Vec<(String, SecretSource)>,
    /// SSH agents: id, and the socket; empty is the one of the environment.
    pub(crate) agents: Vec<(String, String)>,
    pub(crate) outputs: Vec<Output>,
    /// It was said that no policy is to be asked.
    pub(crate) is_without_policy: bool,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(String),
    Variable(String),
}

/// Reads the flags.
pub(crate) fn to_options(parsed: &Parsed, variable: &dyn Fn(&str) -> Option<String>) -> Result<BuildOptions> {
    refuse_unbuilt(parsed)?;
    let word = parsed.text("progress").map(str::to_owned).or_else(|| variable("BUILDKIT_PROGRESS"));
    let progress = Progress::named(word.as_deref().unwrap_or_default())?;
    let progress = if parsed.on("quiet") { Progress::Quiet } else { progress };
    check_rights(parsed.all("allow"))?;
    let (folders, contexts) = contexts(parsed.all("build-context"))?;
    let mut query = BuildQuery {
        names: parsed.all("tag").to_vec(),
        target: parsed.text_or_empty("target").to_owned(),
        no_cache: parsed.on("no-cache"),
        no_cache_filter: parsed.all("no-cache-filter").join(","),
        pull: parsed.on("pull"),
        network: parsed.text_or_empty("network").to_owned(),
        platform: parsed.all("platform").join(","),
        build_args: build_args(parsed.all("build-arg"), variable),
        labels: pairs(parsed.all("label")),
        contexts,
        extra_hosts: parsed
            .all("add-host")
            .iter()
            .map(|host| host.replacen(':', "=", usize::from(!host.contains('='))))
            .collect(),
        cgroup_parent: parsed.text_or_empty("cgroup-parent").to_owned(),
        shm_size: parsed.bytes("shm-size").unwrap_or_default(),
        memory: parsed.bytes("memory").unwrap_or_default(),
        memory_swap: parsed
            .text("memory-swap")
            .and_then(|text| if text == "-1" { Some(-1) } else { parse_bytes(text).ok() })
            .unwrap_or_default(),
        cpu_period: number(parsed, "cpu-period")?,
        cpu_quota: number(parsed, "cpu-quota")?,
        cpu_shares: number(parsed, "cpu-shares")?,
        cpuset_cpus: parsed.text_or_empty("cpuset-cpus").to_owned(),
        cpuset_mems: parsed.text_or_empty("cpuset-mems").to_owned(),
        device_rights: parsed.all("allow").iter().filter(|one| is_of_devices(one)).cloned().collect(),
        allow_insecure: parsed.all("allow").iter().any(|one| one == "security.insecure"),
        security_options: parsed.all("security-opt").to_vec(),
        explains: parsed.on("explain"),
        attests: super::attests::attests(parsed)?,
        cache_imports: super::caches::entries(parsed.all("cache-from"))?,
        cache_exports: super::caches::entries(parsed.all("cache-to"))?,
        call: call(parsed)?.to_owned(),
        volumes: parsed.all("volume").to_vec(),
        ..BuildQuery::default()
    };
    let inline = query.build_args.get("BUILDKIT_INLINE_CACHE").and_then(Option::as_deref);
    if inline.is_some_and(|value| parse_bool(value) == Ok(true)) {
        let kind = "inline".to_owned();
        query.cache_exports.push(ferry_client::BuildCacheEntry { kind, ..Default::default() });
    }
    for text in parsed.all("resource") {
        resource(text, &mut query)?;
    }
    for limit in parsed.all("ulimit") {
        query.ulimits.push(Ulimit::parse(limit).map_err(Failure::new)?);
    }
    let context = parsed.args[0].as_str();
    let source = match context {
        "-" => Source::Stdin,
        url if is_remote(url) => Source::Remote(url.to_owned()),
        path => Source::Folder(path.to_owned()),
    };
    let file = parsed.text("file").filter(|file| !file.is_empty()).map(str::to_owned);
    if source == Source::Stdin && file.as_deref() == Some("-") {
        return Err(Failure::new(
            "ERROR: failed to build: invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    let outputs = outputs::read(parsed, &super::attests::annotations(parsed.all("annotation"))?)?;
    query.outputs = outputs.iter().map(|output| output.entry.clone()).collect();
    let agents = parsed.all("ssh").iter().map(|text| agent(text, variable)).collect::<Result<_>>()?;
    let secrets = parsed.all("secret").iter().map(|text| secret(text, variable)).collect::<Result<_>>()?;
    Ok(BuildOptions {
        source,
        file,
        progress,
        query,
        folders,
        secrets,
        agents,
        outputs,
        is_without_policy: parsed.changed("policy"),
    })
}

/// What is known and not built says so.
fn refuse_unbuilt(parsed: &Parsed) -> Result<()> {
    if parsed.on("squash") {
        return Err(Failure::not_implemented("`--squash` of build"));
    }
    super::policy::check(parsed.all("policy"))?;
    match parsed.text_or_empty("builder") {
        "" | "default" => Ok(()),
        other => Err(Failure::new(format!("ERROR: no builder {} found", go_quote(other)))),
    }
}

/// What is asked in place of a build; empty for a build. `,format=json` is left to whoever shows the answer.
fn call(parsed: &Parsed) -> Result<&str> {
    // `--print` is what buildx called it first.
    let asked = parsed.text("call").unwrap_or_else(|| parsed.text_or_empty("print"));
    match asked.split(',').next().unwrap_or_default() {
        _ if parsed.on("check") => Ok("check"),
        _ if parsed.on("expand") => Ok("expand"),
        "" | "build" => Ok(""),
        "check" | "lint" => Ok("check"),
        call @ ("outline" | "targets") => Ok(call),
        other => Err(Failure::not_implemented(&format!("`--call {other}` of build"))),
    }
}

/// `memory=1g,cpu-shares=512`: what steps may use.
fn resource(text: &str, query: &mut BuildQuery) -> Result<()> {
    let wrong = |reason: String| Failure::new(format!("ERROR: invalid resource {}: {reason}", go_quote(text)));
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("expected key=value".to_owned()))?;
        let number = || value.parse::<i64>().map_err(|_| wrong(format!("{key} is a number")));
        let size = || parse_bytes(value).map_err(&wrong);
        match key {
            "memory" => query.memory = size()?,
            "memory-swap" if value == "-1" => query.memory_swap = -1,
            "memory-swap" => query.memory_swap = size()?,
            "cpu-shares" => query.cpu_shares = number()?,
            "cpu-period" => query.cpu_period = number()?,
            "cpu-quota" => query.cpu_quota = number()?,
            "cpuset-cpus" => value.clone_into(&mut query.cpuset_cpus),
            "cpuset-mems" => value.clone_into(&mut query.cpuset_mems),
            _ => {
                let known = "memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems";
                return Err(wrong(format!("unknown key {key} (known are {known})")));
            }
        }
    }
    Ok(())
}

fn is_remote(context: &str) -> bool {
    let known = ["http://", "https://", "git://", "github.com/", "git@", "ssh://"];
    known.iter().any(|prefix| context.starts_with(prefix))
}

fn number(parsed: &Parsed, name: &str) -> Result<i64> {
    match parsed.text_or_empty(name) {
        "" => Ok(0),
        text => text.parse().map_err(|_| Failure::new(format!("ERROR: invalid value {} for --{name}", go_quote(text)))),
    }
}

/// `NAME=value`, or the value that the environment has for a name alone.
fn build_args(given: &[String], variable: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, Option<String>> {
    let mut args = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some((name, value)) => args.insert(name.to_owned(), Some(value.to_owned())),
            None => args.insert(text.clone(), variable(text)),
        };
    }
    if let Some(epoch) = variable("SOURCE_DATE_EPOCH") {
        args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(Some(epoch));
    }
    args
}

fn pairs(given: &[String]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

type Contexts = (Vec<(String, String)>, BTreeMap<String, String>);

/// Directories that go along, and what every name leads to.
fn contexts(given: &[String]) -> Result<Contexts> {
    let (mut folders, mut contexts) = (Vec::new(), BTreeMap::new());
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::new(format!("ERROR: invalid context value: {text}, expected key=value")));
        };
        let name = &context_name(name)?;
        let is_address = is_remote(value) || value.starts_with("docker-image://") || value.starts_with("oci-layout://");
        if is_address {
            contexts.insert(name.to_owned(), value.to_owned());
            continue;
        }
        folders.retain(|(known, _)| *known != directory_of(name));
        contexts.insert(name.to_owned(), format!("local:{}", directory_of(name)));
        folders.push((directory_of(name), value.to_owned()));
    }
    Ok((folders, contexts))
}

/// The name of a context, as the builder looks for it; one for a platform alone has that behind `::`.
fn context_name(written: &str) -> Result<String> {
    let (name, platform) = written.split_once("::").map_or((written, None), |(name, rest)| (name, Some(rest)));
    let wrong = |error| Failure::new(format!("ERROR: invalid context name {written}: {error}"));
    let familiar = Reference::parse(name).map_err(wrong)?.familiar();
    let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    Ok(platform.map_or_else(|| name.to_owned(), |platform| format!("{name}::{platform}")))
}

/// Refuses rights that nobody knows.
fn check_rights(rights: &[String]) -> Result<()> {
    let is_known = |right: &str| matches!(right, "network.host" | "security.insecure") || is_of_devices(right);
    match rights.iter().find(|right| !right.is_empty() && !is_known(right)) {
        Some(right) => Err(Failure::new(format!("ERROR: unknown entitlement {right}"))),
        None => Ok(()),
    }
}

fn is_of_devices(right: &str) -> bool {
    right.split('=').next() == Some("device")
}

/// `id=x[,src=path][,env=NAME][,type=file|env]`
fn secret(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, SecretSource)> {
    let (mut id, mut source, mut kind) = (String::new(), None, "");
    let fields = ferry_dockerfile::csv::fields(text)
        .map_err(|error| Failure::new(format!("ERROR: failed to parse csv secret: {error}")))?;
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Failure::new(format!("ERROR: invalid field '{field}' must be a key=value pair")));
        };
        match key.to_ascii_lowercase().as_str() {
            "id" => id = value.to_owned(),
            "type" if matches!(value, "file" | "env") => kind = value,
            "type" => return Err(Failure::new(format!("ERROR: unsupported secret type {}", go_quote(value)))),
            "src" | "source" => source = Some(SecretSource::File(value.to_owned())),
            "env" => source = Some(SecretSource::Variable(value.to_owned())),
            _ => return Err(Failure::new(format!("ERROR: unexpected key '{key}' in '{field}'"))),
        }
    }
    let source = match (source, kind) {
        (Some(SecretSource::File(name)), "env") => SecretSource::Variable(name),
        (Some(source), _) => source,
        (None, "file") => SecretSource::File(id.clone()),
        (None, _) if variable(&id).is_some() => SecretSource::Variable(id.clone()),
        (None, _) => SecretSource::File(id.clone()),
    };
    Ok((id, source))
}

/// `default`, or `id=socket`: the agent that listens there, or at `SSH_AUTH_SOCK`.
fn agent(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, String)> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    let path = match path {
        "" => variable("SSH_AUTH_SOCK").ok_or_else(|| {
            let reason = "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set";
            Failure::new(format!("ERROR: failed to build: {reason}"))
        })?,
        path => path.to_owned(),
    };
    let metadata = std::fs::metadata(&path)
        .map_err(|_| Failure::new(format!("ERROR: failed to build: stat {path}: no such file or directory")))?;
    if !std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
        return Err(Failure::not_implemented(&format!(
            "the key file {path} in `--ssh` of build (an agent's socket is taken)"
        )));
    }
    Ok((id.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::IMAGE_BUILD;
    use crate::{flags, options};

    fn read(line: &str) -> Result<BuildOptions> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let parsed = flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check).unwrap();
        to_options(&parsed, &|name| (name == "FROM_ENV").then(|| "value".to_owned()))
    }

    #[test]
    fn flags_become_a_request() {
        let options =
            read("-t a -t b:1 --build-arg X=1 --build-arg FROM_ENV --build-arg GONE --label l=v --target t -f d/F .")
                .unwrap();
        assert_eq!(options.query.names, ["a", "b:1"]);
        assert_eq!(options.query.build_args["X"].as_deref(), Some("1"));
        assert_eq!(options.query.build_args["FROM_ENV"].as_deref(), Some("value"));
        assert_eq!(options.query.build_args["GONE"], None);
        assert_eq!(options.query.labels["l"], "v");
        assert_eq!((options.file.as_deref(), options.source), (Some("d/F"), Source::Folder(".".to_owned())));
        assert_eq!(read("-").unwrap().source, Source::Stdin);
        assert_eq!(read("https://x/y.git").unwrap().source, Source::Remote("https://x/y.git".to_owned()));
        assert!(read("-f - -").is_err());
    }

    #[test]
    fn secrets_and_contexts_are_read() {
        let options = read("--secret id=a,src=/x --secret id=FROM_ENV --secret id=b,env=Y --build-context n=dir --build-context i=docker-image://x .").unwrap();
        assert_eq!(options.secrets[0], ("a".to_owned(), SecretSource::File("/x".to_owned())));
        assert_eq!(options.secrets[1].1, SecretSource::Variable("FROM_ENV".to_owned()));
        assert_eq!(options.secrets[2].1, SecretSource::Variable("Y".to_owned()));
        assert_eq!(options.query.contexts["n"], "local:n");
        assert_eq!(options.query.contexts["i"], "docker-image://x");
        assert_eq!(options.folders, [("n".to_owned(), "dir".to_owned())]);
        assert!(read("--secret id=a,bad=1 .").is_err());
        let options = read(
            "--build-context docker.io/library/base:latest=one --build-context x/y=two --build-context context=three .",
        );
        let options = options.unwrap();
        assert_eq!(options.query.contexts["base"], "local:base");
        let folders = ["base", "x%2Fy", "_context"].map(str::to_owned);
        assert_eq!(options.folders.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), folders);
        assert_eq!(
            read("--build-context A=b .").unwrap_err().message,
            "ERROR: invalid context name A: invalid reference format: repository name (library/A) must be lowercase"
        );
    }

    #[test]
    fn rights_are_known_ones() {
        let options = read("--allow device --allow device=v.com/a=0 --allow network.host .").unwrap();
        assert_eq!(options.query.device_rights, ["device", "device=v.com/a=0"]);
        assert_eq!(read("--allow all .").unwrap_err().message, "ERROR: unknown entitlement all");
    }

    #[test]
    fn resources_are_read() {
        let query =
            read("--resource memory=64m,cpu-shares=512 --resource cpuset-cpus=0,memory-swap=-1 .").unwrap().query;
        assert_eq!((query.memory, query.memory_swap, query.cpu_shares), (64 << 20, -1, 512));
        assert_eq!(query.cpuset_cpus, "0");
        for (text, error) in
            [("memory", "expected key=value"), ("gpu=1", "unknown key gpu"), ("cpu-quota=x", "is a number")]
        {
            assert!(read(&format!("--resource {text} .")).unwrap_err().message.contains(error), "{text}");
        }
    }

    #[test]
    fn what_is_not_built_says_so() {
        for line in ["--policy filename=x .", "--squash ."] {
            assert!(read(line).unwrap_err().message.contains("not implemented"), "{line}");
        }
    }
}
