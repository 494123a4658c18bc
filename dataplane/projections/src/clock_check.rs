//! Compares the clock of this process with the store's before something is deleted because of its age. Pure.

use ping_core::Millis;

/// Milliseconds in a minute.
const MINUTE: Millis = 60_000;
/// By how much two clocks may differ. Whatever is deleted has been kept for a day longer than it had to be.
const TOLERANCE: Millis = 60 * MINUTE;

/// At least one of two clocks is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the clock of this process is {minutes} minutes {relation} the store's, so it is not known what is old enough to be deleted; nothing \
     is, until they agree within an hour: correct the clock that is wrong"
)]
pub(super) struct ClocksDiffer {
    minutes: Millis,
    relation: &'static str,
}

/// The earlier of the two times, if the clocks agree.
pub(super) fn agreed_time(process: Millis, store: Millis) -> Result<Millis, ClocksDiffer> {
    let ahead = process.saturating_sub(store);
    if (-TOLERANCE..=TOLERANCE).contains(&ahead) {
        return Ok(process.min(store));
    }
    let relation = if ahead > 0 { "ahead of" } else { "behind" };
    Err(ClocksDiffer { minutes: ahead.saturating_abs() / MINUTE, relation })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_728_926_331_000;

    #[test]
    fn clocks_agree_within_an_hour() {
        for off in [0, 1, TOLERANCE] {
            assert_eq!(agreed_time(NOW + off, NOW), Ok(NOW));
            assert_eq!(agreed_time(NOW, NOW + off), Ok(NOW));
        }
    }

    #[test]
    fn the_error_says_which_clock_is_ahead() {
        let year = 365 * 24 * TOLERANCE;
        let ahead = agreed_time(NOW + year, NOW).unwrap_err().to_string();
        assert!(ahead.contains("the clock of this process is 525600 minutes ahead of the store's"), "{ahead}");
        let behind = agreed_time(NOW, NOW + TOLERANCE + 1).unwrap_err().to_string();
        assert!(behind.contains("60 minutes behind the store's"), "{behind}");
        assert!(agreed_time(Millis::MAX, Millis::MIN).is_err());
    }
}
