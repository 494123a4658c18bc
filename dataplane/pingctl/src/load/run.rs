//! What all senders of a load share.

use parking_lot::Mutex;

use super::{args::LoadConfig, history::HistoryFile, schedule::Schedule, stats::LoadStats};

/// A load that is running.
pub(super) struct Run {
    pub(super) config: LoadConfig,
    pub(super) schedule: Schedule,
    pub(super) stats: Mutex<LoadStats>,
    pub(super) history: Option<HistoryFile>,
}

impl Run {
    /// Starts the schedule.
    pub(super) fn start(config: LoadConfig) -> anyhow::Result<Self> {
        let history = config.history.as_deref().map(HistoryFile::create).transpose()?;
        Ok(Self { schedule: Schedule::start(&config), stats: Mutex::new(LoadStats::new()?), history, config })
    }
}
