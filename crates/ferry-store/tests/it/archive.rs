use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::manifest::Document;
use ferry_store::{Error, Live, Store};

use crate::support::{Fixture, Tar, diff_id, gzip};

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|tar| diff_id(tar)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}
    });
    serde_json::to_vec(&config).unwrap()
}

fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, name.as_bytes()).end()
}

/// Unpacks what was loaded, which shows that all of it is there.
fn unpack(store: &Store, target: &Descriptor) -> usize {
    let Document::Manifest(manifest) = store.document(target).unwrap() else { panic!("an index") };
    let config = store.image_config(&manifest).unwrap();
    let mut parent = None;
    for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let blob = store.open_blob(&descriptor.digest).unwrap();
        parent = Some(store.apply_layer(parent.as_ref(), diff_id, &descriptor.media_type, blob).unwrap());
    }
    store.layer_chain(&parent.unwrap()).unwrap().len()
}

#[test]
fn dockers_own_form_is_read() {
    let fixture = Fixture::new();
    let (a, b) = (layer("a"), layer("b"));
    let list = r#"[{"Config":"abc.json","RepoTags":["app:1","host:5000/app:2"],"Layers":["x/layer.tar","y/layer.tar","z/layer.tar"]}]"#;
    let archive = Tar::new()
        .dir("x/", 0o755)
        .file("x/VERSION", b"1.0")
        .file("x/layer.tar", &a)
        .file("y/layer.tar", &gzip(&b))
        .symlink("z/layer.tar", "../x/layer.tar")
        .file("abc.json", &config(&[&a, &b, &a]))
        .file("manifest.json", list.as_bytes())
        .end();
    for bytes in [archive.clone(), gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap()] {
        let _lease = fixture.store.lease();
        let images = fixture.store.load_archive(&bytes[..]).unwrap();
        assert_eq!(images.len(), 1);
        let names: Vec<String> = images[0].references.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "host:5000/app:2"]);
        assert_eq!(unpack(&fixture.store, &images[0].target), 3);
    }
    fixture.store.collect(&Live::default()).unwrap();
    assert!(fixture.store.blobs().unwrap().is_empty(), "what no name reaches goes");
}

#[test]
fn an_oci_layout_is_read() {
    let fixture = Fixture::new();
    let a = layer("a");
    let zipped = gzip(&a);
    let config = config(&[&a]);
    let blob = |kind: &str, bytes: &[u8]| Descriptor::new(kind, Digest::sha256(bytes), bytes.len() as u64);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": blob(media_type::OCI_CONFIG, &config), "layers": [blob(media_type::OCI_LAYER_GZIP, &zipped)]
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let entry = |name: Option<(&str, &str)>| {
        let mut target = blob(media_type::OCI_MANIFEST, &manifest);
        target.annotations.extend(name.map(|(key, value)| (key.to_owned(), value.to_owned())));
        target
    };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        entry(Some(("io.containerd.image.name", "docker.io/library/app:1"))),
        entry(Some(("org.opencontainers.image.ref.name", "example.com/app:2"))),
        entry(Some(("org.opencontainers.image.ref.name", "latest"))),
    ]});
    let at = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::sha256(bytes).hex());
    let archive = |skip: &[u8]| {
        let mut tar = Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for bytes in [&zipped, &config, &manifest] {
            if bytes != skip {
                tar = tar.file(&at(bytes), bytes);
            }
        }
        // Docker writes both lists; this one is the better.
        tar.file("manifest.json", b"[]").file("index.json", &serde_json::to_vec(&index).unwrap()).end()
    };
    let images = fixture.store.load_archive(&archive(b"")[..]).unwrap();
    assert_eq!(images.len(), 1);
    let names: Vec<String> = images[0].references.iter().map(|name| name.familiar()).collect();
    assert_eq!(names, ["app:1", "example.com/app:2"]);
    assert_eq!(unpack(&fixture.store, &images[0].target), 1);
    for missing in [&zipped, &config, &manifest] {
        let other = Store::open(&fixture.dir.path().join("other")).unwrap();
        let error = other.load_archive(&archive(missing)[..]).unwrap_err();
        assert!(error.is_bad_content() && error.to_string().contains(&at(missing)), "{error}");
        other.collect(&Live::default()).unwrap();
    }
}

