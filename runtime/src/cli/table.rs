//! Tables for people.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

/// A table: a line of titles, then a line for each row, its columns two spaces apart.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    title: &'static str,
    alignment: Alignment,
}

impl Table {
    /// A table without columns.
    pub fn new() -> Table {
        Table {
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a column of texts.
    pub fn text(self, title: &'static str) -> Table {
        self.column(title, Alignment::Left)
    }

    /// Adds a column of numbers, which are lined up to the right.
    pub fn number(self, title: &'static str) -> Table {
        self.column(title, Alignment::Right)
    }

    /// Adds a row. Cells that are missing at its end are empty, and those too many aren't shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines of the table, each cut to `width` columns if there is a width.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let titles = self
            .columns
            .iter()
            .map(|column| column.title.to_string())
            .collect();
        let rows: Vec<&Vec<String>> = [&titles].into_iter().chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = rows.iter().filter_map(|row| row.get(index));
                cells
                    .map(|cell| measure_text_width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        rows.into_iter()
            .map(|row| {
                let mut line = String::new();
                for (index, column) in self.columns.iter().enumerate() {
                    if index > 0 {
                        line.push_str("  ");
                    }
                    let cell = row.get(index).map_or("", String::as_str);
                    line.push_str(&pad_str(cell, widths[index], column.alignment, None));
                }
                let line = line.trim_end();
                match width {
                    Some(width) => truncate_str(line, width, "…").into_owned(),
                    None => line.to_string(),
                }
            })
            .collect()
    }

    /// The table as one text, each line ended.
    pub fn render(&self, width: Option<usize>) -> String {
        let mut text = self.lines(width).join("\n");
        text.push('\n');
        text
    }

    fn column(mut self, title: &'static str, alignment: Alignment) -> Table {
        self.columns.push(Column { title, alignment });
        self
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new().text("TOPIC").number("LAG").text("STATE");
        table.row(["realstock", "12", "running"]);
        table.row(["日本", "1,234", ""]);
        table.row(["x"]);
        let expected = "\
TOPIC        LAG  STATE
realstock     12  running
日本       1,234
x
";
        assert_eq!(table.render(None), expected);
        let lines = table.lines(Some(20));
        assert_eq!(lines[1], "realstock     12  r…");
    }
}
