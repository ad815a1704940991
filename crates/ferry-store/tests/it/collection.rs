use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::{ChainId, Digest};
use ferry_spec::reference::Reference;
use ferry_store::{Live, Store};

use crate::support::{Fixture, Tar, diff_id, gzip};

/// An image of these layers, all of it in the store; returns its manifest's descriptor and its topmost chain id.
pub(crate) fn make_image(store: &Store, layers: &[Vec<u8>]) -> (Descriptor, ChainId) {
    let diff_ids: Vec<_> = layers.iter().map(|tar| diff_id(tar)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}
    });
    let config = serde_json::to_vec(&config).unwrap();
    let mut parent = None;
    let mut descriptors = Vec::new();
    for tar in layers {
        let zipped = gzip(tar);
        let digest = store.put_blob(&zipped).unwrap();
        descriptors.push(Descriptor::new(media_type::OCI_LAYER_GZIP, digest, zipped.len() as u64));
        parent = Some(store.apply_layer(parent.as_ref(), &diff_id(tar), "", &zipped[..]).unwrap());
    }
    let config_digest = store.put_blob(&config).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::new(media_type::OCI_CONFIG, config_digest, config.len() as u64), "layers": descriptors
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = store.put_blob(&manifest).unwrap();
    (Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64), parent.unwrap())
}

pub(crate) fn layers(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| Tar::new().file(name, name.as_bytes()).end()).collect()
}

pub(crate) fn assert_whole(store: &Store, target: &Descriptor, chain: &ChainId) {
    let reachable = store.reachable(target);
    assert!(reachable.chains.contains(chain), "the configuration is read");
    for digest in &reachable.blobs {
        assert!(store.has_blob(digest), "{digest} is missing");
    }
    assert!(store.has_layer(chain));
}

#[test]
fn what_a_name_reaches_stays_and_the_rest_goes() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (kept, kept_chain) = make_image(store, &layers(&["base", "kept"]));
    let (dropped, dropped_chain) = make_image(store, &layers(&["base", "dropped"]));
    let name = Reference::parse("kept:1").unwrap();
    store.set_image(&name, &kept, 0).unwrap();
    let collected = store.collect(&Live::default()).unwrap();
    assert_whole(store, &kept, &kept_chain);
    assert!(!store.has_blob(&dropped.digest) && !store.has_layer(&dropped_chain));
    assert_eq!((collected.blobs.len(), collected.layers.len()), (3, 1), "the shared layer stays");
    assert!(fixture.left_overs().is_empty());
    store.remove_image(&name).unwrap();
    let live = Live { blobs: HashSet::new(), chains: HashSet::from([kept_chain.clone()]) };
    store.collect(&live).unwrap();
    assert_eq!(store.layer_chain(&kept_chain).unwrap().len(), 2, "a container keeps its layers and those below");
    assert!(store.blobs().unwrap().is_empty());
    let collected = store.collect(&Live::default()).unwrap();
    assert_eq!((collected.bytes, store.layers().len()), (8, 0));
    assert_eq!(std::fs::read_dir(fixture.data().join("layers/l")).unwrap().count(), 0);
}

#[test]
fn a_lease_holds_what_is_written_and_what_is_found() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let old = store.put_blob(b"old").unwrap();
    let found = store.put_blob(b"found").unwrap();
    let base = fixture.apply(None, &layers(&["base"])[0]).unwrap();
    let top = fixture.apply(Some(&base), &layers(&["top"])[0]).unwrap();
    let lease = store.lease();
    assert!(store.has_blob(&found) && store.has_layer(&top));
    let new = store.put_blob(b"new").unwrap();
    store.collect(&Live::default()).unwrap();
    assert!(store.has_blob(&found) && store.has_blob(&new) && store.has_layer(&top));
    drop(lease);
    assert_eq!(store.layers().len(), 2);
    store.collect(&Live::default()).unwrap();
    assert!(!store.has_blob(&old) && !store.has_blob(&found) && store.layers().is_empty());
}

#[test]
fn an_index_keeps_the_platforms_that_are_here() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (manifest, chain) = make_image(store, &layers(&["a"]));
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"arm64"), 5);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [absent, manifest]});
    let index = serde_json::to_vec(&index).unwrap();
    let digest = store.put_blob(&index).unwrap();
    let target = Descriptor::new(media_type::OCI_INDEX, digest, index.len() as u64);
    store.set_image(&Reference::parse("multi:1").unwrap(), &target, 0).unwrap();
    let collected = store.collect(&Live::default()).unwrap();
    assert_eq!(collected, ferry_store::Collected::default());
    assert!(store.has_layer(&chain));
}

#[test]
fn pulls_and_removals_beside_collections_never_lose_or_leak() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let stop = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut collections = 0;
            while !stop.load(Ordering::SeqCst) {
                store.collect(&Live::default()).unwrap();
                collections += 1;
            }
            collections
        });
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let rounds = &rounds;
                scope.spawn(move || {
                    // Two of them want the same image, so each finds what the other brought.
                    let own = format!("w{}", worker / 2);
                    let reference = Reference::parse(&format!("image-{worker}:1")).unwrap();
                    for _ in 0..40 {
                        let lease = store.lease();
                        let (target, chain) = make_image(store, &layers(&["base", &own]));
                        store.set_image(&reference, &target, 0).unwrap();
                        drop(lease);
                        assert_whole(store, &target, &chain);
                        store.remove_image(&reference).unwrap();
                        rounds.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        assert!(collector.join().unwrap() > 0);
    });
    assert_eq!(rounds.load(Ordering::SeqCst), 120);
    store.collect(&Live::default()).unwrap();
    assert!(store.blobs().unwrap().is_empty() && store.layers().is_empty(), "nothing is left over");
    assert!(fixture.left_overs().is_empty());
    assert_eq!(std::fs::read_dir(fixture.data().join("layers/l")).unwrap().count(), 0);
}
