//! The table of faults.

use std::fmt::Write as _;

use crate::{load::Outcome, stage::root};

/// What happened, and what became of the pings meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, Outcome)>);

impl Report {
    pub(crate) fn add(&mut self, what: &str, outcome: Outcome) {
        println!("{what}: {outcome:?}");
        self.0.push((what.to_owned(), outcome));
    }

    /// Prints the table, and leaves it in `target/e2e.md`.
    pub(crate) fn print(&self) {
        let mut table = String::from(
            "| what | acknowledged | lost | double | Postgres = cache | to Ready | to Exact | to Fresh | slowest ping |\n\
             | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n",
        );
        for (what, outcome) in &self.0 {
            let (lost, double) = (outcome.missing.max(0), (-outcome.missing).max(0));
            let _ = writeln!(
                table,
                "| {what} | {} | {lost} | {double} | {} | {:.0} s | {:.0} s | {:.0} s | {:.1} s |",
                outcome.acknowledged,
                if outcome.same { "yes" } else { "NO" },
                outcome.ready_after.as_secs_f64(),
                outcome.exact_after.as_secs_f64(),
                outcome.fresh_after.as_secs_f64(),
                outcome.slowest.as_secs_f64(),
            );
        }
        println!("\n{table}");
        std::fs::write(root().join("target/e2e.md"), table).unwrap();
    }

    pub(crate) fn assert_exact(&self) {
        for (what, outcome) in &self.0 {
            assert!(outcome.missing == 0 && outcome.same && outcome.acknowledged > 0, "{what}: {outcome:?}");
        }
    }
}
