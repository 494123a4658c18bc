//! The table of results.

use std::fmt::Write as _;

use crate::{load::Outcome, test_cluster::root};

/// Each fault and the result of its load.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, Outcome)>);

impl Report {
    pub(crate) fn add(&mut self, fault: &str, outcome: Outcome) {
        println!("{fault}: {outcome:?}");
        self.0.push((fault.to_owned(), outcome));
    }

    /// Prints the table and writes it to `target/e2e.md`.
    pub(crate) fn print(&self) {
        let mut table = String::from(
            "| fault | acknowledged | lost | late | counted twice | Postgres = cache | wrong answers | to Ready | to Exact | to Fresh | slowest ping | no write for | no count for |\n\
             | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for (fault, outcome) in &self.0 {
            let Outcome { lost, late, counted_twice, .. } = outcome;
            let _ = writeln!(
                table,
                "| {fault} | {} | {lost} | {late} | {counted_twice} | {} | {} of {} | {:.0} s | {:.0} s | {:.0} s | {:.1} s | {:.1} s | {:.1} s |",
                outcome.acknowledged,
                if outcome.cache_matches_rows { "yes" } else { "NO" },
                outcome.wrong_answers.len(),
                outcome.answers,
                outcome.ready_after.as_secs_f64(),
                outcome.exact_after.as_secs_f64(),
                outcome.fresh_after.as_secs_f64(),
                outcome.slowest.as_secs_f64(),
                outcome.no_write.as_secs_f64(),
                outcome.no_count.as_secs_f64(),
            );
        }
        println!("\n{table}");
        std::fs::write(root().join("target/e2e.md"), table).unwrap();
    }

    pub(crate) fn assert_exact(&self) {
        for (fault, outcome) in &self.0 {
            assert!(outcome.answers > 0 && outcome.wrong_answers.is_empty(), "{fault}: {outcome:?}");
            let wrong = (outcome.lost, outcome.late, outcome.counted_twice);
            assert_eq!(wrong, (0, 0, 0), "{fault}: lost, late and counted twice: {outcome:?}");
            assert!(outcome.cache_matches_rows && outcome.acknowledged > 0, "{fault}: {outcome:?}");
        }
    }
}
