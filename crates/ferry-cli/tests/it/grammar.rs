//! The corners of Docker's command grammar, as requests or errors that they lead to.

use crate::fake::Fake;
use serde_json::{Value, json};
use std::process::Command;

/// What `create` sends for a line, or the first line of its error.
fn created(line: &[&str]) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("d.sock");
    let answer = json!({"POST /containers/create": [[201, {"Id": "abc", "Warnings": []}]]});
    let fake = Fake::listen(&socket, crate::fake::answers(&answer));
    let output = Command::new(env!("CARGO_BIN_EXE_ferry"))
        .arg("create")
        .args(line)
        .env_clear()
        .env("HOME", folder.path())
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .output()
        .unwrap();
    match fake.seen().first() {
        Some((_, _, body)) => Ok(serde_json::from_str(body).unwrap()),
        None => Err(String::from_utf8(output.stderr).unwrap().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn values_stand_beside_after_and_inside_flags() {
    for (line, pointer, value) in [
        (vec!["-eA=1", "x"], "/Env", json!(["A=1"])),
        (vec!["-e", "A=1", "x"], "/Env", json!(["A=1"])),
        (vec!["-e=A=1", "x"], "/Env", json!(["A=1"])),
        (vec!["--env=A=1", "x"], "/Env", json!(["A=1"])),
        (vec!["--env", "A=1", "x"], "/Env", json!(["A=1"])),
        (vec!["-e", "-X", "x"], "/Env", json!(["-X"])),
        (vec!["-p80:80", "x"], "/HostConfig/PortBindings/80~1tcp/0/HostPort", json!("80")),
        (vec!["-u0:0", "x"], "/User", json!("0:0")),
        (vec!["-u", "0:0", "x"], "/User", json!("0:0")),
        (vec!["--memory-swap", "-1", "x"], "/HostConfig/MemorySwap", json!(-1)),
        (vec!["-h", "name", "x"], "/Hostname", json!("name")),
        (vec!["--name", "a", "-w/tmp", "x"], "/WorkingDir", json!("/tmp")),
        (vec!["--workdir", "", "x"], "/WorkingDir", json!("")),
        (vec!["-l", "a=b=c", "x"], "/Labels/a", json!("b=c")),
    ] {
        assert_eq!(created(&line).unwrap().pointer(pointer), Some(&value), "{line:?}");
    }
}

#[test]
fn booleans_cluster_and_take_values_only_after_an_equals_sign() {
    for (line, pointer, value) in [
        (vec!["-it", "x"], "/Tty", json!(true)),
        (vec!["-ti", "x"], "/OpenStdin", json!(true)),
        (vec!["-itu", "me", "x"], "/User", json!("me")),
        (vec!["-t=false", "x"], "/Tty", json!(false)),
        (vec!["-it=false", "x"], "/Tty", json!(false)),
        (vec!["--tty=T", "x"], "/Tty", json!(true)),
        (vec!["--tty=0", "x"], "/Tty", json!(false)),
        (vec!["--rm", "--rm=false", "x"], "/HostConfig/AutoRemove", json!(false)),
        (vec!["--rm", "false"], "/Image", json!("false")),
        (vec!["--init", "x"], "/HostConfig/Init", json!(true)),
        (vec!["--init=false", "x"], "/HostConfig/Init", json!(false)),
        (vec!["x"], "/HostConfig/Init", json!(null)),
    ] {
        let request = created(&line).unwrap();
        assert_eq!(request.pointer(pointer).unwrap_or(&Value::Null), &value, "{line:?}");
    }
}

#[test]
fn options_end_at_the_image() {
    for (line, command) in [
        (vec!["x", "-it", "--rm"], json!(["-it", "--rm"])),
        (vec!["x", "--", "y"], json!(["--", "y"])),
        (vec!["--", "x", "-l"], json!(["-l"])),
        (vec!["x", "--help"], json!(["--help"])),
        (vec!["x", "--foo=1"], json!(["--foo=1"])),
        (vec!["x", "-"], json!(["-"])),
    ] {
        assert_eq!(created(&line).unwrap()["Cmd"], command, "{line:?}");
    }
}

#[test]
fn mistakes_are_told_in_dockers_words() {
    for (line, text) in [
        (vec!["--foo", "x"], "unknown flag: --foo"),
        (vec!["-Z", "x"], "unknown shorthand flag: 'Z' in -Z"),
        (vec!["-itZ", "x"], "unknown shorthand flag: 'Z' in -Z"),
        (vec!["--name"], "flag needs an argument: --name"),
        (vec!["-itp"], "flag needs an argument: 'p' in -p"),
        (vec!["---x"], "bad flag syntax: ---x"),
        (vec!["--=x"], "bad flag syntax: --=x"),
        (
            vec!["--tty=maybe", "x"],
            "invalid argument \"maybe\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (vec![], "ferry: 'ferry create' requires at least 1 argument"),
    ] {
        assert_eq!(created(&line).unwrap_err(), text, "{line:?}");
    }
}

#[test]
fn help_is_asked_for_before_anything_else_is_checked() {
    for line in
        [vec!["run", "--help"], vec!["exec", "--help"], vec!["ps", "--help"], vec!["run", "--rm", "--help", "x"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_ferry")).args(&line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(output.stdout.starts_with(b"Usage:  ferry "), "{line:?}");
    }
}

#[test]
fn what_is_not_built_says_so() {
    for line in [vec!["swarm", "init"], vec!["secret", "ls"], vec!["checkpoint", "create", "x", "y"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ferry")).args(&line).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.ends_with("is not implemented\n"), "{text}");
    }
}
