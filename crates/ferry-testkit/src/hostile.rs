//! Archives that mean harm: layers that reach out of their folder, bombs, and images that lie about what they are.
//!
//! Owns the bytes, written field by field since no tar writer makes them. What an engine has to make of them is said with each.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::image::{Blob, Compression, Dialect, Image, Layer, digest};

/// What has to come of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is refused, and the error says this.
    Refused(&'static str),
    /// It is taken, and nothing of it lies outside.
    Taken,
}

/// One layer that means harm.
#[derive(Clone, Debug)]
pub struct HostileLayer {
    /// In words for names of images: lower case and dashes.
    pub name: &'static str,
    /// The archive.
    pub tar: Vec<u8>,
    /// What becomes of it as a layer.
    pub fate: Fate,
    /// Bounds on layers are what stops it, so it is no danger to a copy into a container.
    pub bounded: bool,
}

/// One image that means harm, in the form of an archive, of what a registry has, or of both.
#[derive(Clone, Debug)]
pub struct HostileImage {
    /// As with layers.
    pub name: &'static str,
    /// For `load`.
    pub archive: Option<Vec<u8>>,
    /// For a registry, and the digest of a blob that it does not have, or has wrong.
    pub image: Option<(Image, Spoiled)>,
    /// What the error says.
    pub says: &'static str,
}

/// What is wrong with a blob in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// Nothing.
    Nothing,
    /// This one is not there.
    Missing(String),
    /// This one has other bytes of the same length.
    Changed(String),
}

/// One entry of a tar, byte by byte.
#[derive(Clone, Debug)]
struct Raw {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    device: (u32, u32),
    /// The field of the size, where it is not the length of the content.
    size: Option<[u8; 12]>,
    content: Vec<u8>,
    /// What a sparse file says about itself, for offsets 386 to 495.
    sparse: Option<[u8; 109]>,
}

impl Raw {
    fn new(kind: u8, name: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            link: Vec::new(),
            kind,
            mode: 0o644,
            device: (0, 0),
            size: None,
            content: Vec::new(),
            sparse: None,
        }
    }

    fn file(name: impl Into<Vec<u8>>, content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), ..Self::new(b'0', name) }
    }

    fn folder(name: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self { mode, ..Self::new(b'5', name) }
    }

    fn symlink(name: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self { link: target.into(), ..Self::new(b'2', name) }
    }

    fn hard_link(name: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self { link: target.into(), ..Self::new(b'1', name) }
    }

    fn device(kind: u8, name: &str, device: (u32, u32)) -> Self {
        Self { device, mode: 0o666, ..Self::new(kind, name) }
    }

    fn sized(self, size: [u8; 12]) -> Self {
        Self { size: Some(size), ..self }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.name.len() > 100 {
            Self::file("././@LongLink", [&self.name[..], &[0]].concat()).with_kind(b'L').write(out);
        }
        if self.link.len() > 100 {
            Self::file("././@LongLink", [&self.link[..], &[0]].concat()).with_kind(b'K').write(out);
        }
        let mut block = [0_u8; 512];
        put(&mut block[..100], &self.name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        match self.size {
            Some(size) => block[124..136].copy_from_slice(&size),
            None => octal(&mut block[124..136], self.content.len() as u64),
        }
        octal(&mut block[136..148], 1_704_067_200);
        block[156] = self.kind;
        put(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar  \0");
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        if let Some(sparse) = &self.sparse {
            block[386..495].copy_from_slice(sparse);
        }
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&block);
        out.extend_from_slice(&self.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }

    fn with_kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    put(field, digits.as_bytes());
}

/// A number past the octal digits, in base 256.
fn base256(value: u64) -> [u8; 12] {
    let mut field = [0_u8; 12];
    field[4..].copy_from_slice(&value.to_be_bytes());
    field[0] = 0x80;
    field
}

/// Records before an entry.
fn pax(records: &[(&str, &[u8])]) -> Raw {
    let mut content = Vec::new();
    for (key, value) in records {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        content.extend_from_slice(length.to_string().as_bytes());
        content.extend_from_slice(&body);
    }
    Raw { content, ..Raw::new(b'x', "PaxHeaders/x") }
}

/// A sparse file in the old form of GNU: one piece, and the length it claims.
fn gnu_sparse(offset: u64, length: u64, real: u64) -> Raw {
    let mut sparse = [0_u8; 109];
    sparse[..12].copy_from_slice(&base256(offset));
    sparse[12..24].copy_from_slice(&base256(length));
    sparse[97..109].copy_from_slice(&base256(real));
    Raw { sparse: Some(sparse), content: vec![b'x'; 512], ..Raw::new(b'S', "sparse") }
}

fn tar(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut out));
    out.resize(out.len() + 1024, 0);
    out
}

