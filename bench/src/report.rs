//! The results and what they are compared to, as a table and as JSON.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// A measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The value it is compared to, and the ratio.
    pub(crate) against: Option<(String, f64)>,
}

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a value and prints it.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Row { name: name.into(), value, unit, against: None });
    }

    /// Adds a value that is compared to a limit or a baseline, and prints it.
    pub(crate) fn compare(&mut self, name: impl Into<String>, value: f64, unit: &'static str, to: &str, limit: f64) {
        self.push(Row { name: name.into(), value, unit, against: Some((to.to_owned(), value / limit)) });
    }

    fn push(&mut self, row: Row) {
        eprintln!("{:<60} {:>14.2} {}", row.name, row.value, row.unit);
        self.rows.push(row);
    }

    /// The value of a row that was added earlier.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.value)
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["name", "value", "unit", "ratio", "compared to"]);
        for row in &self.rows {
            let (of, ratio) = row.against.clone().unzip();
            table.add_row([
                row.name.clone(),
                format!("{:.2}", row.value),
                row.unit.to_owned(),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                of.unwrap_or_default(),
            ]);
        }
        table
    }

    /// Writes the report as JSON to a new file in `folder`, and returns its path.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = folder.join(format!("{seconds}.json"));
        fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }
}
