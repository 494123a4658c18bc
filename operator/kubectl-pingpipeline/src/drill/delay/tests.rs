use kube::ResourceExt;

use super::*;

fn delay(target: Target) -> Delay {
    Delay {
        names: Names { pipeline: "demo".into(), namespace: "shop".into() },
        from: Workload::Server,
        target,
        component: "server",
        target_pods: "a=b".into(),
        milliseconds: 200,
        duration: Duration::from_secs(15),
    }
}

fn link(address: &str, name: &str, to: &str, port: u16) -> HopLink {
    HopLink { address: address.into(), name: name.into(), to: to.into(), port }
}

#[test]
fn names_that_programs_use_lead_to_the_hop_which_uses_others() {
    assert_eq!(
        delay(Target::Postgres).links(&[]),
        [link("127.0.53.1", "demo-postgres-rw.shop", "demo-postgres-rw.shop.svc", 5432)]
    );
    assert_eq!(delay(Target::Cache).links(&[]), [link("127.0.53.1", "demo-cache.shop.svc", "demo-cache.shop", 6379)]);
    let brokers = ["demo-kafka-brokers-0".to_owned(), "demo-kafka-brokers-1".to_owned()];
    let kafka = delay(Target::Kafka).links(&brokers);
    let broker = "demo-kafka-brokers-1.demo-kafka-kafka-brokers.shop";
    assert_eq!(
        kafka[0],
        link("127.0.53.1", "demo-kafka-kafka-bootstrap.shop.svc", "demo-kafka-kafka-bootstrap.shop", 9093)
    );
    assert_eq!(kafka[2], link("127.0.53.3", &format!("{broker}.svc"), broker, 9093));
}

#[test]
fn many_brokers_have_addresses_of_their_own() {
    let brokers: Vec<String> = (0..600).map(|number| format!("broker-{number}")).collect();
    let links = delay(Target::Kafka).links(&brokers);
    let addresses: std::collections::BTreeSet<_> = links.iter().map(|link| &link.address).collect();
    assert_eq!(addresses.len(), 601);
    assert!(addresses.iter().all(|address| address.parse::<std::net::Ipv4Addr>().unwrap().is_loopback()));
}

#[test]
fn the_hop_has_the_image_and_the_restrictions_of_the_program_and_an_end() {
    let program: Container = serde_json::from_value(json!({
        "name": "server", "image": "pingd:1", "imagePullPolicy": "Never",
        "securityContext": { "allowPrivilegeEscalation": false },
    }))
    .unwrap();
    let delay = delay(Target::Cache);
    let patch = delay.patch("demo-server", &program, &delay.links(&[]), 1_900_000_000);
    let deployment: Deployment = serde_json::from_value(patch.clone()).unwrap();
    assert_eq!(deployment.name_any(), "demo-server");
    let pod = &patch["spec"]["template"]["spec"];
    assert_eq!(pod["hostAliases"], json!([{ "ip": "127.0.53.1", "hostnames": ["demo-cache.shop.svc"] }]));
    let hop = &pod["initContainers"][0];
    assert_eq!((&hop["image"], &hop["imagePullPolicy"]), (&json!("pingd:1"), &json!("Never")));
    assert_eq!(hop["securityContext"], json!({ "allowPrivilegeEscalation": false }));
    assert_eq!(hop["restartPolicy"], "Always");
    let arguments = [
        "delay",
        "--milliseconds=200",
        "--until=1900000000",
        "--threads=1",
        "--link=127.0.53.1:6379=demo-cache.shop:6379",
    ];
    assert_eq!(hop["args"], json!(arguments));
    // Another manager's fields must not be touched.
    assert_eq!(pod.as_object().unwrap().len(), 2);
}

#[test]
fn a_rollout_is_over_when_all_pods_are_new_and_available() {
    let deployment = |observed: i64, pods: [i32; 3]| -> Deployment {
        let [all, updated, available] = pods;
        serde_json::from_value(json!({
            "metadata": { "name": "d", "generation": 2 },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": {
                "observedGeneration": observed, "replicas": all, "updatedReplicas": updated, "availableReplicas": available,
            },
        }))
        .unwrap()
    };
    assert!(is_rolled_out(&deployment(2, [2, 2, 2])));
    for (observed, pods) in [(1, [2, 2, 2]), (2, [3, 2, 2]), (2, [2, 1, 2]), (2, [2, 2, 1])] {
        assert!(!is_rolled_out(&deployment(observed, pods)), "{observed} {pods:?}");
    }
}
