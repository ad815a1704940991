//! What of a client's directories travels: what steps look at, and of that what is not there as it is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferry_testkit::programs;
use serde_json::Value;

use crate::place::Place;
use crate::until;

/// Waits until a file cannot be changed any more without looking different.
fn settle(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    let window = if metadata.ctime_nsec() == 0 { 4000 } else { 300 };
    let ctime = Duration::new(metadata.ctime().try_into().unwrap(), metadata.ctime_nsec().try_into().unwrap());
    let settled = UNIX_EPOCH + ctime + Duration::from_millis(window);
    until("the times of files are in the past", || SystemTime::now() > settled);
}

/// Builds a Dockerfile; returns the bytes that came for each directory that steps looked at.
fn build(place: &Place, flags: &[&str], dockerfile: &str) -> Vec<(String, i64)> {
    place.write("Dockerfile", dockerfile);
    let (file, context) = (place.path("Dockerfile"), place.path("context"));
    let built = place
        .daemon
        .run(&[&["build", "--progress", "rawjson", "-t", "sent", "-f", &file], flags, &[&context]].concat());
    let _ = built.ok();
    let events: Vec<Value> = built.err().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let loads = |digest: &Value| {
        events.iter().any(|event| {
            let name = event["vertex"]["name"].as_str().unwrap_or_default();
            event["vertex"]["digest"] == *digest
                && (name.ends_with("load build context") || name.ends_with("from client"))
        })
    };
    let statuses = events.iter().map(|event| &event["status"]).filter(|status| loads(&status["vertex"]));
    let came = statuses.filter_map(|status| Some((status["id"].as_str()?.to_owned(), status["current"].as_i64()?)));
    let mut came: Vec<(String, i64)> = came.collect();
    came.sort();
    came
}

/// The files of a client's directories that the daemon has.
fn kept(place: &Place) -> Vec<String> {
    let contexts = place.daemon.data_root().join("build/contexts");
    let found = place.sandbox.sh(&format!("cd {} && find . ! -type d", contexts.display())).ok();
    let below = |path: &str| path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    let mut found: Vec<String> = found.lines().map(below).filter(|path| !path.starts_with("dockerfile/")).collect();
    found.sort();
    found
}

fn in_image(place: &Place, command: &str) -> String {
    place.daemon.run(&["run", "--rm", "--network", "none", "sent", "sh", "-c", command]).ok()
}

#[test]
fn only_what_steps_look_at_travels() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let big = "x".repeat(100_000);
    for (name, text) in [
        ("used/a", "in a"),
        ("used/skip.md", "skipped"),
        ("used/deep/b", "in b"),
        ("unused/big", &big),
        ("bound/f", "bound"),
        ("top.txt", "top"),
        ("rest/r", "rest"),
        ("x.log", "ignored"),
        (".dockerignore", "*.log\n"),
    ] {
        place.write(&format!("context/{name}"), text);
    }
    place.write("packed/inner", "inner");
    place.write("extra/one", "one");
    place.write("extra/two", "two");
    std::os::unix::fs::symlink("used", place.dir.join("context/link")).unwrap();
    let _ = place.sandbox.sh(&format!("cd {} && tar -cf context/data.tar -C packed .", place.dir.display())).ok();
    let archive = place.dir.join("context/data.tar");
    settle(&archive);
    let archive = i64::try_from(archive.metadata().unwrap().len()).unwrap();
    let context = |bytes: i64| vec![("transferring context:".to_owned(), bytes)];

    assert_eq!(build(&place, &[], "FROM busybox\nRUN true\n"), [], "nothing is looked at");
    assert_eq!(kept(&place), ["context/.dockerignore"]);
    let some = "FROM busybox AS unused\nCOPY unused /\nFROM busybox\nCOPY to?.txt /\nCOPY --parents use?/deep /p/\n\
        COPY --exclude=*.md link/ /l/\nADD data.tar /d/\nRUN --mount=type=bind,source=bound,target=/b cat /b/f >/f\n";
    let came = build(&place, &[], some);
    let expected = [".dockerignore", "bound/f", "data.tar", "link", "top.txt", "used/a", "used/deep/b", "used/skip.md"];
    assert_eq!(kept(&place), expected.map(|path| format!("context/{path}")));
    assert_eq!(came, context(archive + 4 + 4 + 5 + 3 + 7));
    let shown = in_image(&place, "cat /top.txt /p/used/deep/b /l/a /l/deep/b /d/inner /f; ls /l");
    assert_eq!(shown, "topin bin ain binnerbounda\ndeep");

    assert_eq!(build(&place, &[], some), context(0), "it is there");
    place.write("context/used/a", "changed");
    settle(&place.dir.join("context/used/a"));
    assert_eq!(build(&place, &[], some), context(7));
    assert_eq!(in_image(&place, "cat /l/a"), "changed");
    assert_eq!(build(&place, &[], &format!("{some}COPY unused/b* /\n")), context(100_000));
    assert_eq!(in_image(&place, "wc -c </big"), "100000");

    let all = "FROM busybox\nCOPY . /all\n";
    assert_eq!(build(&place, &[], all), context(4), "what was not there");
    let names = in_image(&place, "cd /all && find . ! -type d | sort");
    let expected = ".dockerignore bound/f data.tar link rest/r top.txt unused/big used/a used/deep/b used/skip.md";
    assert_eq!(names.lines().map(|name| name.trim_start_matches("./")).collect::<Vec<_>>().join(" "), expected);

    std::fs::remove_file(place.dir.join("context/top.txt")).unwrap();
    place.write("context/unused/big", "small");
    settle(&place.dir.join("context/unused/big"));
    assert_eq!(build(&place, &[], "FROM busybox\nCOPY bound /\n"), context(0), "what changed is not looked at");
    assert!(
        !kept(&place).iter().any(|path| path.ends_with("/big") || path.ends_with("/top.txt")),
        "{:?}",
        kept(&place)
    );
    assert_eq!(build(&place, &[], all), context(5));
    assert_eq!(in_image(&place, "cat /all/unused/big; test -e /all/top.txt || echo gone"), "smallgone");

    let extra = format!("extra={}", place.path("extra"));
    let named = "FROM busybox\nCOPY --from=extra on? /\n";
    assert_eq!(build(&place, &["--build-context", &extra], named), [("transferring extra:".to_owned(), 3)]);
    assert!(kept(&place).contains(&"extra/one".to_owned()) && !kept(&place).contains(&"extra/two".to_owned()));
    let whole = "FROM extra\nCOPY bound/f /f\n";
    let came = build(&place, &["--build-context", &extra], whole);
    assert_eq!(came, [("transferring context:".to_owned(), 5), ("transferring extra:".to_owned(), 3)]);
}
