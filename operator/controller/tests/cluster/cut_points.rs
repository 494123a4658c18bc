//! The operator is killed before and after each of its writes; the next one ends with the same objects all the same.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use kube::api::DeleteParams;
use ping_api::kinds::Kind;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{
    Place,
    fake_operators::{api, make_secrets},
    operator::{Operator, settings, settled},
    proxy::{self, Fate, is_write},
    shape::{differences, shape},
    until,
};

/// Cuts that are tried at the same time.
const PARALLEL: usize = 6;

/// What happens to the pipeline while the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Update,
    Delete,
}

impl Deed {
    async fn prepare(self, place: &Place) {
        make_secrets(place, "demo", "first").await;
        if self != Self::Create {
            let (operator, writes) = Operator::counted(place).await;
            self.create(place).await;
            settled(&writes, Duration::from_millis(1500)).await;
            operator.stop().await;
        }
    }

    async fn create(self, place: &Place) {
        let policy = if self == Self::Delete { "Delete" } else { "Retain" };
        place.create("demo", json!({ "deletionPolicy": policy })).await;
    }

    async fn perform(self, place: &Place) {
        match self {
            Self::Create => self.create(place).await,
            Self::Update => {
                let spec = json!({
                    "server": { "autoscaling": {}, "lanes": 2 },
                    "processor": { "replicas": 3 },
                    "postgres": { "cluster": { "storage": { "size": "20Gi" } } },
                    "kafka": { "topic": { "partitions": 12 } },
                    "monitoring": { "enabled": false },
                });
                place.change("demo", spec).await.unwrap();
            }
            Self::Delete => {
                place.pipelines().delete("demo", &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// What there is to see in the end, once nothing is on its way any more.
    async fn end(self, place: &Place) -> Result<BTreeMap<String, Value>, String> {
        let pipeline = place.pipelines().get_opt("demo").await.unwrap();
        let shape = shape(place).await;
        match (self, pipeline) {
            (Self::Delete, Some(_)) => Err("the pipeline is still there".into()),
            (Self::Delete, None) => Ok(shape),
            (_, None) => Err("the pipeline is gone".into()),
            (_, Some(pipeline)) => {
                let seen = pipeline.status.and_then(|status| status.observed_generation);
                if seen == pipeline.metadata.generation { Ok(shape) } else { Err("the status is old".into()) }
            }
        }
    }
}

/// When the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// Kills an operator before or after its write number `cut` (from 0). It may need fewer writes this time and live.
async fn run_until_cut(place: &Place, cut: usize, when: When) {
    let (count, reached) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let notify = reached.clone();
    let judge = move |request: &http::request::Parts| {
        if !is_write(request) {
            return Fate::Pass;
        }
        match (count.fetch_add(1, Ordering::SeqCst).cmp(&cut), when) {
            (std::cmp::Ordering::Less, _) => Fate::Pass,
            (std::cmp::Ordering::Equal, When::After) => Fate::HangAfter(notify.clone()),
            (std::cmp::Ordering::Equal, When::Before) => {
                notify.notify_one();
                Fate::Hang
            }
            (std::cmp::Ordering::Greater, _) => Fate::Hang,
        }
    };
    let client = proxy::client(&place.client, Arc::new(judge)).await;
    let _killed_at_the_end = Operator::start(client, settings(place, "http://127.0.0.1:9"));
    let _ = tokio::time::timeout(Duration::from_secs(20), reached.notified()).await;
}

async fn reference(deed: Deed, name: &str) -> (BTreeMap<String, Value>, usize) {
    let place = Place::new(name).await;
    deed.prepare(&place).await;
    deed.perform(&place).await;
    let (operator, writes) = Operator::counted(&place).await;
    let count = settled(&writes, Duration::from_secs(2)).await;
    let end = until("end", async || deed.end(&place).await).await;
    operator.stop().await;
    (end, count)
}

async fn all_cuts_end_the_same(deed: Deed, name: &str) {
    let (expected, writes) = reference(deed, &format!("{name}-whole")).await;
    assert!(writes > 5, "only {writes} writes");
    let cuts = (0..writes).flat_map(|cut| [(cut, When::Before), (cut, When::After)]);
    let try_one = async |(cut, when): (usize, When)| {
        let place = Place::new(&format!("{name}-{cut}-{}", format!("{when:?}").to_lowercase())).await;
        deed.prepare(&place).await;
        deed.perform(&place).await;
        run_until_cut(&place, cut, when).await;
        let _operator = Operator::plain(&place);
        until(&format!("same end, killed {when:?} write {cut} of {deed:?}"), async || {
            let differences = differences(&deed.end(&place).await?, &expected);
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        })
        .await;
    };
    futures::stream::iter(cuts).for_each_concurrent(PARALLEL, try_one).await;
    eprintln!("{deed:?}: {writes} writes, {} cuts", writes * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_a_create_it_ends_the_same() {
    all_cuts_end_the_same(Deed::Create, "cut-create").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_an_update_it_ends_the_same() {
    all_cuts_end_the_same(Deed::Update, "cut-update").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_a_delete_it_leaves_nothing() {
    all_cuts_end_the_same(Deed::Delete, "cut-delete").await;
    let place = Place::new("cut-delete-look").await;
    assert!(api(&place, Kind::Cluster, "cut-delete-whole").list(&Default::default()).await.unwrap().items.is_empty());
}
