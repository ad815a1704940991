use serde_json::Value;

use super::run::{Chosen, choose, configure, define, printed};

fn chosen(
    files: &[(&str, &str)],
    asked: &[&str],
    set: &[&str],
    environment: &[(&str, &str)],
) -> Result<Chosen, String> {
    let files: Vec<(String, String)> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let variable =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let definitions = define(&files, &variable).map_err(|failure| failure.message)?;
    let config = configure(&files, &definitions, &variable)?;
    definitions.validate()?;
    let words = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    choose(&config, &words(asked), &words(set), &variable)
}

fn json(chosen: &Chosen) -> Value {
    serde_json::from_str(&printed(chosen).unwrap()).unwrap()
}

const FILE: &str = r#"
variable "TAG" { default = "latest" }
variable "DEBUG" { default = false }
variable "PLATFORMS" { default = ["linux/amd64"] }
function "tagged" {
  params = [name]
  variadic_params = more
  result = [for t in concat([TAG], more): "reg.example.com/${name}:${t}"]
}
prefix = "my"
group "default" { targets = ["app", "matrix"] }
target "common" {
  args = { GO = "1.22", DEBUG = DEBUG ? "1" : "0" }
  labels = { "a.b" = "${prefix}-label" }
  platforms = PLATFORMS
  cache-from = ["type=registry,ref=cache", "other/cache"]
}
target "app" {
  inherits = ["common"]
  context = "./app"
  tags = tagged("app", "extra")
  args = { GO = "1.23" }
  contexts = { base = "target:base" }
  secret = ["id=token,src=./token"]
}
target "base" {
  dockerfile-inline = <<EOT
FROM busybox
RUN echo $${HOME}
EOT
}
target "matrix" {
  name = "m-${item.name}-${replace(version, ".", "-")}"
  matrix = {
    item = [{ name = "one", port = 1 }, { name = "two", port = 2 }]
    version = ["1.0", "2.0"]
  }
  args = { PORT = item.port, VERSION = version }
  target = item.name
}
"#;

#[test]
fn files_become_targets() {
    let chosen = chosen(&[("docker-bake.hcl", FILE)], &[], &[], &[("TAG", "v1"), ("DEBUG", "true")]).unwrap();
    let all = json(&chosen);
    let app = &all["target"]["app"];
    assert_eq!(app["tags"], serde_json::json!(["reg.example.com/app:v1", "reg.example.com/app:extra"]));
    assert_eq!(app["args"], serde_json::json!({"DEBUG": "1", "GO": "1.23"}));
    assert_eq!(app["labels"]["a.b"], "my-label");
    assert_eq!(app["context"], "app");
    assert_eq!(app["dockerfile"], "Dockerfile");
    let caches = serde_json::json!([{"ref": "cache", "type": "registry"}, {"ref": "other/cache", "type": "registry"}]);
    assert_eq!(app["cache-from"], caches);
    assert_eq!(app["secret"], serde_json::json!([{"id": "token", "src": "./token"}]));
    assert_eq!(all["target"]["base"]["output"], serde_json::json!([{"type": "cacheonly"}]));
    assert_eq!(all["target"]["base"]["dockerfile-inline"], "FROM busybox\nRUN echo $${HOME}\n");
    assert_eq!(all["target"]["m-two-1-0"]["args"], serde_json::json!({"PORT": "2", "VERSION": "1.0"}));
    assert_eq!(all["target"]["m-two-1-0"]["target"], "two");
    let members = serde_json::json!(["m-one-1-0", "m-one-2-0", "m-two-1-0", "m-two-2-0"]);
    assert_eq!(all["group"]["matrix"]["targets"], members);
    assert_eq!(all["group"]["default"]["targets"], serde_json::json!(["app", "matrix"]));
}

