//! `images --tree`: every image with its platforms, as Docker's client lays it out.
//!
//! Columns that do not fit the width are left out from the right. Colours are for terminals alone, but for those of the titles, which
//! Docker's client shows everywhere.

use ferry_api::image::{ManifestSummary, Summary};

use crate::format::human;

/// Blanks between columns.
const SPACING: usize = 3;
/// Below this the column of names gets no narrower; other columns go instead.
const NAME_MIN: usize = 12;
/// The width where nothing says how wide it is.
const WIDTH_DEFAULT: usize = 80;
const WIDTH_MIN: usize = 20;
const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const UNTAGGED: &str = "<untagged>";
const COLUMNS: [Column; 5] = [
    Column { title: "IMAGE", width: 0, right: false },
    Column { title: "ID", width: 12, right: false },
    Column { title: "DISK USAGE", width: 10, right: true },
    Column { title: "CONTENT SIZE", width: 12, right: true },
    Column { title: "EXTRA", width: 5, right: false },
];

/// Colours by what they are for; empty is none.
#[derive(Clone, Copy)]
struct Palette {
    terminal: bool,
}

impl Palette {
    const TITLE: &'static str = "\x1b[39m\x1b[1m";
    const CLEAR: &'static str = "\x1b[0m";

    fn paint(self, code: &str, text: &str) -> String {
        if self.terminal { format!("{code}{text}{}", Self::CLEAR) } else { text.to_owned() }
    }

    fn title(text: &str) -> String {
        format!("{}{text}{}", Self::TITLE, Self::CLEAR)
    }

    fn name(self, text: &str) -> String {
        self.paint("\x1b[34m\x1b[1m", text)
    }

    fn untagged(self, text: &str) -> String {
        self.paint("\x1b[39m\x1b[2m", text)
    }

    fn details(self, available: bool, text: &str) -> String {
        let code = if available { "\x1b[39m" } else { "\x1b[39m\x1b[2m" };
        self.paint(code, text)
    }

    /// The mark of an image that a container uses.
    fn in_use(self) -> String {
        if self.terminal { "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m".to_owned() } else { "U".to_owned() }
    }

    fn not_in_use(self) -> &'static str {
        if self.terminal { "   " } else { " " }
    }

    fn info(self) -> String {
        if self.terminal {
            "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m".to_owned()
        } else {
            " Info -> ".to_owned()
        }
    }
}

struct Column {
    title: &'static str,
    width: usize,
    right: bool,
}

/// What the columns behind a name show.
struct Details {
    id: String,
    disk_usage: String,
    content_size: String,
    in_use: bool,
}

struct Top<'a> {
    names: Vec<&'a str>,
    details: Details,
    children: Vec<Child>,
}

struct Child {
    platform: String,
    available: bool,
    details: Details,
}

/// Lays out the images, `width` columns wide; none is no terminal.
pub(super) fn render(images: &[Summary], all: bool, terminal: Option<usize>) -> String {
    let mut shown: Vec<&Summary> = images.iter().filter(|image| all || !is_dangling(image)).collect();
    shown.sort_by_key(|image| std::cmp::Reverse(image.created));
    let tops: Vec<Top<'_>> = shown.into_iter().map(top).collect();
    let palette = Palette { terminal: terminal.is_some() };
    let width = terminal.filter(|width| *width > 0).unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN);
    let mut out = if palette.terminal { palette.paint("\x1b[93m", WARNING) } else { WARNING.to_owned() };
    out.push('\n');
    out.push_str(&legend(palette, width));
    out.push_str("\n\n");
    let view = View::fit(&tops, palette, width);
    view.titles(&mut out);
    let spaced = tops.iter().any(|top| !top.children.is_empty());
    for top in &tops {
        view.top(top, spaced, &mut out);
    }
    out
}

