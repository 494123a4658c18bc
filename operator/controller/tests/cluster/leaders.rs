//! Two operators: one works, the other waits, and takes over when the first is gone.

use std::{
    process::{Child, Command, Stdio},
    time::Instant,
};

use kube::api::{DeleteParams, ListParams};
use ping_api::kinds::Kind;
use serde_json::json;

use crate::harness::{TestNamespace, fake_operators::api, until};

/// An operator in its own process; killed when dropped.
struct Replica(Child);

impl Replica {
    fn start(test: &TestNamespace, identity: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_ping-operator"))
            .args(["run", "--namespace", &test.namespace, "--lease-namespace", &test.namespace])
            .args(["--identity", identity, "--admin-listen", "127.0.0.1:0", "--log-format", "text"])
            .env("KUBECONFIG", test.control_plane.kubeconfig_path())
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

async fn leader(test: &TestNamespace) -> String {
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