#[test]
fn the_command_line_has_the_last_word() {
    let set =
        ["app.args.GO=2", "*.platform=linux/arm64", "m-*.tags=t", "app.tags+=more", "app.output=type=local,dest=out"];
    let chosen = chosen(&[("docker-bake.hcl", FILE)], &["app", "m-one-*"], &set, &[]).unwrap();
    let all = json(&chosen);
    assert_eq!(all["target"]["app"]["args"]["GO"], "2");
    assert_eq!(all["target"]["app"]["platforms"], serde_json::json!(["linux/arm64"]));
    let tags = serde_json::json!(["reg.example.com/app:latest", "reg.example.com/app:extra", "more"]);
    assert_eq!(all["target"]["app"]["tags"], tags);
    assert_eq!(all["target"]["app"]["output"], serde_json::json!([{"dest": "out", "type": "local"}]));
    assert_eq!(all["target"]["m-one-1-0"]["tags"], serde_json::json!(["t"]));
    assert_eq!(all["group"]["default"]["targets"], serde_json::json!(["app", "m-one-1-0", "m-one-2-0"]));
}

#[test]
fn json_and_compose_files_are_read() {
    let bake = r#"{"variable": {"V": {"default": "1"}}, "group": {"default": {"targets": ["web"]}},
        "target": {"web": {"tags": ["web:${V}"], "no-cache": true}}}"#;
    let compose = "services:\n  web:\n    image: web:compose\n    build:\n      context: ./web\n      args:\n        - A=${A:-none}\n      \
        x-bake:\n        platforms: linux/amd64\n  db:\n    image: db\n  my.job:\n    build: ./job\n";
    let files = [("compose.yaml", compose), ("docker-bake.json", bake)];
    let all = json(&chosen(&files, &[], &[], &[("A", "")]).unwrap());
    assert_eq!(all["target"]["web"]["tags"], serde_json::json!(["web:1"]));
    assert_eq!(all["target"]["web"]["context"], "web");
    assert_eq!(all["target"]["web"]["args"], serde_json::json!({"A": "none"}));
    assert_eq!(all["target"]["web"]["platforms"], serde_json::json!(["linux/amd64"]));
    assert_eq!(all["target"]["web"]["no-cache"], true);
    assert_eq!(all["target"]["my_job"]["context"], "job");
    assert!(all["target"]["db"].is_null());
}

#[test]
fn what_has_no_meaning_is_passed_over() {
    let text = "nothing \"x\" {\n}\nalone {\n}\ntarget \"a\" {\n  nope = UNKNOWN\n  tags = [\"b\"]\n}\n";
    let all = json(&chosen(&[("docker-bake.hcl", text)], &["a"], &[], &[]).unwrap());
    assert_eq!(all["target"]["a"], serde_json::json!({"context": ".", "dockerfile": "Dockerfile", "tags": ["b"]}));
}