/// Bytes that compress some, but not past any bound on the ratio.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = vec![0; length];
    for block in bytes.chunks_mut(64) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state.to_be_bytes();
        let count = block.len().min(4);
        block[..count].copy_from_slice(&random[..count]);
    }
    bytes
}

/// Limits that the layers here go past, as the daemon takes them; the defaults would only take longer.
pub const LIMITS: &[&str] = &[
    "--image-limit",
    "unpacked-bytes=48m",
    "--image-limit",
    "entries=2000",
    "--image-limit",
    "ratio=200",
    "--image-limit",
    "ratio-from-bytes=8m",
];

/// Layers that reach for the folder `canary`, which has a file `file` and a folder `folder`, and layers that take too much.
#[must_use]
pub fn layers(canary: &str) -> Vec<HostileLayer> {
    use Fate::{Refused, Taken};
    let below = |name: &str| format!("{canary}/{name}");
    let up = "../".repeat(24);
    let far = format!("{up}{}", canary.trim_start_matches('/'));
    let pwned = |path: String| Raw::file(path, "pwned");
    let layer = |name, fate, entries: &[Raw]| HostileLayer { name, tar: tar(entries), fate, bounded: false };
    let outside = "is not a folder, but the layer has entries below it";
    let no_target = "is a hard link to a file that is neither in the layer nor below it";
    let whiteout = "is an invalid whiteout";
    let mut all = vec![
        layer("absolute-path", Taken, &[pwned(below("pwned")), pwned(format!("//{}", below("file")))]),
        layer("dots", Refused("leads out of the layer"), &[pwned(format!("{far}/pwned"))]),
        layer("dots-inside", Refused("leads out of the layer"), &[pwned("a/b/../../../pwned".to_owned())]),
        layer(
            "link-then-through-it",
            Refused(outside),
            &[Raw::symlink("link", canary), pwned("link/pwned".to_owned()), pwned("link/file".to_owned())],
        ),
        layer(
            "relative-link-then-through-it",
            Refused(outside),
            &[Raw::symlink("a/link", far.clone()), pwned("a/link/pwned".to_owned())],
        ),
        layer(
            "links-in-a-row",
            Taken,
            &[Raw::symlink("a", "."), Raw::symlink("b", format!("a/{up}")), pwned(format!("b{}", below("pwned")))],
        ),
        layer("link-then-file", Taken, &[Raw::symlink("f", below("file")), pwned("f".to_owned())]),
        layer(
            "link-then-folder",
            Taken,
            &[Raw::symlink("d", below("folder")), Raw::folder("d/", 0o777), pwned("d/pwned".to_owned())],
        ),
        layer(
            "folder-then-link",
            Refused(outside),
            &[Raw::folder("d/", 0o755), Raw::symlink("d", canary), pwned("d/file".to_owned())],
        ),
        layer("hard-link-outside", Taken, &[Raw::hard_link("h", below("file")), pwned("h".to_owned())]),
        layer("hard-link-by-dots", Refused("leads out of the layer"), &[Raw::hard_link("h", format!("{far}/file"))]),
        layer(
            "hard-link-through-a-link",
            Refused(no_target),
            &[Raw::symlink("l", canary), Raw::hard_link("h", "l/file"), Raw::file("x", "")],
        ),
        layer(
            "hard-link-to-a-link",
            Taken,
            &[Raw::symlink("l", below("file")), Raw::hard_link("h", "l"), pwned("h".to_owned())],
        ),
        layer(
            "devices",
            Taken,
            &[Raw::device(b'4', "disk", (254, 0)), Raw::device(b'4', "sda", (8, 0)), Raw::device(b'3', "mem", (1, 1))],
        ),
        layer("device-that-hides", Refused("is a character device 0:0"), &[Raw::device(b'3', "gone", (0, 0))]),
        layer("pipe-for-a-file", Taken, &[Raw::new(b'6', "etc/passwd"), Raw::new(b'6', "etc/group")]),
        layer("whiteout-of-dot", Refused(whiteout), &[Raw::file("a/.wh..", "")]),
        layer("whiteout-of-dots", Refused(whiteout), &[Raw::file(".wh...", "")]),
        layer("whiteout-of-nothing", Refused(whiteout), &[Raw::file(".wh.", "")]),
        layer("whiteout-with-a-slash", Refused(whiteout), &[Raw::file(".wh.a/b", "")]),
        layer(
            "whiteout-through-a-link",
            Refused(outside),
            &[Raw::symlink("l", canary), Raw::file("l/.wh.file", ""), Raw::file("l/.wh..wh..opq", "")],
        ),
        layer(
            "marks-of-overlay",
            Taken,
            &[
                pax(&[
                    ("SCHILY.xattr.trusted.overlay.redirect", canary.as_bytes()),
                    ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ]),
                Raw::folder("etc/", 0o755),
            ],
        ),
        layer(
            "same-name-again",
            Taken,
            &[
                Raw::file("n", "one"),
                Raw::folder("n/", 0o755),
                Raw::file("n/x", "two"),
                Raw::symlink("n", canary),
                Raw::file("n", "three"),
            ],
        ),
        layer(
            "names-that-are-no-text",
            Taken,
            &[Raw::file(b"\xff\xfe\x80".to_vec(), "x"), Raw::file("a\nb\x1b[31m", "y")],
        ),
        layer("root-that-is-a-link", Refused("is the root and not a folder"), &[Raw::symlink("./", canary)]),
        layer("link-to-nothing", Refused("is a symbolic link without a target"), &[Raw::symlink("l", "")]),
        layer("unknown-type", Refused("invalid tar header"), &[Raw::new(b'Z', "z")]),
        layer("negative-size", Refused("invalid tar header"), &[Raw::file("f", "x").sized([0xff; 12])]),
        layer("size-of-64-bits", Refused("bytes of one file"), &[Raw::file("f", "x").sized(base256(1 << 62))]),
        layer("all-bits-of-a-size", Refused(""), &[Raw::file("f", "x").sized(base256(u64::MAX))]),
        layer("long-name-of-64-bits", Refused(""), &[Raw::new(b'L', "././@LongLink").sized(base256(1 << 62))]),
        layer(
            "records-of-megabytes",
            Refused("header"),
            &[pax(&[("comment", &vec![b'c'; 1_200_000])]), Raw::file("f", "x")],
        ),
        layer("sparse-without-end", Refused("bytes of one file"), &[gnu_sparse((1 << 62) - 512, 512, 1 << 62)]),
        layer("sparse-that-wraps", Refused("invalid tar header"), &[gnu_sparse(u64::MAX - 1, 512, 1 << 20)]),
        layer("1500-folders-deep", Refused("folders above a file"), &[pwned(format!("{}f", "d/".repeat(1500)))]),
        layer("name-too-long", Refused(""), &[pwned(format!("{}/{}", "n".repeat(300), "m".repeat(300)))]),
    ];
    let truncated = tar(&[Raw::file("f", vec![b'x'; 4096])])[..2048].to_vec();
    all.push(HostileLayer { name: "truncated", tar: truncated, fate: Refused("truncated"), bounded: false });
    let bounded = |name, fate, entries: &[Raw]| HostileLayer { name, tar: tar(entries), fate, bounded: true };
    all.push(bounded(
        "bomb-by-ratio",
        Refused("unpacked bytes for each compressed byte"),
        &[Raw::file("zeros", vec![0; 24 << 20])],
    ));
    let piece = noise(4 << 20);
    let pieces: Vec<Raw> = (0..13).map(|number| Raw::file(format!("p{number}"), piece.clone())).collect();
    all.push(bounded("bomb-by-bytes", Refused("allowed"), &pieces));
    let crowd: Vec<Raw> = (0..2_001).map(|number| Raw::file(format!("e/{number}"), "")).collect();
    all.push(bounded("crowd", Refused("entries allowed"), &crowd));
    all
}

