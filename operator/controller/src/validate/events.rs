//! Checks the retention of events. Servers and processors would not start with an invalid one.

use ping_api::crd::events::{EventsSpec, MAX_RETENTION_DAYS};

use super::invalid::Invalid;

pub(super) fn events(EventsSpec { retention_days }: &EventsSpec) -> Result<(), Invalid> {
    if (0..=MAX_RETENTION_DAYS).contains(retention_days) {
        return Ok(());
    }
    Err(Invalid::Conflicting(format!(
        "spec.events.retentionDays is {retention_days}. Set it to a number of days from 1 to {MAX_RETENTION_DAYS}, or to 0 to keep events \
         indefinitely"
    )))
}
