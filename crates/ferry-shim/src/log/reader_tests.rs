//! The reader against the writer: order over files, tails, times, following, damage.

use super::*;
use crate::log::tests::Folder;
use crate::log::{Format, Stream, Writer, WriterOptions};

/// The formats, each with a size that some fifteen entries fill.
const FORMATS: [(Format, u64); 2] = [(Format::JsonFile, 1000), (Format::Local, 330)];

fn rotating(folder: &Folder, max_size_bytes: u64, compress: bool) -> Writer {
    rotating_in(folder, (Format::JsonFile, max_size_bytes), compress)
}

fn rotating_in(folder: &Folder, (format, max_size_bytes): (Format, u64), compress: bool) -> Writer {
    folder.writer(WriterOptions {
        file_name: "l".into(),
        format,
        max_size_bytes: Some(max_size_bytes),
        max_files: 5,
        compress,
        ..Default::default()
    })
}

fn write(writer: &mut Writer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        writer.push(Stream::Stdout, number.to_string().as_bytes(), true, number);
    }
    writer.flush();
    while let Some(mut job) = writer.next_compression().expect("job") {
        crate::log::compress(&mut job.source, &mut job.target).expect("compress");
        writer.finish_compression(true).expect("finish");
    }
}

fn rest(reader: &mut Reader) -> Vec<i64> {
    let mut numbers = Vec::new();
    while let Some(entry) = reader.next_entry().expect("read") {
        let text = std::str::from_utf8(entry.line).expect("text");
        let number = text.trim_end().parse().expect("number");
        assert_eq!(entry.time_ns, number);
        numbers.push(number);
    }
    numbers
}

fn follow(reader: &mut Reader) -> Vec<i64> {
    let mut numbers = Vec::new();
    while reader.poll_more().expect("poll") {
        numbers.extend(rest(reader));
    }
    numbers
}

fn read(folder: &Folder, options: ReadOptions) -> Vec<i64> {
    read_in(folder, Format::JsonFile, options)
}

fn read_in(folder: &Folder, format: Format, options: ReadOptions) -> Vec<i64> {
    rest(&mut Reader::open(&folder.path, "l", format, options).expect("open"))
}

/// Every format, plain and compressed.
fn all_forms() -> impl Iterator<Item = ((Format, u64), bool)> {
    FORMATS.into_iter().flat_map(|form| [(form, false), (form, true)])
}

