//! What is told of an image beside it: statements on its origin and its packages, annotations, the form of its layers.

use ferry_testkit::registry::ADDRESS;
use ferry_testkit::{api, programs};
use serde_json::Value;

use crate::place::Place;

/// A place with a context whose image has a package.
struct Described(Place);

impl std::ops::Deref for Described {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Described {
    fn start() -> Self {
        let place = Place::start();
        place.write("context/status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\n");
        let dockerfile = "FROM busybox\nARG WHO=nobody\nRUN --mount=type=secret,id=token,required=false echo $WHO >/who\n\
            COPY status /var/lib/dpkg/status\n";
        place.write("context/Dockerfile", dockerfile);
        Self(place)
    }

    fn statements(&self, image: &str) -> Vec<Value> {
        let path = api::encode(&format!("/v1.53/images/{image}/attestations?statement=1"));
        let answer = self.daemon.api("GET", &path, None).json();
        answer.as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    }

    /// The documents of an image as the registry has them: the index, and the manifest of the first platform.
    fn documents(&self, image: &str) -> (Value, Value) {
        let (name, tag) = image.strip_prefix(ADDRESS).unwrap().trim_start_matches('/').split_once(':').unwrap();
        let fetch = |reference: &str| {
            let accept = "-H 'Accept: application/vnd.oci.image.index.v1+json' -H 'Accept: application/vnd.oci.image.manifest.v1+json'";
            let text =
                self.daemon.sh(&format!("curl -s {accept} http://{ADDRESS}/v2/{name}/manifests/{reference}")).ok();
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        let index = fetch(tag);
        let manifest = fetch(index["manifests"][0]["digest"].as_str().unwrap());
        (index, manifest)
    }
}

#[test]
fn statements_and_notes_lie_beside_an_image_wherever_it_goes() {
    if !programs::need_root() {
        return;
    }
    let place = Described::start();
    let image = format!("{ADDRESS}/app:1");
    let metadata = place.path("metadata.json");
    let built = place.show(&[
        "-t",
        &image,
        "--provenance",
        "mode=max",
        "--sbom",
        "true",
        "--build-arg",
        "WHO=me",
        "--annotation",
        "index:of=index",
        "--annotation",
        "of=manifest",
        "-o",
        "type=image,compression=zstd,force-compression=true,push=true",
        "--metadata-file",
        &metadata,
    ]);
    assert_eq!(built.code, 0, "{built}");
    assert!(built.err().contains("exporting attestation manifest sha256:"), "{built}");
    let (index, manifest) = place.documents(&image);
    assert_eq!(index["annotations"]["of"], "index");
    assert_eq!(manifest["annotations"]["of"], "manifest");
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    let beside = &index["manifests"][1];
    assert_eq!(beside["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(beside["annotations"]["vnd.docker.reference.digest"], index["manifests"][0]["digest"]);
    assert_eq!(beside["platform"]["os"], "unknown");
    let statements = place.statements(&image);
    let kinds: Vec<_> = statements.iter().map(|one| one["PredicateType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);
    let package = &statements[0]["Statement"]["predicate"]["packages"][0];
    assert_eq!((&package["name"], &package["versionInfo"]), (&"libc6".into(), &"2.36-9".into()));
    let subject = &statements[1]["Statement"]["subject"][0];
    assert!(subject["name"].as_str().unwrap().starts_with("pkg:docker/127.0.0.1:5000/app@1?platform="), "{subject}");
    let origin = &statements[1]["Statement"]["predicate"]["buildDefinition"];
    assert_eq!(origin["externalParameters"]["request"]["args"]["build-arg:WHO"], "me");
    assert_eq!(origin["externalParameters"]["request"]["secrets"][0]["id"], "token");
    assert!(origin["internalParameters"]["buildConfig"]["llbDefinition"].as_array().unwrap().len() > 2, "{origin}");
    let tree = place.daemon.run(&["image", "ls", "--tree"]).ok();
    assert!(tree.contains(&format!("{ADDRESS}/app:1")), "{tree}");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    let invocation = &told["buildx.build.provenance"]["invocation"];
    assert_eq!(invocation["configSource"]["entryPoint"], "Dockerfile");
    assert!(!told["buildx.build.provenance"].to_string().contains("\"me\""), "{told}");
    assert_eq!(place.daemon.run(&["run", "--rm", "--network", "none", &image, "cat", "/who"]).ok(), "me");

    // Without force the layers of the base stay as they are; Docker's own types are told apart, and carry no statements.
    let built = place.show(&[
        "-t",
        &format!("{ADDRESS}/docker:1"),
        "--push",
        "-o",
        "type=image,compression=zstd,oci-mediatypes=false",
    ]);
    assert_eq!(built.code, 0, "{built}");
    let text = place
        .daemon
        .sh(&format!(
            "curl -s -H 'Accept: {}' http://{ADDRESS}/v2/docker/manifests/1",
            "application/vnd.docker.distribution.manifest.v2+json"
        ))
        .ok();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let types: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].clone()).collect();
    assert_eq!(types[0], "application/vnd.docker.image.rootfs.diff.tar", "{text}");
    assert_eq!(types[1], "application/vnd.docker.image.rootfs.diff.tar.zstd", "{text}");
}

#[test]
fn statements_about_files_lie_among_them() {
    if !programs::need_root() {
        return;
    }
    let place = Described::start();
    let out = place.path("out");
    let built = place.show(&["--provenance", "mode=min", "--sbom", "true", "-o", &out]);
    assert_eq!(built.code, 0, "{built}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(place.dir.join("out").join(name)).unwrap()).unwrap()
    };
    let origin = read("provenance.json");
    let subjects = origin["subject"].as_array().unwrap();
    assert!(subjects.iter().any(|subject| subject["name"] == "who"), "{origin}");
    assert_eq!(read("sbom.spdx.json")["predicate"]["spdxVersion"], "SPDX-2.3");
    for (flags, text) in [
        (vec!["--attest", "type=other"], "unknown attestation type \"other\""),
        (vec!["--sbom", "generator="], "sbom generator cannot be empty"),
        (vec!["--sbom", "generator=A"], "failed to parse sbom generator A: invalid reference format"),
        (vec!["--provenance", "mode=some"], "invalid mode \"some\""),
        (vec!["--annotation", "index:a=b"], "index annotations not supported for single platform export"),
        (vec!["-o", "type=image,compression=estargz"], "not implemented: compression=estargz of layers"),
        (vec!["--sbom", "true", "-o", "type=image,oci-mediatypes=false"], "cannot export attestations with"),
    ] {
        let refused = place.show(&flags);
        assert!(refused.code != 0 && refused.err().contains(text), "{flags:?}: {refused}");
    }
}

/// A scanner: it writes a document for each tree that it is shown.
const SCANNER: &str = r#"FROM busybox
COPY <<"END" /scan.sh
set -e
document() {
    cat >$BUILDKIT_SCAN_DESTINATION/$1.spdx.json <<JSON
{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://spdx.dev/Document", "subject": $2, "predicate":
 {"spdxVersion": "SPDX-2.3", "name": "$3", "comment": "depth $BUILDKIT_SCAN_DEPTH in $PWD by $(id -u) $GREETING",
  "files": [{"SPDXID": "SPDXRef-f", "fileName": "/who"}]}}
JSON
}
! touch $BUILDKIT_SCAN_SOURCE/x 2>/dev/null
touch /tmp/x
document $(basename $BUILDKIT_SCAN_SOURCE) null "$(cat $BUILDKIT_SCAN_SOURCE/who)"
for extra in ${BUILDKIT_SCAN_SOURCE_EXTRAS:-/nothing}/*; do
    test -d $extra || continue
    document $(basename $extra) '[{"name": "extra", "digest": {"sha256": "00"}}]' "$(ls $extra | tr '\n' ' ')"
done
END
WORKDIR /srv
ENV GREETING=hello
ENTRYPOINT ["/bin/sh"]
CMD ["/scan.sh"]
"#;

#[test]
fn a_scanner_of_the_users_choice_looks_at_what_was_built() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let scanner = format!("{ADDRESS}/scanner:1");
    let generator = format!("generator={scanner},DEPTH=3");
    place.write("scanner/Dockerfile", SCANNER);
    let folder = place.path("scanner");
    let _ = place.daemon.run(&["build", "-q", "-t", &scanner, "--push", &folder]).ok();
    // It comes out of the registry like any other image.
    let _ = place.daemon.run(&["rmi", &scanner]).ok();
    place.write("context/who", "me");
    place.write("context/Dockerfile", "FROM scratch\nCOPY who /who\n");
    let image = format!("{ADDRESS}/app:1");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--provenance", "mode=min"];
    let built = place.show(&[&["-t", &image, "--push", "--sbom", &generator][..], &platforms].concat());
    assert_eq!(built.code, 0, "{built}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let step = format!("[{platform}] generating sbom using {scanner}");
        assert!(built.err().contains(&step), "{built}");
    }
    let described = Described(place);
    let (index, manifest) = described.documents(&image);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4, "{index}");
    let statements = described.statements(&image);
    let statement = &statements[0]["Statement"];
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let subject = &statement["subject"][0];
    assert!(subject["name"].as_str().unwrap().starts_with("pkg:docker/127.0.0.1:5000/app@1?platform="), "{subject}");
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap()), digest);
    let document = &statement["predicate"];
    assert_eq!((&document["name"], &document["comment"]), (&"me".into(), &"depth 3 in /srv by 0 hello".into()));
    let layer = format!("layerID: {}", manifest["layers"][0]["digest"].as_str().unwrap());
    assert_eq!(document["files"][0]["comment"], layer.as_str());
    assert!(document["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: ferry-"), "{document}");
    let origin = statements[1]["Statement"]["predicate"]["buildDefinition"]["resolvedDependencies"].to_string();
    assert!(origin.contains("pkg:docker/127.0.0.1:5000/scanner@1"), "{origin}");

    // Stages and the context are looked at where the Dockerfile asks for it.
    let Described(place) = described;
    let dockerfile = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM busybox AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n\
        RUN mkdir /only; touch /only/tool\nFROM scratch\nCOPY --from=tools /only /only\nCOPY who /who\n";
    place.write("context/Dockerfile", dockerfile);
    let out = place.path("out");
    let flags = ["--attest", &format!("type=sbom,{generator}"), "-o", &out];
    let built = place.show(&flags);
    assert_eq!(built.code, 0, "{built}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(place.dir.join("out").join(name)).unwrap()).unwrap()
    };
    let core = read("sbom.spdx.json");
    let subjects: Vec<_> = core["subject"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(subjects, ["only/tool", "who"]);
    let context = read("sbom-context.spdx.json");
    assert_eq!((&context["subject"][0]["name"], &context["predicate"]["name"]), (&"extra".into(), &"who ".into()));
    let tools = read("sbom-tools.spdx.json");
    assert!(tools["predicate"]["name"].as_str().unwrap().contains(" only "), "{tools}");
    let again = place.show(&flags);
    let cached =
        |line: &str| again.err().lines().any(|other| other == format!("{} CACHED", line.split(' ').next().unwrap()));
    let text = again.err();
    let step = text.lines().find(|line| line.contains("generating sbom using")).unwrap_or_else(|| panic!("{again}"));
    assert!(cached(step), "{again}");

    for (scanner, text) in [
        ("FROM busybox\nCMD [\"sh\", \"-c\", \"echo cannot >&2; exit 3\"]\n", "exit code: 3"),
        ("FROM scratch\nCOPY who /\n", "does not have cmd"),
        (
            "FROM busybox\nCMD [\"sh\", \"-c\", \"echo '{\\\"predicateType\\\":\\\"x\\\"}' >/run/out/x\"]\n",
            "bundle entry x does not match required predicate type https://spdx.dev/Document",
        ),
        ("FROM busybox\nCMD [\"mkdir\", \"/run/out/x\"]\n", "x is not a regular file"),
        ("FROM busybox\nCMD [\"ln\", \"-s\", \"/etc/passwd\", \"/run/out/x\"]\n", "x is not a regular file"),
        ("FROM busybox\nCMD [\"touch\", \"/run/out/x\"]\n", "cannot decode in-toto statement: EOF"),
    ] {
        place.write("bad/Dockerfile", scanner);
        place.write("bad/who", "x");
        let _ = place.daemon.run(&["build", "-q", "-t", "bad", &place.path("bad")]).ok();
        let refused = place.show(&["--sbom", "generator=bad"]);
        assert!(refused.fails_with(1).contains(text), "{scanner}: {refused}");
    }
    let missing = place.show(&["--sbom", &format!("generator={ADDRESS}/nothing")]);
    let text = format!("failed to resolve source metadata for {ADDRESS}/nothing:latest: ");
    assert!(missing.fails_with(1).contains(&text), "{missing}");
}
