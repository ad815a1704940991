//! What is shown, and what keys do to it. No terminal here: lines of text out, keys in.

use std::collections::{BTreeMap, HashSet};

use ferry_api::compare::{LayerFile, Layers};

use super::keys::Key;
use super::{percent, printable, signed};
use crate::format::human;

/// Wasted files below the list of layers.
const WASTE_LINES: usize = 8;
/// Lines of a page key, where the size is not known.
const PAGE: usize = 10;

/// One line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// The cursor is here.
    pub(super) chosen: bool,
    /// A title.
    pub(super) bold: bool,
}

/// The state of the screen.
pub(super) struct View<'a> {
    name: &'a str,
    layers: &'a Layers,
    layer: usize,
    /// The cursor is among the files.
    in_files: bool,
    /// Place among the files that are visible.
    file: usize,
    /// Folders that are open, by layer.
    open: HashSet<(usize, &'a str)>,
    /// Bytes below each folder, by layer.
    sizes: Vec<BTreeMap<&'a str, u64>>,
}

impl<'a> View<'a> {
    pub(super) fn new(name: &'a str, layers: &'a Layers) -> Self {
        let sizes = layers.layers.iter().map(|layer| folder_sizes(&layer.files)).collect();
        Self { name, layers, layer: 0, in_files: false, file: 0, open: HashSet::new(), sizes }
    }

    /// Does what a key asks for; false ends it.
    pub(super) fn press(&mut self, key: Key) -> bool {
        let last = match self.in_files {
            true => self.visible().len(),
            false => self.layers.layers.len(),
        }
        .saturating_sub(1);
        let at = if self.in_files { self.file } else { self.layer };
        let to = match key {
            Key::Quit => return false,
            Key::Switch => {
                self.in_files = !self.in_files;
                return true;
            }
            Key::Toggle => {
                self.toggle();
                return true;
            }
            Key::Up => at.saturating_sub(1),
            Key::Down => at + 1,
            Key::PageUp => at.saturating_sub(PAGE),
            Key::PageDown => at + PAGE,
            Key::Top => 0,
            Key::Bottom => last,
        };
        if self.in_files {
            self.file = to.min(last);
        } else if self.layer != to.min(last) {
            self.layer = to.min(last);
            self.file = 0;
        }
        true
    }

    fn toggle(&mut self) {
        if !self.in_files {
            self.in_files = true;
            return;
        }
        let Some(file) = self.visible().get(self.file).copied().filter(|file| file.kind == "folder") else { return };
        let key = (self.layer, file.path.as_str());
        if !self.open.remove(&key) {
            self.open.insert(key);
        }
    }

    /// The files of the layer whose folders are all open.
    fn visible(&self) -> Vec<&'a LayerFile> {
        let Some(layer) = self.layers.layers.get(self.layer) else { return Vec::new() };
        let is_open = |file: &&LayerFile| {
            let mut folder = file.path.as_str();
            while let Some((above, _)) = folder.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
                if !self.open.contains(&(self.layer, above)) {
                    return false;
                }
                folder = above;
            }
            true
        };
        layer.files.iter().filter(is_open).collect()
    }

    /// Lays the screen out: each line of the left half and of the right one.
    pub(super) fn lines(&self, rows: usize) -> (Vec<Line>, Vec<Line>) {
        let body = rows.saturating_sub(2).max(1);
        let mut left = vec![title(&format!("{}  {}", self.name, human::size(signed(self.layers.size))))];
        let waste = self.waste(body / 2);
        let room = body.saturating_sub(waste.len());
        let layers: Vec<String> = self.layers.layers.iter().map(layer_line).collect();
        left.extend(window(&layers, self.layer, room, !self.in_files));
        left.resize(1 + room, plain(String::new()));
        left.extend(waste);
        let files: Vec<String> = self.visible().into_iter().map(|file| self.file_line(file)).collect();
        let what = self.layers.layers.get(self.layer).map(|layer| printable(&layer.created_by)).unwrap_or_default();
        let mut right = vec![title(&what)];
        right.extend(window(&files, self.file, body, self.in_files));
        (left, right)
    }

    fn waste(&self, most: usize) -> Vec<Line> {
        let head = format!("wasted {} ({:.1}%)", human::size(signed(self.layers.wasted)), percent(self.layers));
        let files = self.layers.waste.iter().take(most.saturating_sub(1).min(WASTE_LINES));
        let lines =
            files.map(|file| plain(format!("{:>9}  {}", human::size(signed(file.size)), printable(&file.path))));
        std::iter::once(title(&head)).chain(lines).collect()
    }

    fn file_line(&self, file: &LayerFile) -> String {
        let depth = file.path.matches('/').count().saturating_sub(1);
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let mark = match file.change.as_str() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let below = self.sizes[self.layer].get(file.path.as_str()).copied();
        let size = human::size(signed(below.unwrap_or(file.size)));
        let sign = match file.kind.as_str() {
            "folder" if self.open.contains(&(self.layer, file.path.as_str())) => "v ",
            "folder" => "> ",
            _ => "  ",
        };
        let link = if file.link.is_empty() { String::new() } else { format!(" -> {}", printable(&file.link)) };
        format!("{mark} {:04o} {size:>9}  {}{sign}{}{link}", file.mode, "  ".repeat(depth), printable(name))
    }
}

