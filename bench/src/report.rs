//! Figures with what they are compared to, as a table and as JSON.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// One measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared to, and the ratio.
    pub(crate) negative_events: Option<(String, f64)>,
}

/// All figures of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Notes a figure, and shows it at once.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Figure { name: name.into(), value, unit, negative_events: None });
    }

    /// Notes a figure that has a limit or a peer.
    pub(crate) fn compare(&mut self, name: impl Into<String>, value: f64, unit: &'static str, to: &str, limit: f64) {
        self.push(Figure { name: name.into(), value, unit, negative_events: Some((to.to_owned(), value / limit)) });
    }

    fn push(&mut self, figure: Figure) {
        eprintln!("{:<60} {:>14.2} {}", figure.name, figure.value, figure.unit);
        self.figures.push(figure);
    }

    /// A figure measured before in this run.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// For people.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["what", "value", "unit", "ratio", "of"]);
        for figure in &self.figures {
            let (of, ratio) = figure.negative_events.clone().unzip();
            table.add_row([
                figure.name.clone(),
                format!("{:.2}", figure.value),
                figure.unit.to_owned(),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                of.unwrap_or_default(),
            ]);
        }
        table
    }

    /// For programs: one file per run.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = folder.join(format!("{at}.json"));
        fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }
}
