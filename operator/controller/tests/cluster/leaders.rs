//! Two operators: one works, the other waits, and takes over when the first is gone.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kube::api::{DeleteParams, ListParams};
use ping_api::kinds::Kind;
use serde_json::json;

use ping_testbed::clock::Clock;
use tokio::time::sleep;

use crate::harness::{TestNamespace, fake_operators::api, until};

const HOUR: i64 = 3_600;
/// Longer than a lease.
const LOOK: Duration = Duration::from_secs(20);

/// An operator in its own process; killed when dropped.
pub(crate) struct Replica(Child);

impl Replica {
    pub(crate) fn start(test: &TestNamespace, identity: &str) -> Self {
        Self::start_with_env(test, identity, Vec::new())
    }

    pub(crate) fn start_with_env(test: &TestNamespace, identity: &str, env: Vec<(&str, String)>) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_ping-operator"))
            .args(["run", "--namespace", &test.namespace, "--lease-namespace", &test.namespace])
            .args(["--identity", identity, "--admin-listen", "127.0.0.1:0", "--log-format", "text"])
            .env("KUBECONFIG", test.control_plane.kubeconfig_path())
            .envs(env)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn leader(test: &TestNamespace) -> String {
    until("leader", async || {
        let leases =
            kube::Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(test.client.clone(), &test.namespace);
        let lease = leases.get_opt("ping-operator").await.unwrap();
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        if holder.is_empty() { Err("no holder".to_owned()) } else { Ok(holder) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_operators_takes_over_when_the_first_is_killed() {
    let test = TestNamespace::new("leaders").await;
    let first = Replica::start(&test, "first");
    assert_eq!(leader(&test).await, "first");
    let _second = Replica::start(&test, "second");
    test.create("demo", json!({})).await;
    let deployments = api(&test, Kind::Deployment, &test.namespace);
    until("servers", async || deployments.get_opt("demo-server").await.unwrap().ok_or("none".to_owned())).await;
    drop(first);
    let began = Instant::now();
    deployments.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    until("servers again", async || deployments.get_opt("demo-server").await.unwrap().ok_or("none".to_owned())).await;
    assert_eq!(leader(&test).await, "second");
    eprintln!("took over after {:?}", began.elapsed());
}

/// Whether a replica leads depends on no clock. A leader that is killed leaves times of its clock in the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_jumps_by_an_hour_stays_the_leader_and_one_that_is_killed_is_replaced() {
    let test = TestNamespace::new("clocks").await;
    let clock = Clock::new().unwrap();
    let first = Replica::start_with_env(&test, "first", clock.env());
    assert_eq!(leader(&test).await, "first");
    let _second = Replica::start(&test, "second");
    test.create("demo", json!({})).await;
    let deployments = api(&test, Kind::Deployment, &test.namespace);
    let repaired = async |when: &str| {
        deployments.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        until(when, async || deployments.get_opt("demo-server").await.unwrap().ok_or("none".to_owned())).await;
    };
    until("servers", async || deployments.get_opt("demo-server").await.unwrap().ok_or("none".to_owned())).await;
    for seconds in [-HOUR, HOUR] {
        clock.set(seconds).unwrap();
        sleep(LOOK).await;
        assert_eq!(leader(&test).await, "first", "clock {seconds} s");
        repaired("servers with a clock that jumped").await;
    }
    drop(first);
    repaired("servers of the second leader").await;
    assert_eq!(leader(&test).await, "second");
}
