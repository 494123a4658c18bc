//! An id counts once.

use std::{collections::HashSet, time::Duration};

use ping_core::Event;
use ping_ports::Committed;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fixture::{Fixture, THEN, batch, event, events};

fn ids(committed: &Committed) -> Vec<u128> {
    let mut ids: Vec<_> = committed.known.iter().map(Uuid::as_u128).collect();
    ids.sort_unstable();
    ids
}

pub async fn the_same_id_counts_once(fixture: &Fixture) {
    let (first, second) = (fixture.open().await, fixture.open().await);
    fixture.commit(first, 1, events([1, 2])).await;
    fixture.commit(first, 3, events([2, 3])).await;
    fixture.commit(second, 1, events([3, 4, 1])).await;
    fixture.assert_count(4).await;
    assert_eq!(fixture.total().await, 4);
}

pub async fn known_ids_are_reported(fixture: &Fixture) {
    let (first, second) = (fixture.open().await, fixture.open().await);
    assert_eq!(ids(&fixture.commit(first, 1, events([5, 1, 3])).await), []);
    assert_eq!(ids(&fixture.commit(second, 1, events([1, 2, 3, 4])).await), [1, 3]);
    assert_eq!(ids(&fixture.commit(second, 5, events([9, 8])).await), []);
    let rows = fixture.store.unpublished(second, 0, 100).await.unwrap();
    let published: Vec<_> = rows.iter().flat_map(|row| row.records()).collect();
    let published: Vec<_> = published.into_iter().map(|(seq, _, event)| (seq, event.id.as_u128())).collect();
    assert_eq!(published, [(2, 2), (4, 4), (5, 9), (6, 8)]);
}

pub async fn a_batch_of_known_ids_moves_the_writer_and_nothing_else(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, events([1, 2])).await;
    assert_eq!(ids(&fixture.commit(writer, 3, events([2, 1])).await), [1, 2]);
    fixture.assert_count(2).await;
    assert_eq!(fixture.store.close_writer(writer).await.unwrap(), 4);
}

pub async fn the_first_version_of_an_event_stays(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, THEN)]).await;
    let other = Event { source: "b".into(), kind: "k".into(), ..event(1, THEN + 60_000) };
    fixture.commit(writer, 2, vec![other, event(2, THEN)]).await;
    assert_eq!(fixture.store.find(&[Uuid::from_u128(1), Uuid::from_u128(7)]).await.unwrap(), [event(1, THEN)]);
    fixture.assert_count(2).await;
}

pub async fn sources_and_kinds_survive(fixture: &Fixture) {
    let writer = fixture.open().await;
    let named = Event { source: "exämple.com".into(), kind: "visit".into(), ..event(1, THEN) };
    let sourced = Event { source: "b".into(), ..event(2, THEN + 1) };
    let all = vec![named, event(3, THEN), sourced];
    fixture.commit(writer, 1, all.clone()).await;
    let ids: Vec<_> = all.iter().map(|event| event.id).collect();
    let mut found = fixture.store.find(&ids).await.unwrap();
    found.sort_by_key(|event| all.iter().position(|other| other.id == event.id));
    assert_eq!(found, all);
    assert_eq!(fixture.store.find(&[]).await.unwrap(), []);
}

pub async fn overlapping_batches_count_each_id_once(fixture: &Fixture) {
    const IDS: u128 = 200;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = fixture.store.clone();
        let writer = fixture.open().await;
        tasks.spawn(async move {
            let mut random = StdRng::seed_from_u64(task);
            let (mut new, mut seq) = (Vec::new(), 1);
            for _ in 0..10 {
                let mut ids: Vec<_> = (0..IDS).collect();
                ids.shuffle(&mut random);
                ids.truncate(random.random_range(1..80));
                let batch = batch(writer, seq, events(ids));
                let committed = store.commit(&batch).await.unwrap();
                seq = batch.last_seq() + 1;
                new.extend(batch.events.iter().map(|event| event.id).filter(|id| !committed.known.contains(id)));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            new
        });
    }
    let new = tasks.join_all().await.concat();
    assert_eq!(new.iter().collect::<HashSet<_>>().len(), new.len());
    fixture.assert_count(i64::try_from(new.len()).unwrap()).await;
}

pub async fn a_batch_of_thousands_is_one_commit(fixture: &Fixture) {
    let writer = fixture.open().await;
    let many: Vec<_> = (0..5_000).map(|id| event(id, THEN + i64::try_from(id * 7_919).unwrap())).collect();
    let mut shuffled = many.clone();
    shuffled.shuffle(&mut StdRng::seed_from_u64(1));
    fixture.commit(writer, 1, shuffled.clone()).await;
    fixture.assert_count(5_000).await;
    let ids: Vec<_> = many.iter().map(|event| event.id).collect();
    let mut found = fixture.store.find(&ids).await.unwrap();
    found.sort_by_key(|event| event.id);
    assert_eq!(found, many);
    let rows = fixture.store.unpublished(writer, 0, 1).await.unwrap();
    assert_eq!((rows.len(), rows[0].batch.events.as_ref()), (1, &shuffled));
}