#[test]
fn archives_that_are_none_or_lie_are_refused() {
    let fixture = Fixture::new();
    let a = layer("a");
    let good = config(&[&a]);
    let with = |list: &str, tar: Tar| tar.file("manifest.json", list.as_bytes()).end();
    let base = || Tar::new().file("c.json", &good).file("l.tar", &a);
    let one = |config: &str, name: &str, layers: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["{name}"],"Layers":[{layers}]}}]"#)
    };
    let secret = fixture.dir.path().join("secret.json");
    std::fs::write(&secret, &good).unwrap();
    let secret = secret.to_str().unwrap();
    let lying = format!("blobs/sha256/{}", Digest::sha256(b"other").hex());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no list", base().end(), "neither a Docker image archive nor an OCI image layout"),
        ("nothing", Tar::new().end(), "neither"),
        ("no json", with("[", base()), "invalid manifest.json"),
        ("twice", with(r#"[{"Config":"c.json","config":"d"}]"#, base()), "invalid manifest.json"),
        ("absent config", with(&one("d.json", "a:1", r#""l.tar""#), base()), "d.json"),
        ("absent layer", with(&one("c.json", "a:1", r#""m.tar""#), base()), "m.tar"),
        ("host file as config", with(&one(secret, "a:1", r#""l.tar""#), base()), "secret.json"),
        ("host file by dots", with(&one("../../secret.json", "a:1", r#""l.tar""#), base()), "secret.json"),
        ("link to a host file", with(&one("s.json", "a:1", r#""l.tar""#), base().symlink("s.json", secret)), "s.json"),
        ("bad name", with(&one("c.json", "../../x:y", r#""l.tar""#), base()), "invalid image name"),
        ("escape in name", with(&one("c.json", "a\\u001b[31m:1", r#""l.tar""#), base()), "invalid image name"),
        ("too few layers", with(&one("c.json", "a:1", ""), base()), "0 layers and 1 diff IDs"),
        ("config is none", with(&one("l.tar", "a:1", r#""l.tar""#), base()), "image configuration"),
        ("lying blob name", base().file(&lying, b"not other").end(), "verification failed"),
        ("noise", vec![7; 5000], "cannot read archive"),
    ];
    for (case, bytes, text) in cases {
        let error = fixture.store.load_archive(&bytes[..]).unwrap_err();
        assert!(error.to_string().contains(text), "{case}: {error}");
        assert!(error.is_bad_content(), "{case}");
        assert!(fixture.left_overs().is_empty(), "{case}");
    }
    let fine = with(&one("c.json", "a:1", r#""l.tar""#), base());
    assert_eq!(fixture.store.load_archive(&fine[..]).unwrap().len(), 1);
    assert!(matches!(
        fixture.store.load_archive(&gzip(&fine)[..200]).unwrap_err(),
        Error::Archive(ferry_store::archive::ArchiveError::Read(_))
    ));
}

#[test]
fn a_tar_of_files_becomes_a_layer() {
    let fixture = Fixture::new();
    let tar = layer("a");
    for (bytes, kind) in [
        (tar.clone(), media_type::DOCKER_LAYER),
        (gzip(&tar), media_type::DOCKER_LAYER_GZIP),
        (zstd::encode_all(&tar[..], 1).unwrap(), media_type::OCI_LAYER_ZSTD),
    ] {
        let layer = fixture.store.import_layer(&bytes[..]).unwrap();
        assert_eq!(layer.diff_id, diff_id(&tar));
        assert_eq!(layer.descriptor, Descriptor::new(kind, Digest::sha256(&bytes), bytes.len() as u64));
    }
    assert!(fixture.store.import_layer(&gzip(&tar)[..50]).unwrap_err().is_bad_content());
}
