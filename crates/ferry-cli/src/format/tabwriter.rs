//! Elastic columns as Go's `text/tabwriter` aligns them.

/// How columns are laid out.
pub(crate) struct Layout {
    /// Least width of a column.
    pub(crate) min_width: usize,
    /// Blanks after the longest cell.
    pub(crate) padding: usize,
}

/// The layout of lists.
pub(crate) const LISTS: Layout = Layout { min_width: 10, padding: 3 };

/// Aligns text whose cells end in tabs.
pub(crate) fn align(text: &str, layout: &Layout) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut writer = Writer { lines, layout, widths: Vec::new(), out: String::new() };
    let count = writer.lines.len();
    writer.block(0, count);
    // Each line was written with a newline; the text's last one has none.
    writer.out.pop();
    writer.out
}

/// Aligns the columns of a table by tabs that are eight columns wide, as Go does where cells are filled up with tabs.
pub(crate) fn with_tabs(rows: &[Vec<String>]) -> String {
    const TAB: usize = 8;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column + 1 < row.len()).map(|row| row[column].chars().count());
        cells.max().map_or(0, |longest| (longest + 1).next_multiple_of(TAB))
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = widths[column].saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n('\t', missing.div_ceil(TAB)));
            }
        }
        text.push('\n');
    }
    text
}

struct Writer<'a> {
    lines: Vec<Vec<&'a str>>,
    layout: &'a Layout,
    widths: Vec<usize>,
    out: String,
}

impl Writer<'_> {
    /// Lays out lines that share the columns in `widths`.
    fn block(&mut self, mut start: usize, end: usize) {
        let column = self.widths.len();
        let mut at = start;
        while at < end {
            // The last cell of a line ends in no tab and belongs to no column.
            if column + 1 >= self.lines[at].len() {
                at += 1;
                continue;
            }
            self.print(start, at);
            start = at;
            let mut width = self.layout.min_width;
            while at < end && column + 1 < self.lines[at].len() {
                width = width.max(self.lines[at][column].chars().count() + self.layout.padding);
                at += 1;
            }
            self.widths.push(width);
            self.block(start, at);
            self.widths.pop();
            start = at;
        }
        self.print(start, end);
    }

    fn print(&mut self, start: usize, end: usize) {
        for line in &self.lines[start..end] {
            for (index, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(index).filter(|_| index + 1 < line.len()) {
                    let missing = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', missing));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let text = "ID\tNAME\tX\na\tlonger-than-ten\t1\nbb\tb\t2\n";
        assert_eq!(
            align(text, &LISTS),
            "ID        NAME              X\na         longer-than-ten   1\nbb        b                 2\n"
        );
    }

    #[test]
    fn a_line_without_cells_ends_a_block() {
        let layout = Layout { min_width: 0, padding: 1 };
        assert_eq!(align("aaaa\tb\nplain\nc\td\n", &layout), "aaaa b\nplain\nc d\n");
    }
}
