//! What goes with lines: labels, environment, tag.

use std::collections::BTreeMap;

use ferry_gotmpl::{Map, Struct, Template, Value};
use std::rc::Rc;

use super::{Checked, Options};
use crate::containers::record::Record;

/// A container as templates and drivers see it.
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) image_id: String,
    pub(super) image_name: &'a str,
    pub(super) created_ns: i64,
    argv: Vec<String>,
    env: BTreeMap<&'a str, &'a str>,
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        Self {
            id: &record.id,
            name: &record.name,
            image_id: record.image_id.to_string(),
            image_name: &record.config.image,
            created_ns: record.created_ns,
            argv: record.argv(),
            env: record.config.env.iter().flatten().filter_map(|variable| variable.split_once('=')).collect(),
            labels: record.config.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }

    /// Entrypoint and command.
    pub(super) fn command(&self) -> String {
        self.argv.join(" ")
    }
}

/// The labels and variables that `labels`, `labels-regex`, `env` and `env-regex` choose, by the name that `rename` gives them.
pub(super) fn extra_attributes(
    subject: &Subject<'_>,
    options: &Options,
    rename: impl Fn(&str) -> String,
) -> Checked<BTreeMap<String, String>> {
    let mut chosen = BTreeMap::new();
    for (list, pattern, values) in [("labels", "labels-regex", &subject.labels), ("env", "env-regex", &subject.env)] {
        let get = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        for name in get(list).into_iter().flat_map(|names| names.split(',')) {
            if let Some(value) = values.get(name) {
                chosen.insert(rename(name), (*value).to_owned());
            }
        }
        let Some(pattern) = get(pattern) else { continue };
        let pattern = regex_lite::Regex::new(pattern)
            .map_err(|_| format!("error parsing regexp: `{pattern}` is no regular expression"))?;
        for (name, value) in values.iter().filter(|(name, _)| pattern.is_match(name)) {
            chosen.insert(rename(name), (*value).to_owned());
        }
    }
    Ok(chosen)
}

/// GELF's additional fields begin with an underscore.
pub(super) fn for_gelf(name: &str) -> String {
    if name.starts_with('_') { name.to_owned() } else { format!("_{name}") }
}

/// The journal's fields are capital letters, digits and underscores, and begin with none of the latter.
pub(super) fn for_journal(name: &str) -> String {
    let fitting = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    fitting.skip_while(|c| *c == '_').collect()
}

/// `tag`, filled in; the short id where there is none.
pub(super) fn tag(subject: &Subject<'_>, options: &Options) -> Checked<String> {
    let text = options.get("tag").map(String::as_str).filter(|text| !text.is_empty()).unwrap_or("{{.ID}}");
    let template = Template::parse("log-tag", text).map_err(|error| error.to_string())?;
    let executed = template.execute(&value(subject, options)?, ferry_gotmpl::Options::default());
    executed.map_err(|error| error.to_string())
}

