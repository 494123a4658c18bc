//! What a store occupies, and how many sources it has.

use std::collections::BTreeMap;

use ping_core::{Event, Retention};
use ping_ports::StoragePart;

use crate::fixture::{Fixture, THEN, event};

fn of_sources(sources: u128) -> Vec<Event> {
    (0..sources * 2).map(|id| Event { source: format!("s{}", id % sources).into(), ..event(id, THEN) }).collect()
}

pub async fn sizes_are_those_of_all_parts(fixture: &Fixture) {
    fixture.closed_writer(of_sources(500)).await;
    assert!(fixture.store.rebuild(None, &"g".into(), &BTreeMap::new(), Retention::default().at(THEN)).await.unwrap());
    // A store in memory has no sizes.
    let Some(sizes) = fixture.store.storage_sizes().await.unwrap() else { return };
    let of = |part| sizes.parts.get(&part).copied().unwrap_or_default();
    if of(StoragePart::File) == 0 {
        let parts = [StoragePart::Events, StoragePart::MillisecondCounts, StoragePart::Rollups, StoragePart::Segments];
        assert!(parts.iter().all(|part| of(*part) > 0) && sizes.wal > 0, "{sizes:?}");
        assert!(of(StoragePart::Events) < sizes.total(), "{sizes:?}");
    }
    assert!(sizes.total() > 1_000 * 16, "a thousand ids take more: {sizes:?}");
}

pub async fn sources_are_counted_exactly_while_they_are_few(fixture: &Fixture) {
    assert_eq!(fixture.store.estimated_sources(0).await.unwrap(), 0);
    fixture.closed_writer(of_sources(500)).await;
    assert!(fixture.store.rebuild(None, &"g".into(), &BTreeMap::new(), Retention::default().at(THEN)).await.unwrap());
    for sample in 0..2 {
        assert_eq!(fixture.store.estimated_sources(sample).await.unwrap(), 500);
    }
}