/// Compresses as `gzip -4` does.
///
/// # Panics
/// Never: memory takes every write.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).expect("memory takes every write");
    encoder.finish().expect("memory takes every write")
}

/// An image of one layer.
///
/// # Panics
/// Never: memory takes every write.
#[must_use]
pub fn image_of(tar: &[u8]) -> Image {
    let run = json!({"Cmd": ["true"]});
    Image::build("amd64", &run, vec![tar.to_vec()], Compression::Gzip, Dialect::Oci)
        .expect("compressing in memory succeeds")
}

fn config(diff_ids: &[String], more: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"], "Labels": {"more": more}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// An archive in Docker's older form.
fn docker_archive(entry: &Value, files: &[(&str, &[u8])]) -> Vec<u8> {
    let list = json!([entry]).to_string();
    let all = files.iter().fold(Layer::default(), |layer, (name, bytes)| layer.file(name, 0o644, bytes));
    all.file("manifest.json", 0o644, list.as_bytes()).into_tar()
}

/// An OCI layout in a tar; the blobs have the names given.
fn layout(index: &Value, blobs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let all = blobs.iter().fold(Layer::default(), |layer, (digest, bytes)| {
        layer.file(&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:")), 0o644, bytes)
    });
    all.file("index.json", 0o644, index.to_string().as_bytes())
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .into_tar()
}

fn index_over(descriptor: &Value) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor],
    })
}

