//! The events of recent minutes, from two places.

use std::collections::BTreeMap;

use ping_core::Minute;

/// Minutes that can be watched: a day.
pub const LIVE_MINUTES: usize = 1_440;

/// The minutes of the cache, which has all of them from one on.
pub(super) struct CachedMinutes {
    pub(super) from: Minute,
    pub(super) counts: BTreeMap<Minute, i64>,
}

/// The last [`LIVE_MINUTES`] minutes: those that the cache has completely, the others as `stored`. `window` is that of the cache.
pub(super) fn merge(
    stored: &BTreeMap<Minute, i64>,
    cached: Option<&CachedMinutes>,
    now: Minute,
    window: i64,
) -> BTreeMap<Minute, i64> {
    let (oldest, end) = (now.back(LIVE_MINUTES as i64 - 1), Minute(now.0 + 1));
    // The minute in which the window begins may have left the cache.
    let first_cached = cached.map_or(end, |cached| now.back(window - 2).max(cached.from)).clamp(oldest, end);
    let cached = cached.into_iter().flat_map(|cached| cached.counts.range(first_cached..end));
    stored.range(oldest..first_cached).chain(cached).map(|(minute, count)| (*minute, *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Minute = Minute(10_000);

    fn minutes(counts: &[(i64, i64)]) -> BTreeMap<Minute, i64> {
        counts.iter().map(|(back, count)| (NOW.back(*back), *count)).collect()
    }

    fn cached(from: Minute, counts: &[(i64, i64)]) -> CachedMinutes {
        CachedMinutes { from, counts: minutes(counts) }
    }

    #[test]
    fn the_cache_has_the_last_word_on_its_minutes_and_none_on_others() {
        let stored = minutes(&[(1_440, 9), (1_439, 1), (59, 2), (58, 3), (1, 4), (0, 5)]);
        let cached = cached(NOW.back(60), &[(59, 70), (58, 30), (0, 50), (-1, 60)]);
        assert_eq!(merge(&stored, Some(&cached), NOW, 60), minutes(&[(1_439, 1), (59, 2), (58, 30), (0, 50)]));
    }

    #[test]
    fn a_minute_that_the_cache_dropped_is_as_stored() {
        let stored = minutes(&[(30, 4), (0, 5)]);
        let cached = cached(NOW.back(20), &[(20, 7), (0, 50)]);
        assert_eq!(merge(&stored, Some(&cached), NOW, 60), minutes(&[(30, 4), (20, 7), (0, 50)]));
    }

    #[test]
    fn without_a_cache_all_minutes_are_as_stored() {
        let stored = minutes(&[(1_440, 9), (58, 3), (0, 5)]);
        assert_eq!(merge(&stored, None, NOW, 60), minutes(&[(58, 3), (0, 5)]));
    }

    #[test]
    fn a_window_longer_than_a_day_is_cut() {
        let cached = cached(Minute(0), &[(1_440, 9), (1_439, 1), (0, 50)]);
        assert_eq!(merge(&BTreeMap::new(), Some(&cached), NOW, 10_080), minutes(&[(1_439, 1), (0, 50)]));
    }
}
