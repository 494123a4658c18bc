//! What a caller has not seen yet.

use std::{collections::BTreeMap, sync::Arc};

use ping_core::{Millis, Minute};
use ping_proto::{self as proto, ComponentState, MinuteCount, TopSourcesResponse, WatchResponse};
use ping_query::{CacheState, LiveCount, Minutes, Ranking};

use crate::pings::count_response;

/// What a caller wants besides the count.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Recent minutes.
    pub(super) minutes: usize,
    /// Sources of the ranking.
    pub(super) top_sources: usize,
}

/// What there was to see at one time. The larger parts are shared with other callers.
pub(super) struct LiveState {
    pub(super) live: LiveCount,
    pub(super) database: ComponentState,
    pub(super) minutes: Option<Minutes>,
    pub(super) ranking: Option<Ranking>,
}

impl LiveState {
    /// Whether there is something new. Watermarks always are: they do not count.
    pub(super) fn differs(&self, before: &Self) -> bool {
        let shown = |seen: &Self| {
            let count = seen.live.count;
            (count.count, count.exact, count.served_by, count.views.suspect, seen.live.cache, seen.database)
        };
        shown(self) != shown(before)
            || !is_same(self.minutes.as_ref(), before.minutes.as_ref())
            || !is_same(self.ranking.as_ref(), before.ranking.as_ref())
    }

    /// The message for a caller that has seen `before`.
    pub(super) fn message(&self, before: Option<&Self>, wanted: Wanted, now: Millis) -> WatchResponse {
        let mut count = count_response(&self.live.count);
        // It may have been read a while ago.
        count.lag_ms = (now - count.as_of_ms).max(0);
        let cache = match self.live.cache {
            CacheState::Available => ComponentState::COMPONENT_STATE_AVAILABLE,
            CacheState::Unavailable => ComponentState::COMPONENT_STATE_UNAVAILABLE,
            CacheState::Rebuilding => ComponentState::COMPONENT_STATE_REBUILDING,
        };
        let ranking = self
            .ranking
            .as_ref()
            .filter(|ranking| !is_same(Some(*ranking), before.and_then(|before| before.ranking.as_ref())));
        WatchResponse {
            count: buffa::MessageField::some(count),
            minutes: self.changed_minutes(before, wanted, now),
            top_sources: ranking
                .map(|ranking| top_sources(ranking, wanted.top_sources))
                .map_or_else(buffa::MessageField::none, buffa::MessageField::some),
            database: self.database.into(),
            cache: cache.into(),
        }
    }

    fn changed_minutes(&self, before: Option<&Self>, wanted: Wanted, now: Millis) -> Vec<MinuteCount> {
        let Some(minutes) = &self.minutes else { return Vec::new() };
        let before = before.and_then(|before| before.minutes.as_ref());
        if before.is_some_and(|before| Arc::ptr_eq(minutes, before)) {
            return Vec::new();
        }
        let first = Minute::of(now).back(wanted.minutes as i64 - 1);
        let nothing = BTreeMap::new();
        let changed = changed(minutes, before.map_or(&nothing, |before| before), first);
        changed.into_iter().map(|(minute, count)| MinuteCount { start_ms: minute.start(), count }).collect()
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The minutes from `first` on with another count than before; 0 if they have no events any more.
fn changed(minutes: &BTreeMap<Minute, i64>, before: &BTreeMap<Minute, i64>, first: Minute) -> Vec<(Minute, i64)> {
    let gone = before.range(first..).filter(|(minute, count)| **count != 0 && !minutes.contains_key(minute));
    let mut changed: Vec<_> = minutes
        .range(first..)
        .filter(|(minute, count)| before.get(minute).copied().unwrap_or_default() != **count)
        .map(|(minute, count)| (*minute, *count))
        .chain(gone.map(|(minute, _)| (*minute, 0)))
        .collect();
    changed.sort_unstable();
    changed
}

fn top_sources(ranking: &Ranking, limit: usize) -> TopSourcesResponse {
    let sources = ranking.value.iter().take(limit);
    TopSourcesResponse {
        sources: sources.map(|(source, count)| proto::SourceCount { source: source.clone(), count: *count }).collect(),
        as_of_ms: ranking.as_of,
        lag_ms: ranking.lag,
    }
}

#[cfg(test)]
mod tests {
    use ping_ports::ViewAuditState;
    use ping_query::{AsOf, CountResponse, ServedBy};

    use super::*;

    const NOW: Millis = 600_000_500;
    const WANTED: Wanted = Wanted { minutes: 3, top_sources: 1 };

    fn seen(total: i64, minutes: &[(i64, i64)]) -> LiveState {
        let count = CountResponse {
            count: total,
            as_of: NOW - 100,
            lag: 7,
            exact: true,
            served_by: ServedBy::Cache,
            last_audit: None,
            views: ViewAuditState::default(),
            storage: None,
        };
        LiveState {
            live: LiveCount { count, cache: CacheState::Available },
            database: ComponentState::COMPONENT_STATE_AVAILABLE,
            minutes: Some(Arc::new(minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect())),
            ranking: None,
        }
    }

    fn minutes(message: &WatchResponse) -> Vec<(i64, i64)> {
        message.minutes.iter().map(|minute| (minute.start_ms / 60_000, minute.count)).collect()
    }

    #[test]
    fn the_first_message_has_everything_that_was_asked_for_and_the_lag_is_of_now() {
        let mut first = seen(5, &[(9_997, 9), (9_998, 1), (10_000, 4)]);
        let sources = vec![("a".to_owned(), 3), ("b".to_owned(), 2)];
        first.ranking = Some(Arc::new(AsOf { value: sources, as_of: 1, lag: 2 }));
        let message = first.message(None, WANTED, NOW);
        assert_eq!(minutes(&message), [(9_998, 1), (10_000, 4)]);
        assert_eq!(message.top_sources.as_option().unwrap().sources.len(), 1);
        assert_eq!(message.count.as_option().unwrap().lag_ms, 100);
    }

    #[test]
    fn later_messages_have_only_what_has_changed() {
        let first = seen(5, &[(9_998, 1), (9_999, 2), (10_000, 4)]);
        let second = seen(9, &[(9_998, 1), (10_000, 8)]);
        assert!(second.differs(&first));
        assert_eq!(minutes(&second.message(Some(&first), WANTED, NOW)), [(9_999, 0), (10_000, 8)]);
        let third = LiveState { minutes: second.minutes.clone(), ..seen(9, &[]) };
        assert!(!third.differs(&second));
        assert!(third.message(Some(&second), WANTED, NOW).minutes.is_empty());
    }

    #[test]
    fn another_state_is_a_change_and_another_watermark_is_none() {
        let first = seen(5, &[]);
        let mut later = LiveState { minutes: first.minutes.clone(), ..seen(5, &[]) };
        later.live.count.as_of += 50;
        assert!(!later.differs(&first));
        later.database = ComponentState::COMPONENT_STATE_UNAVAILABLE;
        assert!(later.differs(&first));
    }
}