fn is_dangling(image: &Summary) -> bool {
    let only = |names: &[String], text: &str| names.len() == 1 && names[0] == text;
    (image.repo_tags.is_empty() && image.repo_digests.is_empty())
        || (only(&image.repo_tags, "<none>:<none>") && only(&image.repo_digests, "<none>@<none>"))
}

fn top(image: &Summary) -> Top<'_> {
    let images = || image.manifests.iter().filter(|one| one.image_data.is_some());
    let children: Vec<Child> = images().map(child).collect();
    let content: i64 = image
        .manifests
        .iter()
        .filter(|one| one.image_data.is_some() || one.attestation_data.is_some())
        .map(|one| one.size.content)
        .sum();
    let details = Details {
        id: human::short_id(&image.id).to_owned(),
        disk_usage: human::size_short(image.size),
        content_size: human::size_short(content),
        in_use: image.containers > 0 || children.iter().any(|child| child.details.in_use),
    };
    let mut names: Vec<&str> = image.repo_tags.iter().map(String::as_str).collect();
    // The last one stands beside the other columns.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    Top { names, details, children }
}

fn child(manifest: &ManifestSummary) -> Child {
    let data = manifest.image_data.as_ref();
    Child {
        platform: data.map(|data| data.platform.to_string()).unwrap_or_default(),
        available: manifest.available,
        details: Details {
            id: human::short_id(&manifest.id).to_owned(),
            disk_usage: human::size_short(manifest.size.total),
            content_size: human::size_short(manifest.size.content),
            in_use: data.is_some_and(|data| !data.containers.is_empty()),
        },
    }
}

fn legend(palette: Palette, width: usize) -> String {
    let text = format!("{} {} In Use ", palette.info(), palette.in_use());
    let used = visible(&text);
    format!("{}{text}", " ".repeat(width.saturating_sub(used)))
}

/// Which columns there are, and how wide.
struct View {
    palette: Palette,
    columns: usize,
    name_width: usize,
    /// Some image of an index is in use, which is when that is shown at all.
    shows_use: bool,
}

impl View {
    fn fit(tops: &[Top<'_>], palette: Palette, width: usize) -> Self {
        let mut left = width;
        let mut columns = COLUMNS.len();
        for (at, column) in COLUMNS.iter().enumerate().skip(1) {
            let needed = column.width + SPACING;
            if left < needed + NAME_MIN {
                columns = at;
                break;
            }
            left -= needed;
        }
        let names = tops.iter().flat_map(|top| top.names.iter().map(|name| name.len()));
        // Bytes, not characters, as in Docker's client.
        let platforms = tops.iter().flat_map(|top| &top.children).map(|child| child.platform.len() + "└─ ".len());
        let widest = names.chain(platforms).max().unwrap_or(0).max(COLUMNS[0].title.len());
        let shows_use = tops.iter().flat_map(|top| &top.children).any(|child| child.details.in_use);
        Self { palette, columns, name_width: left.min(widest), shows_use }
    }

    fn titles(&self, out: &mut String) {
        for (at, column) in COLUMNS.iter().enumerate().take(self.columns) {
            if at > 0 {
                out.push_str(&" ".repeat(SPACING));
            }
            let width = if at == 0 { self.name_width } else { column.width };
            out.push_str(&aligned(column.title, width, column.right, Palette::title));
        }
        out.push('\n');
    }

    fn top(&self, top: &Top<'_>, spaced: bool, out: &mut String) {
        let name = |text: &str| aligned(text, self.name_width, false, |text| self.palette.name(text));
        match top.names.split_last() {
            None => out.push_str(&aligned(UNTAGGED, self.name_width, false, |text| self.palette.untagged(text))),
            Some((last, others)) => {
                for other in others {
                    out.push_str(&self.palette.name(other));
                    out.push('\n');
                }
                out.push_str(&name(last));
            }
        }
        self.details(&top.details, true, out);
        if spaced {
            out.push('\n');
        }
        for (at, child) in top.children.iter().enumerate() {
            let branch = if at + 1 < top.children.len() { "├─ " } else { "└─ " };
            let text = format!("{branch}{}", child.platform);
            let paint = |text: &str| self.palette.details(child.available, text);
            out.push_str(&aligned(&text, self.name_width, false, paint));
            self.details(&child.details, child.available, out);
            out.push('\n');
        }
        out.push('\n');
    }

    fn details(&self, details: &Details, available: bool, out: &mut String) {
        let used = match (self.shows_use, details.in_use) {
            (false, _) => String::new(),
            (true, true) => self.palette.in_use(),
            (true, false) => self.palette.not_in_use().to_owned(),
        };
        let values = [&details.id, &details.disk_usage, &details.content_size, &used];
        for (at, (value, column)) in values.into_iter().zip(&COLUMNS[1..]).enumerate().take(self.columns - 1) {
            out.push_str(&" ".repeat(SPACING));
            let is_mark = at == 3;
            let paint = |text: &str| match is_mark {
                true => text.to_owned(),
                false => self.palette.details(available, text),
            };
            out.push_str(&aligned(value, column.width, column.right, paint));
        }
    }
}

/// Pads a value to its column, or cuts it.
fn aligned(text: &str, width: usize, right: bool, paint: impl Fn(&str) -> String) -> String {
    let length = visible(text);
    if length > width {
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        return paint(&format!("{cut}…"));
    }
    let blanks = " ".repeat(width - length);
    if right { format!("{blanks}{}", paint(text)) } else { format!("{}{blanks}", paint(text)) }
}

/// Columns that a text takes, colours aside.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut in_code = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => count += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::image::{ImageProperties, ManifestSize, UnpackedSize};
    use ferry_spec::{Descriptor, Digest, Platform};

