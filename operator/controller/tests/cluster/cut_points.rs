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
    TestNamespace,
    fake_operators::{api, make_secrets},
    operator::{Operator, settings, settled},
    proxy::{self, ProxyAction, is_write},
    shape::{differences, shape},
    until,
};

/// Cuts that are tried at the same time.
const PARALLEL: usize = 6;

/// What happens to the pipeline while the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    async fn prepare(self, test: &TestNamespace) {
        make_secrets(test, "demo", "first").await;
        if self != Self::Create {
            let (operator, writes) = Operator::counted(test).await;
            self.create(test).await;
            settled(&writes, Duration::from_millis(1500)).await;
            operator.stop().await;
        }
    }

    async fn create(self, test: &TestNamespace) {
        let policy = if self == Self::Delete { "Delete" } else { "Retain" };
        test.create("demo", json!({ "deletionPolicy": policy })).await;
    }

    async fn perform(self, test: &TestNamespace) {
        match self {
            Self::Create => self.create(test).await,
            Self::Update => {
                let spec = json!({
                    "server": { "autoscaling": {}, "lanes": 2 },
                    "processor": { "replicas": 3 },
                    "postgres": { "cluster": { "storage": { "size": "20Gi" } } },
                    "kafka": { "topic": { "partitions": 12 } },
                    "monitoring": { "enabled": false },
                });
                test.change("demo", spec).await.unwrap();
            }
            Self::Delete => {
                test.pipelines().delete("demo", &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// What there is to see in the end, once nothing is on its way any more.
    async fn end(self, test: &TestNamespace) -> Result<BTreeMap<String, Value>, String> {
        let pipeline = test.pipelines().get_opt("demo").await.unwrap();
        let shape = shape(test).await;
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
async fn run_until_cut(test: &TestNamespace, cut: usize, when: When) {
    let (count, reached) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let notify = reached.clone();
    let policy = move |request: &http::request::Parts| {
        if !is_write(request) {
            return ProxyAction::Pass;
        }
        match (count.fetch_add(1, Ordering::SeqCst).cmp(&cut), when) {
            (std::cmp::Ordering::Less, _) => ProxyAction::Pass,
            (std::cmp::Ordering::Equal, When::After) => ProxyAction::HangAfter(notify.clone()),
            (std::cmp::Ordering::Equal, When::Before) => {
                notify.notify_one();
                ProxyAction::Hang
            }
            (std::cmp::Ordering::Greater, _) => ProxyAction::Hang,
        }
    };
    let client = proxy::client(&test.client, Arc::new(policy)).await;
    let _killed_at_the_end = Operator::start(client, settings(test, "http://127.0.0.1:9"));
    let _ = tokio::time::timeout(Duration::from_secs(20), reached.notified()).await;
}

async fn reference(operation: Operation, name: &str) -> (BTreeMap<String, Value>, usize) {
    let test = TestNamespace::new(name).await;
    operation.prepare(&test).await;
    operation.perform(&test).await;
    let (operator, writes) = Operator::counted(&test).await;
    let count = settled(&writes, Duration::from_secs(2)).await;
    let end = until("end", async || operation.end(&test).await).await;
    operator.stop().await;
    (end, count)
}

async fn all_cuts_end_the_same(operation: Operation, name: &str) {
    let (expected, writes) = reference(operation, &format!("{name}-whole")).await;
    assert!(writes > 5, "only {writes} writes");
    let cuts = (0..writes).flat_map(|cut| [(cut, When::Before), (cut, When::After)]);
    let try_one = async |(cut, when): (usize, When)| {
        let test = TestNamespace::new(&format!("{name}-{cut}-{}", format!("{when:?}").to_lowercase())).await;
        operation.prepare(&test).await;
        operation.perform(&test).await;
        run_until_cut(&test, cut, when).await;
        let _operator = Operator::plain(&test);
        until(&format!("same end, killed {when:?} write {cut} of {operation:?}"), async || {
            let differences = differences(&operation.end(&test).await?, &expected);
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        })
        .await;
    };
    futures::stream::iter(cuts).for_each_concurrent(PARALLEL, try_one).await;
    eprintln!("{operation:?}: {writes} writes, {} cuts", writes * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_a_create_it_ends_the_same() {
    all_cuts_end_the_same(Operation::Create, "cut-create").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_an_update_it_ends_the_same() {
    all_cuts_end_the_same(Operation::Update, "cut-update").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_each_write_of_a_delete_it_leaves_nothing() {
    all_cuts_end_the_same(Operation::Delete, "cut-delete").await;
    let test = TestNamespace::new("cut-delete-look").await;
    assert!(api(&test, Kind::Cluster, "cut-delete-whole").list(&Default::default()).await.unwrap().items.is_empty());
}