/// Docker's `logger.Info`: its fields and its methods.
fn value(subject: &Subject<'_>, options: &Options) -> Checked<Value> {
    let short = |id: &str| id.rsplit(':').next().unwrap_or_default().chars().take(12).collect::<String>();
    let texts = |map: &mut dyn Iterator<Item = (String, String)>| {
        Value::Map(Rc::new(Map {
            entries: map.map(|(key, value)| (key, Value::from(value.as_str()))).collect(),
            zero: Value::from(""),
            type_name: "map[string]string".to_owned(),
            null: false,
        }))
    };
    let pairs = |map: &BTreeMap<&str, &str>| {
        texts(&mut map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    };
    let env = subject.env.iter().map(|(key, value)| Value::from(format!("{key}={value}").as_str())).collect();
    let args = subject.argv.iter().skip(1).map(|argument| Value::from(argument.as_str())).collect();
    let entrypoint = subject.argv.first().map_or("", String::as_str);
    let (image_id, command) = (subject.image_id.as_str(), subject.command());
    let fields = vec![
        ("ID", Value::from(short(subject.id).as_str())),
        ("FullID", subject.id.into()),
        ("Name", subject.name.into()),
        ("ImageID", short(image_id).as_str().into()),
        ("ImageFullID", image_id.into()),
        ("ImageName", subject.image_name.into()),
        ("DaemonName", "docker".into()),
        ("Command", command.as_str().into()),
        ("Hostname", hostname().as_str().into()),
        ("ExtraAttributes", texts(&mut extra_attributes(subject, options, str::to_owned)?.into_iter())),
        ("Config", texts(&mut options.clone().into_iter())),
        ("ContainerID", subject.id.into()),
        ("ContainerName", format!("/{}", subject.name).as_str().into()),
        ("ContainerEntrypoint", entrypoint.into()),
        ("ContainerArgs", Value::list(args)),
        ("ContainerImageID", image_id.into()),
        ("ContainerImageName", subject.image_name.into()),
        ("ContainerEnv", Value::list(env)),
        ("ContainerLabels", pairs(&subject.labels)),
    ];
    Ok(Value::Struct(Rc::new(Struct {
        type_name: "logger.Info".to_owned(),
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        json: None,
        pointer: true,
        text: None,
    })))
}

/// Name of this host.
pub(super) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject<'static> {
        Subject {
            id: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            name: "web",
            image_id: "sha256:feedfacefeedfacefeed".to_owned(),
            image_name: "busybox:1",
            created_ns: 0,
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            env: BTreeMap::from([("A", "1"), ("B_X", "2")]),
            labels: BTreeMap::from([("com.x", "l"), ("other", "m")]),
        }
    }

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_placeholder_of_a_tag_is_filled_in() {
        for (template, expected) in [
            ("", "0123456789ab"),
            ("{{.ID}}", "0123456789ab"),
            ("{{.FullID}}", subject().id),
            ("{{.Name}}", "web"),
            ("{{.ImageID}}", "feedfacefeed"),
            ("{{.ImageFullID}}", "sha256:feedfacefeedfacefeed"),
            ("{{.ImageName}}", "busybox:1"),
            ("{{.DaemonName}}", "docker"),
            ("{{.Command}}", "sh -c true"),
            ("{{.ContainerName}}", "/web"),
            ("{{index .ContainerLabels \"com.x\"}}/{{.Name | upper}}", "l/WEB"),
            ("{{.ExtraAttributes}}", "map[A:1]"),
            ("plain", "plain"),
        ] {
            assert_eq!(
                tag(&subject(), &options(&[("tag", template), ("env", "A")])).as_deref(),
                Ok(expected),
                "{template}"
            );
        }
        assert!(tag(&subject(), &options(&[("tag", "{{.Nope}}")])).is_err());
        assert!(tag(&subject(), &options(&[("tag", "{{")])).is_err());
    }

    #[test]
    fn labels_and_variables_are_chosen_by_name_and_pattern() {
        let chosen = |pairs: &[(&str, &str)]| -> Vec<String> {
            let found = extra_attributes(&subject(), &options(pairs), str::to_owned).expect("chosen");
            found.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
        };
        assert_eq!(chosen(&[("labels", "com.x,absent"), ("env", "A")]), ["A=1", "com.x=l"]);
        assert_eq!(chosen(&[("labels-regex", "^(com|oth)"), ("env-regex", "^B_")]), ["B_X=2", "com.x=l", "other=m"]);
        assert!(chosen(&[]).is_empty());
        assert!(extra_attributes(&subject(), &options(&[("env-regex", "(")]), str::to_owned).is_err());
    }

    #[test]
    fn names_fit_their_server() {
        assert_eq!((for_gelf("a"), for_gelf("_a")), ("_a".to_owned(), "_a".to_owned()));
        assert_eq!((for_journal("com.x-1"), for_journal("__a")), ("COM_X_1".to_owned(), "A".to_owned()));
    }
}
