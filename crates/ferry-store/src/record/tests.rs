use std::collections::BTreeMap;

use super::*;

type Map = BTreeMap<String, String>;

fn map(value: &str) -> Map {
    Map::from([("key".to_owned(), value.to_owned())])
}

#[test]
fn records_are_read_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    assert_eq!(read::<Map>(&path).unwrap(), None);
    write(&path, &map("a")).unwrap();
    write(&path, &map("b")).unwrap();
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("b")));
    assert_eq!(list(dir.path()).unwrap(), vec![path.clone()]);
    assert!(remove(&path).unwrap());
    assert!(!remove(&path).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_damaged_record_is_set_aside_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    write(&path, &map("hello")).unwrap();
    let good = fs::read(&path).unwrap();
    let flipped = String::from_utf8(good.clone()).unwrap().replace("hello", "jello").into_bytes();
    for bad in [Vec::new(), good[..good.len() - 3].to_vec(), flipped, b"null".to_vec()] {
        fs::write(&path, &bad).unwrap();
        let error = read::<Map>(&path).unwrap_err();
        let RecordError::Damaged { aside, .. } = error else { panic!("{error}") };
        assert_eq!(fs::read(&aside).unwrap(), bad);
        assert_eq!(read::<Map>(&path).unwrap(), None, "it costs this object alone");
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    let text = r#"{"format":2,"digest":"blake3:xyz","record":[]}"#;
    fs::write(&path, text).unwrap();
    assert!(matches!(read::<Map>(&path), Err(RecordError::Newer { format: 2, .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_syncer_shows_at_once_and_settles_on_flush() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    let syncer = Syncer::start().unwrap();
    syncer.write(&path, &map("a")).unwrap();
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("a")));
    syncer.flush().unwrap();
    assert!(path.exists() && !new_path(&path).exists());
    syncer.write(&path, &map("b")).unwrap();
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("b")));
    drop(syncer);
    assert!(!new_path(&path).exists(), "the last handle flushes");
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("b")));
}

#[test]
fn an_unsynced_version_lost_to_a_power_cut_gives_way_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    write(&path, &map("old")).unwrap();
    fs::write(new_path(&path), b"").unwrap();
    assert_eq!(list(dir.path()).unwrap(), vec![path.clone()]);
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("old")));
    assert!(!new_path(&path).exists());
}

#[test]
fn a_removed_folder_does_not_disturb_the_syncer() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("object");
    fs::create_dir(&folder).unwrap();
    let syncer = Syncer::start().unwrap();
    syncer.write(&folder.join("x.json"), &map("a")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    syncer.flush().unwrap();
    syncer.write(&dir.path().join("y.json"), &map("b")).unwrap();
    assert!(syncer.remove(&dir.path().join("y.json")).unwrap());
    syncer.flush().unwrap();
    assert_eq!(list(dir.path()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn many_writers_of_one_record_leave_one_whole_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    let syncer = Syncer::start().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (syncer, path) = (&syncer, &path);
            scope.spawn(move || {
                for round in 0..50 {
                    syncer.write(path, &map(&format!("{writer}/{round}"))).unwrap();
                    if round % 10 == 0 {
                        syncer.flush().unwrap();
                    }
                }
            });
        }
    });
    syncer.write(&path, &map("last")).unwrap();
    syncer.flush().unwrap();
    assert_eq!(read::<Map>(&path).unwrap(), Some(map("last")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn killed_writers_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".x.json.0123"), b"half").unwrap();
    assert!(list(dir.path()).unwrap().is_empty());
    sweep(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