#[test]
fn entries_are_what_they_are_checked_for() {
    let text = "target \"a\" {\n  output = [{ TYPE = \"local\", Destination = \"x,dest=/y\" }]\n  \
        secret = [{ id = \"s\", Source = \"f\", env = \"E\" }]\n  ssh = [{ id = \"k\", paths = [\"one\", \"two\"] }, { id = \"m\", paths = \"\" }]\n  \
        context = \"--help\"\n  entitlements = [\"device=v/x=0\"]\n}\n";
    let made = chosen(&[("docker-bake.hcl", text)], &["a"], &[], &[]).unwrap();
    let all = json(&made);
    assert_eq!(all["target"]["a"]["output"], serde_json::json!([{"dest": "x,dest=/y", "type": "local"}]));
    assert_eq!(all["target"]["a"]["ssh"], serde_json::json!([{"id": "k", "paths": "one,two"}, {"id": "m"}]));
    let words = super::order::words(&made.targets["a"], &super::order::Common::default(), &|_| None);
    for word in [
        "--output=type=local,\"dest=x,dest=/y\"",
        "--secret=id=s,env=E",
        "--ssh=k=one,two",
        "--ssh=m",
        "./--help",
        "--allow=device=v/x=0",
    ] {
        assert!(words.contains(&word.to_owned()), "{word}: {words:?}");
    }
    let text = "target \"a\" {\n  ssh = [{ id = \"x=/run/s\" }]\n}\n";
    assert!(
        chosen(&[("docker-bake.hcl", text)], &["a"], &[], &[])
            .unwrap_err()
            .contains("invalid id \"x=/run/s\" of an agent")
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (text, asked, set, expected) in [
        ("target \"a\" {}", "b", "", "failed to find target b"),
        ("target \"a\" { tags = [NONE] }", "a", "", "Unknown variable; There is no variable named \"NONE\"."),
        (
            "target \"a\" \"b\" {}",
            "a",
            "",
            "docker-bake.hcl:1\n--------------------\n   1 | >>> target \"a\" \"b\" {}\n--------------------\n\
             ERROR: docker-bake.hcl:1,12-15: Extraneous label for target; Only 1 labels (name) are expected for target blocks.",
        ),
        ("target \"a\" { tags = [nope()] }", "a", "", "Call to unknown function; There is no function named \"nope\"."),
        ("target \"a\" {}", "a", "b.tags=x", "could not find any target matching 'b'"),
        ("target \"a\" {}", "a", "a.nope=x", "unknown key: nope"),
        ("target \"a\" { contexts = { x = \"target:a\" } }", "a", "", "target a cannot link to itself"),
        (
            "variable \"A\" { default = B }\nvariable \"B\" { default = A }\ntarget \"a\" { tags = [A] }",
            "a",
            "",
            "Variable cycle not allowed; \"A\" refers to itself",
        ),
        (
            "variable \"A\" {\n default = \"x\"\n validation {\n condition = A != \"x\"\n error_message = \"no x\"\n }\n}\ntarget \"a\" {}",
            "a",
            "",
            "Validation failed; no x",
        ),
    ] {
        let set: Vec<&str> = if set.is_empty() { Vec::new() } else { vec![set] };
        let error = chosen(&[("docker-bake.hcl", text)], &[asked], &set, &[]).unwrap_err();
        assert_eq!(error, expected, "{text}");
    }
}

/// What buildx 0.29.1 printed for the files in `tests/data/bake`.
#[test]
fn files_are_printed_as_buildx_prints_them() {
    macro_rules! file {
        ($name:literal) => {
            ($name, include_str!(concat!("../../../tests/data/bake/", $name)))
        };
    }
    for (file, asked, set, (name, expected)) in [
        (file!("a.hcl"), &[][..], &[][..], file!("a.printed.json")),
        (file!("b.json"), &["all"], &[], file!("b.printed.json")),
        (file!("c.yaml"), &[], &[], file!("c.printed.json")),
        (file!("d.hcl"), &[], &[], file!("d.printed.json")),
        (file!("e.hcl"), &[], &[], file!("e.printed.json")),
        (
            file!("e.hcl"),
            &[],
            &["*.platform=linux/s390x", "one.args.X=1", "two.tags=q", "one.output=type=registry"],
            file!("e-set.printed.json"),
        ),
        (
            file!("e.hcl"),
            &["one"],
            &["*.attest=type=provenance,disabled=true", "*.attest=type=sbom,disabled=false"],
            file!("e-attest.printed.json"),
        ),
        (file!("e.hcl"), &["two"], &["one.cache-from=a", "*.cache-to+=type=inline"], file!("e-cache.printed.json")),
    ] {
        let made = chosen(&[file], asked, set, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plain = |text: &str| text.replace("\\u003c", "<").replace("\\u003e", ">");
        assert_eq!(printed(&made).unwrap(), plain(expected.trim_end()), "{name}");
    }
}

/// What the default target of a file comes to, on a stack as long as a program begins with.
fn outcome(name: &'static str, text: String) -> Result<Value, String> {
    let work = move || chosen(&[(name, &text)], &[], &[], &[]).map(|chosen| json(&chosen));
    std::thread::Builder::new().stack_size(8 << 20).spawn(work).unwrap().join().expect("no panic")
}

#[test]
fn what_leads_on_without_end_is_refused() {
    let chain = |count: usize, form: fn(usize) -> String| (0..count).map(form).collect::<String>();
    let variable = |at: usize| format!("variable \"v{at}\" {{ default = \"${{v{}}}\" }}\n", at + 1);
    let nested = |open: &str, close: &str| {
        let (open, close) = (open.repeat(25), close.repeat(25));
        format!(
            "function \"f\" {{\n params = [x]\n result = {open}f(x){close}\n}}\ntarget \"default\" {{ target = f(1) }}\n"
        )
    };
    let member = |at: usize| format!("group \"g{at}\" {{ targets = [\"g{}\"] }}\n", at + 1);
    let heir = |at: usize| format!("target \"t{at}\" {{ inherits = [\"t{}\"] }}\n", at + 1);
    let user = |at: usize| format!("target \"t{at}\" {{ contexts = {{ a = \"target:t{}\" }} }}\n", at + 1);
    let template = |open: &str| format!("{{\"target\": {{\"default\": {{\"target\": \"{}\"}}}}}}", open.repeat(20_000));
    let deep = "too many references within references";
    for (text, expected) in [
        (chain(20_000, variable) + "target \"default\" { target = v0 }\n", deep),
        (nested("(", ")"), deep),
        (nested("[", "]"), deep),
        (nested("!", ""), deep),
        (nested("1 + ", " + 1"), deep),
        (nested("", " + 1"), deep),
        (nested("true ? ", " : 1"), deep),
        (nested("{ a = ", " }"), deep),
        (nested("\"${", "}\""), deep),
        (
            chain(3_000, heir) + "target \"t3000\" {}\ntarget \"default\" { inherits = [\"t0\"] }\n",
            "is inherited through",
        ),
        (
            chain(3_000, user) + "target \"t3000\" {}\ntarget \"default\" { contexts = { a = \"target:t0\" } }\n",
            "is linked through",
        ),
    ] {
        let failed = outcome("docker-bake.hcl", text.clone()).unwrap_err();
        assert!(failed.contains(expected), "{:.300}\n{failed:.300}", text);
    }
    for open in ["${(", "${[", "${!", "${\\\"", "%{if ", "%{if true}", "${{a="] {
        assert!(outcome("docker-bake.json", template(open)).is_err(), "{open}");
    }
    let long = |at: usize| format!("variable \"v{at}\" {{ default = \"${{v{}}}\" }}\n", at + 1);
    let text = chain(90, long) + "variable \"v90\" { default = \"end\" }\ntarget \"default\" { target = v0 }\n";
    assert_eq!(outcome("docker-bake.hcl", text).unwrap()["target"]["default"]["target"], "end");
    let text = chain(3_000, member) + "target \"g3000\" {}\ngroup \"default\" { targets = [\"g0\"] }\n";
    assert!(outcome("docker-bake.hcl", text).unwrap()["target"]["g3000"].is_object());
}

#[test]
fn what_is_met_on_many_ways_is_resolved_once() {
    let twice = |at: usize| {
        let (next, named) = (at + 1, format!("\"t{}\", \"t{}\"", at + 1, at + 1));
        format!(
            "target \"t{at}\" {{\n inherits = [{named}]\n contexts = {{ a{at} = \"target:u{at}\" }}\n}}\n\
            target \"u{at}\" {{ contexts = {{ a = \"target:u{next}\", b = \"target:u{next}\" }} }}\n"
        )
    };
    let text = (0..60).map(twice).collect::<String>()
        + "target \"t60\" { args = { A = 1 } }\ntarget \"u60\" {}\ngroup \"default\" { targets = [\"t0\"] }\n";
    let made = outcome("docker-bake.hcl", text).unwrap();
    assert_eq!(made["target"]["t0"]["args"]["A"], "1");
    assert!(made["target"]["u60"].is_object());
}