fn layout_of(image: &Image, spoil: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let blobs = image.layers.iter().chain([&image.config, &image.manifest]);
    let kept = blobs.filter_map(|blob| Some((blob.digest(), spoil(&blob.digest(), blob.bytes.clone())?)));
    layout(&index_over(&image.manifest.descriptor()), &kept.collect::<Vec<_>>())
}

/// Images that lie.
#[must_use]
pub fn images() -> Vec<HostileImage> {
    let tar = Layer::default().file("f", 0o644, b"content").into_tar();
    let good = image_of(&tar);
    let diff_id = digest(&tar);
    let packed = good.layers[0].bytes.clone();
    let of = |config: Vec<u8>, count: usize| {
        Image::of_parts(config, vec![packed.clone(); count], Compression::Gzip, Dialect::Oci)
    };
    let both = |name, image: Image, says| HostileImage {
        name,
        archive: Some(image.archive(&["hostile/image:1"])),
        image: Some((image, Spoiled::Nothing)),
        says,
    };
    let flipped = |mut bytes: Vec<u8>| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    // Each is an image of its own: a registry keeps every blob once.
    let own = |name: &str| image_of(&Layer::default().file("f", 0o644, name.as_bytes()).into_tar());
    let spoiled = |name, which: fn(&Image) -> String, says| {
        let image = own(name);
        let wrong = which(&image);
        let archive = layout_of(&image, |one, bytes| Some(if one == wrong { flipped(bytes) } else { bytes }));
        HostileImage { name, archive: Some(archive), image: Some((image, Spoiled::Changed(wrong))), says }
    };
    let missing = |name, which: fn(&Image) -> String, says| {
        let image = own(name);
        let gone = which(&image);
        let archive = layout_of(&image, |one, bytes| (one != gone).then_some(bytes));
        HostileImage { name, archive: Some(archive), image: Some((image, Spoiled::Missing(gone))), says }
    };
    let (layer, configuration) = (|image: &Image| image.layers[0].digest(), |image: &Image| image.config.digest());
    let manifest = |image: &Image| image.manifest.digest();
    let mut all = vec![
        both("other-diff-id", of(config(&[digest(b"other")], ""), 1), "diff ID"),
        both("more-diff-ids-than-layers", of(config(&[diff_id.clone(), diff_id.clone()], ""), 1), "2 diff IDs"),
        both("501-layers", of(config(&vec![diff_id.clone(); 501], ""), 501), "501 layers"),
        both("configuration-of-megabytes", of(config(std::slice::from_ref(&diff_id), &"x".repeat(9 << 20)), 1), ""),
        both("configuration-that-is-none", of(b"not json".to_vec(), 1), "configuration"),
        spoiled("layer-with-other-bytes", layer, "sha256:"),
        spoiled("configuration-with-other-bytes", configuration, "digest"),
        // Debian's registry does not hand out such a manifest.
        HostileImage { image: None, ..spoiled("manifest-with-other-bytes", manifest, "digest") },
        missing("no-configuration", configuration, ""),
        missing("no-layer", layer, ""),
    ];
    all.extend(archives_alone(&tar, &good, &diff_id));
    all
}