#[test]
fn entries_come_oldest_first_over_plain_and_compressed_files() {
    for (form, compress) in all_forms() {
        let folder = Folder::new("order");
        write(&mut rotating_in(&folder, form, compress), 0..50);
        assert_eq!(folder.names().len(), 4, "{:?}", folder.names());
        assert_eq!(read_in(&folder, form.0, ReadOptions::default()), (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_log_that_is_read_in_the_middle_of_a_rotation_is_whole() {
    for gap in 1..3 {
        let folder = Folder::new("middle");
        write(&mut rotating(&folder, 1000, false), 0..50);
        assert_eq!(folder.names(), ["l", "l.1", "l.2", "l.3"]);
        for slot in (gap..4).rev() {
            std::fs::rename(folder.path.join(format!("l.{slot}")), folder.path.join(format!("l.{}", slot + 1)))
                .expect("moved");
        }
        assert_eq!(read(&folder, ReadOptions::default()), (0..50).collect::<Vec<_>>(), "slot {gap} is empty");
    }
}

#[test]
fn tails_of_every_length_are_exact() {
    for (form, compress) in all_forms() {
        let folder = Folder::new("tail");
        write(&mut rotating_in(&folder, form, compress), 0..50);
        for lines in 0..60 {
            let expected: Vec<i64> = ((50 - lines).max(0)..50).collect();
            let options = ReadOptions { tail: Some(lines.unsigned_abs()), ..Default::default() };
            assert_eq!(read_in(&folder, form.0, options), expected);
        }
    }
}

#[test]
fn the_tail_of_a_file_of_many_blocks_is_exact() {
    let folder = Folder::new("blocks");
    write(&mut rotating(&folder, 1 << 30, false), 0..20_000);
    for lines in [1, 1000, 1024, 12_345, 20_000, 20_001] {
        let found = read(&folder, ReadOptions { tail: Some(lines), ..Default::default() });
        assert_eq!((found.len(), found.last()), (20_000.min(usize::try_from(lines).expect("small")), Some(&19_999)));
    }
}

#[test]
fn times_bound_what_is_read_after_the_tail() {
    let folder = Folder::new("times");
    write(&mut rotating(&folder, 1000, false), 0..50);
    let options = |tail, since_ns, until_ns| ReadOptions { tail, since_ns, until_ns };
    assert_eq!(read(&folder, options(None, Some(47), None)), [47, 48, 49]);
    assert_eq!(read(&folder, options(None, None, Some(2))), [0, 1, 2]);
    assert_eq!(read(&folder, options(Some(3), Some(40), Some(48))), [47, 48]);
    assert!(read(&folder, options(Some(3), None, Some(10))).is_empty());
}

#[test]
fn following_survives_any_number_of_rotations() {
    for (form, compress) in all_forms() {
        let folder = Folder::new("follow");
        let mut writer = rotating_in(&folder, form, compress);
        let mut reader = Reader::open(&folder.path, "l", form.0, ReadOptions::default()).expect("open");
        assert!(rest(&mut reader).is_empty());
        let mut seen = follow(&mut reader);
        // Steps from less than a file to three files, below the four that are kept.
        for (from, to) in [(0, 5), (5, 16), (16, 40), (40, 41), (41, 75), (75, 120)] {
            write(&mut writer, from..to);
            seen.extend(follow(&mut reader));
        }
        assert_eq!(seen, (0..120).collect::<Vec<_>>(), "{form:?} compress {compress}");
        assert_eq!(reader.damaged(), 0);
    }
}

#[test]
fn a_follower_that_is_too_slow_goes_on_with_what_is_left() {
    let folder = Folder::new("slow");
    let mut writer = rotating(&folder, 1000, false);
    write(&mut writer, 0..5);
    let mut reader = Reader::open(&folder.path, "l", Format::JsonFile, ReadOptions::default()).expect("open");
    assert_eq!(rest(&mut reader).len(), 5);
    write(&mut writer, 5..300);
    let seen = follow(&mut reader);
    assert_eq!(seen.last(), Some(&299));
    assert!(seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() <= 1);
}

#[test]
fn a_half_line_is_waited_for_and_a_log_emptied_by_hand_is_read_on() {
    use std::io::Write;
    let folder = Folder::new("half");
    write(&mut rotating(&folder, 1 << 20, false), 0..2);
    let mut live = std::fs::File::options().append(true).open(folder.path.join("l")).expect("open");
    let mut reader =
        Reader::open(&folder.path, "l", Format::JsonFile, ReadOptions { tail: Some(1), ..Default::default() })
            .expect("open");
    live.write_all(b"{\"log\":\"2\\n\",\"stream\":\"std").expect("write");
    assert_eq!(rest(&mut reader), [1]);
    assert!(follow(&mut reader).is_empty());
    live.write_all(b"out\",\"time\":\"1970-01-01T00:00:00.000000002Z\"}\n").expect("write");
    assert_eq!(follow(&mut reader), [2]);
    live.set_len(0).expect("empty");
    assert!(follow(&mut reader).is_empty());
    live.write_all(b"{\"log\":\"3\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000003Z\"}\n")
        .expect("write");
    assert_eq!(follow(&mut reader), [3]);
}

#[test]
fn damaged_lines_cost_only_themselves() {
    let folder = Folder::new("damage");
    write(&mut rotating(&folder, 1 << 20, false), 0..3);
    let text = folder.read("l").replacen("\"log\":\"1", "\"lo", 1) + "garbage\n";
    std::fs::write(folder.path.join("l"), text).expect("write");
    write(&mut rotating(&folder, 1 << 20, false), 3..4);
    let mut reader = Reader::open(&folder.path, "l", Format::JsonFile, ReadOptions::default()).expect("open");
    assert_eq!((rest(&mut reader), reader.damaged()), (vec![0, 2, 3], 2));
}

#[test]
fn a_local_entry_cut_by_a_crash_costs_itself() {
    for (kept, expected) in [(0, vec![0, 1, 3]), (3, vec![0, 1, 3]), (20, vec![0, 1, 3])] {
        let folder = Folder::new("cut");
        write(&mut rotating_in(&folder, FORMATS[1], false), 0..2);
        let whole = std::fs::read(folder.path.join("l")).expect("read");
        write(&mut rotating_in(&folder, FORMATS[1], false), 2..3);
        let live = std::fs::File::options().write(true).open(folder.path.join("l")).expect("open");
        live.set_len(whole.len() as u64 + kept).expect("cut");
        let tail = ReadOptions { tail: Some(2), ..Default::default() };
        assert_eq!(read_in(&folder, Format::Local, tail), [0, 1], "a half entry is not counted");
        write(&mut rotating_in(&folder, FORMATS[1], false), 3..4);
        assert_eq!(read_in(&folder, Format::Local, ReadOptions::default()), expected, "{kept} bytes were left");
    }
}

#[test]
fn a_log_that_is_not_there_is_empty_until_it_is() {
    let folder = Folder::new("absent");
    let mut reader = Reader::open(&folder.path, "l", Format::JsonFile, ReadOptions::default()).expect("open");
    assert!(rest(&mut reader).is_empty());
    assert!(!reader.poll_more().expect("poll"));
    write(&mut rotating(&folder, 1000, false), 0..20);
    assert_eq!(follow(&mut reader), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_write_is_noticed() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let folder = Folder::new("watch");
    let watch = crate::log::Watch::new(&folder.path).expect("watch");
    let noticed = || {
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") > 0
    };
    assert!(!noticed());
    write(&mut rotating(&folder, 1000, false), 0..1);
    assert!(noticed());
    watch.clear();
    assert!(!noticed());
}
