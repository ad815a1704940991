use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::Digest;
use ferry_spec::reference::Reference;
use ferry_store::{Error, Store};

use crate::support::Fixture;

#[test]
fn content_is_visible_only_when_it_proved_right() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let digest = Digest::sha256(b"hello world");
    let mut writer = store.writer(&digest, Some(11)).unwrap();
    writer.write(b"hello ").unwrap();
    assert!(!store.has_blob(&digest));
    writer.write(b"world").unwrap();
    writer.commit().unwrap();
    assert!(store.has_blob(&digest));
    assert_eq!(store.blob_size(&digest).unwrap(), 11);
    assert_eq!(store.read_blob(&digest, 11).unwrap(), b"hello world");
    assert!(matches!(store.read_blob(&digest, 10), Err(Error::BlobTooLong { .. })));
    let sha512 = Digest::parse(&format!("sha512:{}", "a".repeat(128))).unwrap();
    assert!(matches!(store.read_blob(&sha512, 10), Err(Error::BlobNotFound(_))));
}

#[test]
fn wrong_bytes_leave_nothing() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let digest = Digest::sha256(b"hello world");
    let mut writer = store.writer(&digest, Some(11)).unwrap();
    writer.write(b"hello earth").unwrap();
    assert!(matches!(writer.commit(), Err(Error::WrongDigest { .. })));
    let mut writer = store.writer(&digest, Some(11)).unwrap();
    writer.write(b"hello").unwrap();
    assert!(matches!(writer.commit(), Err(Error::WrongSize { actual: Some(5), .. })));
    let mut writer = store.writer(&digest, Some(11)).unwrap();
    assert!(matches!(writer.write(b"hello world!"), Err(Error::WrongSize { actual: None, .. })));
    assert_eq!(writer.offset(), 0, "not one byte of it was taken");
    drop(writer);
    assert!(!store.has_blob(&digest));
    assert!(fixture.left_overs().is_empty(), "{:?}", fixture.left_overs());
}

#[test]
fn a_broken_transfer_is_continued() {
    let fixture = Fixture::new();
    let digest = Digest::sha256(b"hello world");
    let mut writer = fixture.store.writer(&digest, Some(11)).unwrap();
    writer.write(b"hello ").unwrap();
    writer.keep_partial().unwrap();
    // A start keeps it, and takes what nobody put aside.
    std::fs::write(fixture.data().join("content/ingest/0123456789abcdef"), b"x").unwrap();
    let store = Store::open(&fixture.data()).unwrap();
    let mut writer = store.writer(&digest, Some(11)).unwrap();
    assert_eq!(writer.offset(), 6);
    let other = store.writer(&digest, Some(11)).unwrap();
    assert_eq!(other.offset(), 0, "one continues it, the other starts anew");
    drop(other);
    writer.write(b"world").unwrap();
    writer.commit().unwrap();
    assert!(store.has_blob(&digest));
    assert!(fixture.left_overs().is_empty());
}

#[test]
fn a_partial_that_cannot_be_right_is_dropped() {
    let fixture = Fixture::new();
    let digest = Digest::sha256(b"abc");
    let mut writer = fixture.store.writer(&digest, None).unwrap();
    writer.write(b"longer than that").unwrap();
    writer.keep_partial().unwrap();
    let mut writer = fixture.store.writer(&digest, Some(3)).unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(b"xx").unwrap();
    writer.restart().unwrap();
    writer.write(b"abc").unwrap();
    writer.commit().unwrap();
    assert!(fixture.store.has_blob(&digest));
}

#[test]
fn content_that_the_disk_changed_is_not_handed_out() {
    let fixture = Fixture::new();
    let digest = fixture.store.put_blob(b"{}").unwrap();
    assert_eq!(fixture.store.put_blob(b"{}").unwrap(), digest);
    std::fs::write(fixture.data().join("content/blobs/sha256").join(digest.hex()), b"[]").unwrap();
    assert!(matches!(fixture.store.read_blob(&digest, 100), Err(Error::WrongDigest { .. })));
}

#[test]
fn image_names_come_and_go() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let digest = store.put_blob(b"{}").unwrap();
    let target = Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest, 2);
    let name = |text: &str| Reference::parse_with_default_tag(text).unwrap();
    assert_eq!(store.image(&name("a")).unwrap(), None);
    for text in ["b", "a:1", "a"] {
        store.set_image(&name(text), &target, 7).unwrap();
    }
    let names: Vec<String> = store.images().unwrap().iter().map(|record| record.reference.familiar()).collect();
    assert_eq!(names, ["a:1", "a:latest", "b:latest"]);
    assert_eq!(store.image(&name("a")).unwrap().unwrap().target, target);
    assert!(store.remove_image(&name("a")).unwrap());
    assert!(!store.remove_image(&name("a")).unwrap());
    assert_eq!(store.images().unwrap().len(), 2);
}

#[test]
fn a_damaged_image_name_costs_that_name_alone() {
    let fixture = Fixture::new();
    let target = Descriptor::new("", Digest::sha256(b""), 0);
    for text in ["a:1", "b:1"] {
        fixture.store.set_image(&Reference::parse(text).unwrap(), &target, 0).unwrap();
    }
    let a = Digest::sha256(b"docker.io/library/a:1");
    let path = fixture.data().join("images").join(format!("{}.json", a.hex()));
    std::fs::write(&path, b"").unwrap();
    let store = Store::open(&fixture.data()).unwrap();
    let names: Vec<String> = store.images().unwrap().iter().map(|record| record.reference.familiar()).collect();
    assert_eq!(names, ["b:1"]);
    assert!(!path.exists(), "it was set aside");
    assert_eq!(std::fs::read_dir(fixture.data().join("images")).unwrap().count(), 2, "and kept");
}
