use std::io::Read as _;

use ferry_spec::digest::Digest;
use ferry_store::Store;

use crate::support::{Fixture, describe, run};

fn packed(fixture: &Fixture) -> Vec<u8> {
    let script = r"
        set -e
        mkdir -p tree/a/b; cd tree
        echo one > a/one; head -c 300000 /dev/urandom > a/b/big; : > a/empty
        ln a/one a/b/again; ln -s one a/link; mkfifo a/fifo
        echo gone > a/.wh.gone
        longname=$(printf 'n%.0s' $(seq 1 200)); echo long > $longname
        truncate -s 1M sparse; printf x | dd of=sparse bs=1 seek=500000 conv=notrunc 2>/dev/null
    ";
    run("sh", &["-c", script], fixture.dir.path());
    run(
        "tar",
        &["--format=pax", "--sparse", "--numeric-owner", "-cf", "tree.tar", "-C", "tree", "."],
        fixture.dir.path(),
    );
    std::fs::read(fixture.dir.path().join("tree.tar")).unwrap()
}

fn read(store: &Store, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_layer_that_was_built_gives_its_tar_again() {
    let fixture = Fixture::new();
    let tar = packed(&fixture);
    let store = &fixture.store;
    let new = store.unpack_new_layer(None, &tar[..]).unwrap();
    let digest = Digest::sha256(&tar);
    assert_eq!((new.layer().diff_id.digest(), new.tar_bytes()), (&digest, tar.len() as u64));
    assert!(!store.has_blob(&digest) && store.layers().is_empty(), "nobody sees it yet");
    let layer = store.publish_new_layer(new).unwrap();
    assert!(store.has_layer(&layer.chain_id) && store.has_blob(&digest) && !store.stores_blob(&digest));
    assert_eq!(store.blob_size(&digest).unwrap(), tar.len() as u64);
    assert!(read(store, &digest) == tar, "byte for byte");
    let folder = &store.layer_folders(&layer.chain_id).unwrap()[0];
    let unpacked = describe(folder);
    let again = store.unpack_new_layer(None, &tar[..]).unwrap();
    assert_eq!(store.publish_new_layer(again).unwrap(), layer);
    assert_eq!(describe(folder), unpacked);
    std::fs::write(folder.join("a/one"), "two\n").unwrap();
    assert!(store.open_blob(&digest).is_err(), "what was changed behind our back is not passed on");
}

#[test]
fn a_layer_that_came_with_a_blob_learns_to_do_without() {
    let fixture = Fixture::new();
    let tar = packed(&fixture);
    let digest = Digest::sha256(&tar);
    let chain = fixture.store.apply_layer(None, &digest.clone().into(), "", &tar[..]).unwrap();
    assert!(!fixture.store.has_blob(&digest));
    let new = fixture.store.unpack_new_layer(None, &tar[..]).unwrap();
    assert_eq!(fixture.store.publish_new_layer(new).unwrap().chain_id, chain);
    assert!(read(&fixture.store, &digest) == tar);
    let store = Store::open(&fixture.data()).unwrap();
    assert!(read(&store, &digest) == tar);
}

#[test]
fn a_folder_is_taken_over_as_a_layer() {
    let fixture = Fixture::new();
    let upper = fixture.dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("file"), "content").unwrap();
    let new = fixture.store.adopt_new_layer(None, &upper, |notes| {
        notes.bytes(b"head")?;
        notes.file(b"file", std::fs::File::open(upper.join("file"))?, 7)?;
        notes.bytes(b"tail")
    });
    let layer = fixture.store.publish_new_layer(new.unwrap()).unwrap();
    assert_eq!(layer.size_bytes, 7);
    assert!(!upper.exists());
    assert_eq!(std::fs::read(fixture.diff(&layer.chain_id).join("file")).unwrap(), b"content");
    assert_eq!(read(&fixture.store, layer.diff_id.digest()), b"headcontenttail");
}

#[test]
fn only_settled_layers_outlive_a_power_cut() {
    let fixture = Fixture::new();
    let tar = packed(&fixture);
    let publish = |store: &Store| store.publish_new_layer(store.unpack_new_layer(None, &tar[..]).unwrap()).unwrap();
    let layer = publish(&fixture.store);
    let store = Store::open(&fixture.data()).unwrap();
    assert!(!store.has_layer(&layer.chain_id), "it was not settled");
    let layer = publish(&store);
    store.settle().unwrap();
    let store = Store::open(&fixture.data()).unwrap();
    assert!(store.has_layer(&layer.chain_id));
    assert!(read(&store, layer.diff_id.digest()) == tar);
}