    fn manifest(platform: &str, available: bool) -> ManifestSummary {
        let digest = Digest::sha256(platform.as_bytes());
        ManifestSummary {
            id: digest.to_string(),
            descriptor: Descriptor::new("", digest, 1),
            available,
            size: ManifestSize { content: 1_000_000, total: 3_000_000 },
            kind: "image".to_owned(),
            image_data: Some(ImageProperties {
                platform: Platform::parse(platform).unwrap(),
                identity: None,
                size: UnpackedSize { unpacked: 2_000_000 },
                containers: Vec::new(),
            }),
            attestation_data: None,
        }
    }

    fn image() -> Summary {
        Summary {
            id: format!("sha256:{}", "a".repeat(64)),
            repo_tags: vec!["app:1".into(), "app:latest".into()],
            size: 3_000_000,
            manifests: vec![manifest("linux/amd64", true), manifest("linux/arm64", false)],
            ..Summary::default()
        }
    }

    #[test]
    fn platforms_hang_below_their_image() {
        let text = render(&[image(), Summary::default()], false, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], WARNING);
        assert_eq!(lines[1].trim(), "Info ->  U In Use");
        assert_eq!(lines[1].len(), 80);
        assert_eq!(lines[4], "app:latest");
        assert_eq!(lines[5], "app:1                aaaaaaaaaaaa          3MB            2MB        ");
        assert!(lines[6].starts_with("├─ linux/amd64   ") && lines[7].starts_with("└─ linux/arm64   "), "{text}");
        assert_eq!(lines.len(), 9, "nothing is shown of an image without a name\n{text}");
        assert!(render(&[image(), Summary::default()], true, None).contains("\n<untagged>"));
    }

    #[test]
    fn columns_go_where_there_is_no_room() {
        let text = render(&[image()], false, Some(50));
        let titles = text.lines().nth(3).unwrap();
        assert!(titles.contains("DISK USAGE") && !titles.contains("CONTENT SIZE"), "{titles}");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(aligned("abcdef", 4, false, str::to_owned), "abc…");
        assert_eq!(aligned("ab", 4, true, str::to_owned), "  ab");
        assert_eq!(visible("\x1b[39m\x1b[1mab\x1b[0m"), 2);
    }
}