/// What only an archive can do.
fn archives_alone(tar: &[u8], good: &Image, diff_id: &str) -> Vec<HostileImage> {
    let good_config = config(&[diff_id.to_owned()], "");
    let load = |name, archive: Vec<u8>, says| HostileImage { name, archive: Some(archive), image: None, says };
    let entry = |config: &str, tag: &str, layer: &str| json!({"Config": config, "RepoTags": [tag], "Layers": [layer]});
    let files: [(&str, &[u8]); 2] = [("c.json", &good_config), ("l.tar", tar)];
    let linked = |kind: fn(&str, &str) -> Raw, target: &str| {
        let list = json!([entry("c.json", "hostile/link:1", "l.tar")]).to_string();
        self::tar(&[Raw::file("c.json", good_config.clone()), kind("l.tar", target), Raw::file("manifest.json", list)])
    };
    let nested = (0..64).fold((good.manifest.descriptor(), Vec::new()), |(below, mut blobs), _| {
        let bytes = index_over(&below).to_string().into_bytes();
        let blob = Blob { media_type: "application/vnd.oci.image.index.v1+json", bytes: bytes.clone() };
        blobs.push((blob.digest(), bytes));
        (blob.descriptor(), blobs)
    });
    let escaping = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../../etc/passwd", "size": 9});
    let unnamed =
        |digest: &str| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 9});
    let absent = digest(b"absent");
    vec![
        load(
            "configuration-outside",
            docker_archive(&entry("../../../../etc/passwd", "hostile/out:1", "l.tar"), &files),
            "../../../../etc/passwd",
        ),
        load("layer-outside", docker_archive(&entry("c.json", "hostile/out:1", "/etc/passwd"), &files), "/etc/passwd"),
        load("layer-is-a-link-outside", linked(|name, to| Raw::symlink(name, to), "/etc/passwd"), "l.tar"),
        load("layer-is-a-hard-link-outside", linked(|name, to| Raw::hard_link(name, to), "../../etc/passwd"), "l.tar"),
        load("name-with-dots", docker_archive(&entry("c.json", "../../x:y", "l.tar"), &files), "../../x:y"),
        load("name-with-a-newline", docker_archive(&entry("c.json", "a\nb:1", "l.tar"), &files), "a\\nb:1"),
        load("name-in-capitals", docker_archive(&entry("c.json", "Upper:1", "l.tar"), &files), "Upper:1"),
        load(
            "name-with-an-escape",
            docker_archive(&entry("c.json", "a\u{1b}[2J:1", "l.tar"), &files),
            "invalid image name",
        ),
        load(
            "list-of-megabytes",
            Layer::default().file("manifest.json", 0o644, &vec![b' '; 9 << 20]).into_tar(),
            "manifest.json",
        ),
        load("list-that-is-a-link", self::tar(&[Raw::symlink("manifest.json", "/etc/passwd")]), "no manifest.json"),
        load("list-of-null", docker_archive(&json!(null), &[("x", b"")]), "manifest.json"),
        load("indexes-without-end", layout(&index_over(&nested.0), &nested.1), "other indexes"),
        load("digest-that-is-a-path", layout(&index_over(&escaping), &[]), "index.json"),
        load(
            "index-of-nothing",
            layout(&index_over(&unnamed(&absent)), &[]),
            "is named in the archive's manifest and not in the archive",
        ),
        load("neither-form", Layer::default().file("x", 0o644, b"").into_tar(), "neither"),
        load("cut-off", good.archive(&["hostile/cut:1"])[..1500].to_vec(), "truncated"),
        load("gzip-that-breaks-off", gzip(&good.archive(&["hostile/cut:1"]))[..200].to_vec(), "decompress"),
    ]
}