fn folder_sizes(files: &[LayerFile]) -> BTreeMap<&str, u64> {
    let mut sizes: BTreeMap<&str, u64> =
        files.iter().filter(|file| file.kind == "folder").map(|file| (file.path.as_str(), 0)).collect();
    for file in files.iter().filter(|file| file.size > 0) {
        let mut folder = file.path.as_str();
        while let Some((above, _)) = folder.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            if let Some(size) = sizes.get_mut(above) {
                *size += file.size;
            }
            folder = above;
        }
    }
    sizes
}

fn layer_line(layer: &ferry_api::compare::LayerContent) -> String {
    format!("{:>9}  {}", human::size(signed(layer.size)), printable(&layer.created_by))
}

/// The part of a list around the cursor.
fn window(all: &[String], at: usize, rows: usize, has_focus: bool) -> Vec<Line> {
    let start = at.saturating_sub(rows / 2).min(all.len().saturating_sub(rows));
    all.iter()
        .enumerate()
        .skip(start)
        .take(rows)
        .map(|(index, text)| {
            let mark = if index == at { '▸' } else { ' ' };
            Line { text: format!("{mark}{text}"), chosen: has_focus && index == at, bold: false }
        })
        .collect()
}

fn title(text: &str) -> Line {
    Line { text: text.to_owned(), chosen: false, bold: true }
}

fn plain(text: String) -> Line {
    Line { text, chosen: false, bold: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::compare::LayerContent;

    fn file(path: &str, kind: &str, size: u64) -> LayerFile {
        LayerFile { path: path.into(), kind: kind.into(), change: "added".into(), size, ..LayerFile::default() }
    }

    fn layers() -> Layers {
        let files = vec![
            file("/etc", "folder", 0),
            file("/etc/a", "folder", 0),
            file("/etc/a/f", "file", 5),
            file("/x", "file", 1),
        ];
        let layer =
            |name: &str, files| LayerContent { created_by: name.into(), files, size: 6, ..LayerContent::default() };
        Layers { layers: vec![layer("one", files), layer("two", vec![])], size: 12, ..Layers::default() }
    }

    fn shown(view: &View<'_>) -> Vec<String> {
        view.lines(20)
            .1
            .into_iter()
            .skip(1)
            .map(|line| line.text.split_whitespace().last().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn folders_open_and_close() {
        let layers = layers();
        let mut view = View::new("app", &layers);
        assert_eq!(shown(&view), ["etc", "x"]);
        view.press(Key::Toggle);
        view.press(Key::Toggle);
        assert_eq!(shown(&view), ["etc", "a", "x"]);
        view.press(Key::Down);
        view.press(Key::Toggle);
        assert_eq!(shown(&view), ["etc", "a", "f", "x"]);
        view.press(Key::Top);
        view.press(Key::Toggle);
        assert_eq!(shown(&view), ["etc", "x"]);
        assert!(view.lines(20).1[1].text.contains("5B"), "folders have the bytes below them");
    }

    #[test]
    fn the_cursor_stays_on_the_list() {
        let layers = layers();
        let mut view = View::new("app", &layers);
        for _ in 0..5 {
            assert!(view.press(Key::Down));
        }
        assert_eq!(view.lines(20).1[0].text, "two");
        view.press(Key::PageUp);
        assert_eq!(view.lines(20).1[0].text, "one");
        assert!(!view.press(Key::Quit));
    }

    #[test]
    fn long_lists_move_under_the_cursor() {
        let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let lines = window(&all, 50, 10, true);
        assert_eq!((lines.len(), lines[5].text.as_str(), lines[5].chosen), (10, "▸50", true));
        assert_eq!(window(&all, 99, 10, false)[9].text, "▸99");
    }
}
