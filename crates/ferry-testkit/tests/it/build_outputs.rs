//! What becomes of what is built: archives, layouts, files, registries, several at once; and the same digest every time.

use ferry_testkit::programs;
use ferry_testkit::registry::ADDRESS;
use serde_json::Value;

use crate::place::Place;

#[test]
fn what_is_built_goes_wherever_it_is_asked_to() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("context/Dockerfile", "FROM busybox\nRUN echo made >/made && chmod 750 /made\n");
    let image = format!("{ADDRESS}/out:1");
    let (oci, tar, folder, layout) =
        (place.path("i.oci"), place.path("f.tar"), place.path("files"), place.path("layout"));
    let metadata = place.path("metadata.json");
    let flags = [
        format!("type=oci,dest={oci}"),
        format!("type=tar,dest={tar}"),
        folder.clone(),
        format!("type=oci,tar=false,dest={layout}"),
        "type=image,push=true".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["-o", flag.as_str()]).collect();
    let built = place.show(&[&["-t", &image, "--metadata-file", &metadata], &flags[..]].concat());
    assert_eq!(built.code, 0, "{built}");
    let id = place.daemon.inspect(&image, "{{.Id}}");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(told["containerimage.digest"], id.as_str());
    assert_eq!(std::fs::read_to_string(place.dir.join("files/made")).unwrap(), "made\n");
    let listed =
        place.sandbox.sh(&format!("tar -tvf {tar} made; tar -xOf {oci} index.json; cat {layout}/index.json")).ok();
    assert!(listed.contains("-rwxr-x---"), "{listed}");
    assert_eq!(listed.matches(&id).count(), 2, "{listed}");
    assert!(place.dir.join("layout/blobs/sha256").join(id.trim_start_matches("sha256:")).is_file());
    assert_eq!(place.daemon.api("GET", &format!("/distribution/{image}/json"), None).status, 200);

    // What lies in a layout is the base of more.
    place.write("upper/Dockerfile", "FROM below\nRUN cat /made >/seen\n");
    let (upper, below) = (place.path("upper"), format!("below=oci-layout://{layout}:1"));
    let based = place.daemon.run(&["build", "-q", "--build-context", &below, &upper]);
    assert_eq!(place.read(&based.ok(), "/seen"), "made");
    let below = format!("below=oci-layout://{layout}:none");
    let missing = place.daemon.run(&["build", "--build-context", &below, &upper]);
    assert!(missing.fails_with(1).contains("failed to find tag \"none\" in OCI layout"), "{missing}");

    // An archive for docker load, on standard output; the image is not kept.
    let _ = place.daemon.run(&["rmi", "-f", &image]).ok();
    let context = place.path("context");
    let archive = place.daemon.run(&["build", "-t", "archived:2", "-o", "type=docker,dest=-", &context]);
    assert_eq!(archive.code, 0, "{}", archive.err());
    assert!(!place.daemon.run(&["images"]).ok().contains("archived"), "it went to the archive alone");
    let loaded = place.daemon.run_with_input(&["load"], &archive.stdout);
    assert!(loaded.ok().contains("archived:2"), "{loaded}");

    // Nowhere: what was built is in the cache alone.
    place.write("cached/Dockerfile", "FROM busybox\nRUN echo cached >/cached\n");
    let cached = place.path("cached");
    let _ = place.daemon.run(&["build", "-t", "nowhere", "-o", "type=cacheonly", &cached]).ok();
    assert!(!place.daemon.run(&["images"]).ok().contains("nowhere"));
    let again = place.daemon.run(&["build", "--progress", "plain", "-t", "somewhere", &cached]);
    assert!(again.code == 0 && again.err().contains(" CACHED\n"), "{again}");

    // By its digest alone, without a name here or there.
    let name = format!("{ADDRESS}/nameless");
    let built = place.show(&[
        "-o",
        &format!("type=image,name={name},push-by-digest=true,name-canonical=true,push=true,store=false"),
        "--metadata-file",
        &metadata,
    ]);
    assert_eq!(built.code, 0, "{built}");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    let digest = told["containerimage.digest"].as_str().unwrap();
    let reach = |reference: &str| place.daemon.api("GET", &format!("/distribution/{reference}/json"), None).status;
    assert_eq!(reach(&format!("{name}@{digest}")), 200);
    assert_ne!(reach(&format!("{name}:latest")), 200, "nobody gave it a tag");
    assert!(!place.daemon.run(&["images"]).ok().contains("nameless"));
    for (flags, text) in [
        (vec!["--push"], "tag is needed when pushing to registry"),
        (vec!["-o", "type=image,name=x:1,push-by-digest=true"], "can't push tagged ref x:1 by digest"),
        (vec!["-o", "type=nothing"], "exporter \"nothing\" could not be found"),
        (vec!["-o", "type=tar,dest=/no/such/folder/x"], "open /no/such/folder/x: No such file or directory"),
        (vec!["-o", "type=local"], "dest is required for local exporter"),
    ] {
        let refused = place.show(&flags);
        assert!(refused.code != 0 && refused.err().contains(text), "{flags:?}: {refused}");
    }
}

#[test]
fn the_same_input_gives_the_same_digest() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY f /f\nRUN mkdir -p /made/deep && echo one >/made/deep/one && ln -s one /made/deep/link && rm /f\n\
         RUN date >/dev/null; touch /etc/passwd\n",
    );
    place.write("context/f", "content");
    let out = place.path("out");
    let build = |epoch: &str| {
        let epoch = format!("SOURCE_DATE_EPOCH={epoch}");
        let image = "type=image,rewrite-timestamp=true";
        let digest = place.build(&["--no-cache", "-t", "same", "--build-arg", &epoch, "-o", image]);
        (digest, place.daemon.inspect("same", "{{.Created}}"))
    };
    let (first, created) = build("1000000000");
    assert_eq!(created, "2001-09-09T01:46:40Z");
    // A moment later than any file of the base image was made, and another directory's time.
    place.write("context/f", "content");
    assert_eq!(build("1000000000").0, first);
    assert_ne!(build("1000000001").0, first);
    let shown =
        place.daemon.run(&["run", "--rm", "--network", "none", &first, "stat", "-c", "%Y", "/made/deep/one"]).ok();
    assert_eq!(shown, "1000000000");
    // Without it the files have the times at which they were made.
    let plain = place.build(&["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]);
    let shown =
        place.daemon.run(&["run", "--rm", "--network", "none", &plain, "stat", "-c", "%Y", "/made/deep/one"]).ok();
    assert_ne!(shown, "1000000000");
    let _ = place.build(&["-o", &format!("type=local,dest={out},source-date-epoch=5")]);
    let times = place.sandbox.sh(&format!("stat -c %Y {out}/made/deep/one {out}/made")).ok();
    assert_eq!(times, "5\n5");
}
