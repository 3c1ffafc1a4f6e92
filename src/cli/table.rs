//! Tables for people: columns that line up, one row a line.
//!
//! Owns: how every table of the command line looks.
//! Never: cuts a cell: what is piped into another program must be whole.
//! Called by: `cli::routes`, `cli::certs`.

use std::io::{IsTerminal, Write};

/// Between two columns.
const GAP: &str = "   ";

/// A table that is being filled.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no row.
    pub fn new(columns: &[&'static str]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. An empty cell is shown as `-`, and so is one that is missing.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().map(clean).collect();
        cells.resize(self.columns.len(), "-".to_owned());
        self.rows.push(cells);
    }

    /// The table as text. `bold`: the headings stand out, for a terminal.
    pub fn render(&self, bold: bool) -> String {
        let widths = self.widths();
        let headings: Vec<&str> = self.columns.clone();
        let mut out = String::new();
        if bold {
            out.push_str("\x1b[1m");
        }
        out.push_str(&line(&headings, &widths));
        if bold {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            out.push_str(&line(&cells, &widths));
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|text| text.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn line(cells: &[&str], widths: &[usize]) -> String {
    // Not `{cell:<width$}`: that panics over 65,535, and a route may name 10,000 hosts.
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        let room = width.saturating_sub(cell.chars().count());
        format!("{cell}{}", " ".repeat(room))
    });
    let line = padded.collect::<Vec<_>>().join(GAP);
    line.trim_end().to_owned()
}

/// A cell that cannot break its line or talk to the terminal.
fn clean(cell: String) -> String {
    match cell.as_str() {
        "" => "-".to_owned(),
        text if text.chars().any(char::is_control) => {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.collect()
        }
        _ => cell,
    }
}

/// Writes `text` to standard output. False where nobody takes it, as behind `| head`.
pub fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// True where headings may be bold: on a terminal, unless `NO_COLOR` is set.
pub fn bold() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "PORT", "STATE"]);
        table.row(["bank".to_owned(), String::new(), "healthy".to_owned()]);
        table.row(["a-longer-näme".to_owned(), "443".to_owned()]);
        table
    }

    #[test]
    fn columns_line_up_and_nothing_is_cut() {
        let expected = "\
NAME            PORT   STATE
bank            -      healthy
a-longer-näme   443    -
";
        assert_eq!(table().render(false), expected);
    }

    #[test]
    fn a_cell_may_be_as_long_as_a_list_of_10_000_hosts() {
        let mut table = Table::new(&["HOST", "PORT"]);
        table.row(["h".repeat(70_000), "80".to_owned()]);
        table.row(["a".to_owned(), "81".to_owned()]);
        let lines: Vec<usize> = table.render(false).lines().map(str::len).collect();
        assert_eq!(lines, [70_007, 70_005, 70_005]);
    }

    #[test]
    fn bold_is_only_what_the_caller_asks_for() {
        assert!(table().render(true).starts_with("\x1b[1mNAME "));
        assert!(!table().render(false).contains('\x1b'));
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        let mut table = Table::new(&["A"]);
        table.row(["x\ny\x1b[31m".to_owned()]);
        assert_eq!(table.render(false), "A\nx y [31m\n");
    }
}
