//! A bar on stderr while the load runs, on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Run;
use crate::output::grouped;

/// How often it moves.
const STEP: Duration = Duration::from_millis(250);
/// How it looks.
const STYLE: &str = "{elapsed:>3} {bar:40} {msg}";

/// Moves the bar for as long as it is polled.
pub(super) async fn show(run: &Run) {
    let length = u64::try_from(run.plan.duration.as_millis()).unwrap_or(u64::MAX);
    // It hides itself when stderr is not a terminal.
    let bar = Cleared(ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()));
    if let Ok(style) = ProgressStyle::with_template(STYLE) {
        bar.0.set_style(style);
    }
    let mut last = (run.schedule.started(), 0);
    loop {
        tokio::time::sleep(STEP).await;
        let (now, acknowledged) = (Instant::now(), run.tally.lock().acknowledged);
        let rate = u128::from(acknowledged - last.1) * 1000 / now.duration_since(last.0).as_millis().max(1);
        last = (now, acknowledged);
        let elapsed = now.duration_since(run.schedule.started()).as_millis();
        bar.0.set_position(u64::try_from(elapsed).unwrap_or(length).min(length));
        bar.0.set_message(format!("{} acknowledged, {}/s", grouped(acknowledged), grouped(rate as i64)));
    }
}

/// Leaves no bar behind.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
