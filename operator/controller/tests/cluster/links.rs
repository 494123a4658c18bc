//! Slow links, and links that lose packets: operator to API server, and operator to servers.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use kube::api::{DeleteParams, ListParams};
use ping_api::kinds::Kind;
use ping_testbed::{
    link::{Link, LinkState},
    ports::free_port,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    harness::{
        TestNamespace,
        fake_operators::{api, make_all_ready},
        operator::{Operator, settings},
        server::server,
        until,
    },
    leaders::{Replica, leader},
};

/// Longer than a lease.
const LOOK: Duration = Duration::from_secs(20);

fn bad_links() -> [LinkState; 2] {
    [
        LinkState { delay: Duration::from_millis(200), ..LinkState::default() },
        LinkState { loss_percent: 5, ..LinkState::default() },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_behind_a_bad_link_to_the_api_server_stays_the_leader_and_repairs() {
    let test = TestNamespace::new("links").await;
    let direct = std::fs::read_to_string(test.control_plane.kubeconfig_path()).unwrap();
    let (_, rest) = direct.split_once("https://127.0.0.1:").expect("the API server's address");
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let link = Link::start(free_port().unwrap(), port.parse().unwrap()).await.unwrap();
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let through = direct.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", link.port()));
    std::fs::write(kubeconfig.path(), through).unwrap();
    let path = kubeconfig.path().display().to_string();
    let _first = Replica::start_with_env(&test, "first", vec![("KUBECONFIG", path)]);
    assert_eq!(leader(&test).await, "first");
    let _second = Replica::start(&test, "second");
    test.create("demo", json!({})).await;
    let deployments = api(&test, Kind::Deployment, &test.namespace);
    let exist = async || deployments.get_opt("demo-server").await.unwrap().ok_or("none".to_owned());
    until("servers", exist).await;
    for state in bad_links() {
        link.set(state);
        sleep(LOOK).await;
        let began = Instant::now();
        deployments.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        until("servers again", exist).await;
        assert_eq!(leader(&test).await, "first", "{state:?}");
        println!("{state:?}: repaired after {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_condition_becomes_untrue_because_of_a_bad_link_to_the_servers() {
    let test = TestNamespace::new("links-servers").await;
    let address = server(Ipv4Addr::LOCALHOST.into()).await;
    let link = Link::start(free_port().unwrap(), address.port()).await.unwrap();
    let _operator = Operator::start(test.client.clone(), settings(&test, &format!("http://127.0.0.1:{}", link.port())));
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    for condition in ["Ready", "Exact", "Fresh"] {
        test.wait_for("demo", condition, "True").await;
    }
    for state in bad_links() {
        link.set(state);
        let began = Instant::now();
        while began.elapsed() < LOOK {
            for condition in ["Ready", "Exact", "Fresh"] {
                let (status, reason, message) = test.condition("demo", condition).await;
                assert_eq!(status, "True", "{state:?}, {condition}: {reason}: {message}");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
    link.set(LinkState { responses_cut: true, ..LinkState::default() });
    test.wait_for("demo", "Exact", "Unknown").await;
}
