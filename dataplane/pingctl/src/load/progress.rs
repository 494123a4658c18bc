//! The progress bar on stderr. It hides itself when stderr is not a terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanFloatCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::Run;

/// Time between two updates.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);
const BAR_TEMPLATE: &str = "{elapsed:>3} {bar:40} {msg}";
/// Positions of the bar.
const BAR_STEPS: u64 = 1000;

/// Updates the bar for as long as it is polled.
pub(super) async fn show(run: &Run) {
    let bar = ClearedOnDrop(ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr()));
    if let Ok(style) = ProgressStyle::with_template(BAR_TEMPLATE) {
        bar.0.set_style(style);
    }
    let mut last = (run.schedule.started(), 0);
    loop {
        tokio::time::sleep(REFRESH_INTERVAL).await;
        let (now, acknowledged) = (Instant::now(), run.stats.lock().acknowledged);
        #[expect(clippy::cast_precision_loss, reason = "a rate is for display")]
        let rate = (acknowledged - last.1) as f64 / now.duration_since(last.0).as_secs_f64();
        last = (now, acknowledged);
        bar.0.set_position(position(now.duration_since(run.schedule.started()), run.config.duration));
        bar.0.set_message(format!("{} acknowledged, {:.0}/s", HumanCount(acknowledged), HumanFloatCount(rate)));
    }
}

fn position(elapsed: Duration, duration: Duration) -> u64 {
    let permille = elapsed.as_millis() * u128::from(BAR_STEPS) / duration.as_millis().max(1);
    #[expect(clippy::cast_possible_truncation, reason = "at most BAR_STEPS")]
    let position = permille.min(u128::from(BAR_STEPS)) as u64;
    position
}

/// Removes the bar when dropped.
struct ClearedOnDrop(ProgressBar);

impl Drop for ClearedOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
