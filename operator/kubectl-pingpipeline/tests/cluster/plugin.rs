//! `kubectl pingpipeline`, run by the real kubectl, which finds it on the PATH.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    harness::{
        TestNamespace,
        fake_operators::{make_all_ready, set_secret},
        operator::{Operator, settings},
        server::server,
    },
    kubelet, tls,
};

/// Exit code, standard output, standard error.
async fn plugin(test: &TestNamespace, arguments: &[&str]) -> (i32, String, String) {
    let own = Path::new(env!("CARGO_BIN_EXE_kubectl-pingpipeline")).parent().unwrap();
    let kubectl = ping_testbed::control_plane::kubectl().unwrap();
    let mut command = Command::new(kubectl);
    command.args(["pingpipeline", "--namespace", &test.namespace]).args(arguments).stdin(Stdio::null());
    command.env("PATH", own).env("KUBECONFIG", test.control_plane.kubeconfig_path());
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_one_screen_and_its_exit_code_tells_readiness() {
    let test = TestNamespace::new("plugin-status").await;
    let (code, _, stderr) = plugin(&test, &["status"]).await;
    assert!(code == 2 && stderr.contains("no PingPipeline in namespace plugin-status"), "{code} {stderr}");
    let address = server(Ipv4Addr::LOCALHOST.into()).await;
    let _operator = Operator::start(test.client.clone(), settings(&test, &format!("http://{address}")));
    test.create("demo", json!({})).await;
    test.wait_for("demo", "Ready", "False").await;
    assert_eq!(plugin(&test, &["status", "demo"]).await.0, 1);
    make_all_ready(&test, "demo", 3, 2).await;
    test.wait_for("demo", "Exact", "True").await;
    let (code, screen, stderr) = plugin(&test, &["status", "demo"]).await;
    assert_eq!(code, 0, "{screen}{stderr}");
    eprintln!("{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 100) && screen.lines().count() <= 50, "{screen}");
    for part in ["plugin-status/demo: ready", "42 events, <1s old", "last audit <1m", "ProcessorReady", "3/3"] {
        assert!(screen.contains(part), "{part} is not in\n{screen}");
    }
    let (_, text, _) = plugin(&test, &["status", "-o", "json"]).await;
    let pipeline = &json_of(&text)["pipelines"][0];
    assert_eq!((&pipeline["ready"], &pipeline["status"]["stats"]["total"]), (&json!(true), &json!(42)));
    let (_, text, _) = plugin(&test, &["explain", "kafkaready", "demo"]).await;
    assert!(text.contains("its topics and both users are ready") && text.contains("now: True (Ready)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_status_tells_each_change() {
    let test = TestNamespace::new("plugin-watch").await;
    test.create("demo", json!({})).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pingpipeline"));
    command.args(["--namespace", "plugin-watch", "status", "demo", "--watch", "-o", "json"]).kill_on_drop(true);
    command.env("KUBECONFIG", test.control_plane.kubeconfig_path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = async || json_of(&lines.next_line().await.unwrap().unwrap())["pipelines"][0].clone();
    assert_eq!(next().await["status"], Value::Null);
    let _operator = Operator::plain(&test);
    while next().await["status"]["conditions"].is_null() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_word_means_is_told_without_a_cluster() {
    let test = TestNamespace::new("plugin-explain").await;
    let (code, text, _) = plugin(&test, &["explain", "OperatorSilent"]).await;
    assert!(code == 0 && text.contains("What to do: Check the pods and logs of that operator"), "{text}");
    let (code, _, stderr) = plugin(&test, &["explain", "Happy"]).await;
    assert!(code == 2 && stderr.contains("KafkaReady") && stderr.contains("DeletionBlocked"), "{code} {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_each_change_and_its_risk_and_changes_nothing() {
    let test = TestNamespace::new("plugin-plan").await;
    let folder = tempfile::tempdir().unwrap();
    let plan = async |spec: Value| {
        let file = folder.path().join("pipeline.yaml");
        let metadata = json!({ "name": "demo", "namespace": "plugin-plan" });
        let manifest = json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": metadata, "spec": spec,
        });
        std::fs::write(&file, yaml_serde::to_string(&manifest).unwrap()).unwrap();
        plugin(&test, &["plan", "-f", file.to_str().unwrap()]).await
    };
    let (code, text, stderr) = plan(json!({})).await;
    assert!(code == 0 && text.contains("would be created"), "{text}{stderr}");
    let before = test.create("demo", json!({})).await;
    assert!(plan(json!({})).await.1.contains("nothing would change"));
    let change =
        json!({ "server": { "replicas": 5 }, "deletionPolicy": "Delete", "kafka": { "topic": { "partitions": 9 } } });
    let (code, text, stderr) = plan(change).await;
    assert_eq!(code, 0, "{text}{stderr}");
    let risks: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(text.contains("3 fields would change"), "{text}");
    let first =
        |risk: &str| risks.iter().position(|word| *word == risk).unwrap_or_else(|| panic!("no {risk} in {text}"));
    assert!(first("Danger") < first("Moderate") && first("Moderate") < first("None"), "{text}");
    let (code, text, _) = plan(json!({ "postgres": { "cluster": { "instances": 1 } } })).await;
    assert!(code == 1 && text.contains("a single disk holds the only copy"), "{text}");
    let (code, text, _) = plan(json!({ "sever": {} })).await;
    assert!(code == 1 && text.contains("sever"), "{text}");
    let after = test.pipelines().get("demo").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);

    // What `kubectl apply` wrote, and the file does not have any more, falls back to its default.
    plan(json!({ "server": { "replicas": 5 } })).await;
    let file = folder.path().join("pipeline.yaml");
    test.kubectl(&["apply", "-f", file.to_str().unwrap()]).await;
    let (code, text, stderr) = plan(json!({})).await;
    assert!(code == 0 && text.contains("5 -> 3"), "{text}{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_everything_but_secrets() {
    let test = TestNamespace::new("plugin-report").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({ "server": { "env": [{ "name": "API_KEY", "value": "hunter2" }] } })).await;
    make_all_ready(&test, "demo", 3, 2).await;
    let (code, report, stderr) = plugin(&test, &["report", "demo"]).await;
    assert_eq!(code, 0, "{stderr}");
    for part in ["demo-processor", "KafkaTopic", "CloudNativePG: true", "kubernetes: v1", "API_KEY"] {
        assert!(report.contains(part), "{part} is not in the report");
    }
    assert!(!report.contains("hunter2"), "a secret is in the report");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_to_verify_over_a_forwarded_port_with_its_ca_and_the_first_token() {
    let test = TestNamespace::new("plugin-verify").await;
    test.create("demo", json!({})).await;
    let (code, _, stderr) = plugin(&test, &["verify", "demo"]).await;
    assert!(code == 2 && stderr.contains("the operator has not reported how to connect to demo"), "{code} {stderr}");

    let host = "demo-server.plugin-verify.svc";
    let (ca, certificate) = tls::issue(host);
    let (stranger, _) = tls::issue(host);
    let access = json!({
        "url": format!("https://{host}:8080"), "serverName": host, "caSecret": "demo-ca", "tokenSecret": "demo-token", "hint": "",
    });
    let status = json!({ "status": { "access": access } }).to_string();
    test.kubectl(&["patch", "pp", "demo", "--subresource=status", "--type=merge", "-p", &status]).await;
    let (code, text, stderr) = plugin(&test, &["connect", "demo"]).await;
    assert!(
        code == 0 && text.contains("get secret demo-token") && text.contains("curl --cacert ca.crt"),
        "{text}{stderr}"
    );
    let verify = async || plugin(&test, &["verify", "demo"]).await;
    assert!(verify().await.2.contains("Secret demo-ca does not exist yet"));
    set_secret(&test, &test.namespace, "demo-ca", json!({ "ca.crt": ca })).await;
    set_secret(&test, &test.namespace, "demo-token", json!({ "token": "the first token" })).await;
    assert!(verify().await.2.contains("no pod of demo-server is ready"));

    let (address, connections) = tls::in_front_of(server(Ipv4Addr::LOCALHOST.into()).await, &certificate).await;
    // The API server does not connect to loopback.
    kubelet::start(&test, "plugin-verify", own_address(), address).await;
    make_ready_server(&test).await;
    let text = crate::harness::until("an answer", async || {
        let (code, text, stderr) = verify().await;
        if code == 0 { Ok(text) } else { Err(stderr) }
    })
    .await;
    assert!(text.contains("ROWS") && text.trim_end().ends_with("exact"), "{text}");

    // The same call with another CA: everything works but the certificate, which the client refuses before it sends the token.
    let (opened, trusted) = (connections.opened(), connections.trusted());
    set_secret(&test, &test.namespace, "demo-ca", json!({ "ca.crt": stranger })).await;
    let (code, text, stderr) = verify().await;
    assert!(code == 2 && stderr.contains("invalid peer certificate"), "a stranger's CA is trusted: {text}{stderr}");
    assert!(connections.opened() > opened && connections.trusted() == trusted, "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_an_event_is_recorded_again_once() {
    let test = TestNamespace::new("plugin-letters").await;
    test.create("demo", json!({})).await;
    make_reachable(&test).await;
    let list = crate::harness::until("a list", async || {
        let (code, text, stderr) = plugin(&test, &["dead-letters", "demo", "-o", "json"]).await;
        if code == 0 { Ok(json_of(&text)) } else { Err(stderr) }
    })
    .await;
    let places: Vec<_> = list["letters"].as_array().unwrap().iter().map(|letter| letter["place"].clone()).collect();
    assert_eq!(places, ["pings/0/42", "pings/1/7"], "both pages: {list}");
    let (code, text, stderr) = plugin(&test, &["dead-letters", "demo"]).await;
    assert!(code == 0 && text.contains("018f4e3c") && text.contains("none: 2 bytes"), "{text}{stderr}");

    let (code, _, stderr) = plugin(&test, &["dead-letters", "resend", "demo"]).await;
    assert!(code == 2 && stderr.contains("add --place or --reason"), "{stderr}");
    let resend = ["dead-letters", "resend", "demo", "--place", "pings/0/42"];
    let (code, _, stderr) = plugin(&test, &resend).await;
    assert!(code == 2 && stderr.contains("add --yes"), "{stderr}");
    let resend = [&resend[..], &["--yes", "-o", "json"]].concat();
    for expected in [(1, 0), (0, 1)] {
        let (code, text, stderr) = plugin(&test, &resend).await;
        assert_eq!(code, 0, "{text}{stderr}");
        let outcome = json_of(&text);
        assert_eq!((&outcome["recorded"], &outcome["alreadyRecorded"]), (&json!(expected.0), &json!(expected.1)));
    }
    let all = ["dead-letters", "resend", "demo", "--place", "pings/0/42", "--place", "pings/1/7", "--yes"];
    let (code, text, _) = plugin(&test, &all).await;
    assert!(code == 1 && text.contains("refused: pings/1/7 (no event): it is not an event of a server"), "{text}");
    let (code, _, stderr) = plugin(&test, &["dead-letters", "resend", "demo", "--place", "pings/9/9", "--yes"]).await;
    assert!(code == 2 && stderr.contains("no dead letter has the place pings/9/9"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_a_killed_drill_left_is_ignored_by_the_operator_and_removed_without_other_fields() {
    let test = TestNamespace::new("plugin-undo").await;
    let address = server(Ipv4Addr::LOCALHOST.into()).await;
    let _operator = Operator::start(test.client.clone(), settings(&test, &format!("http://{address}")));
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    test.wait_for("demo", "Exact", "True").await;
    let hop = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "demo-server" },
        "spec": { "template": { "spec": {
            "hostAliases": [{ "ip": "127.0.53.1", "hostnames": ["demo-cache"] }],
            "initContainers": [{ "name": "drill-delay", "image": "pingd", "restartPolicy": "Always" }],
        } } },
    });
    let apply =
        ["apply", "--server-side", "--field-manager=pingpipeline-drill", "--namespace", &test.namespace, "-f", "-"];
    test.control_plane.kubectl_with_input(apply, &hop.to_string()).await.unwrap();
    test.kubectl(&["patch", "pp", "demo", "--type=merge", "-p", r#"{"spec": {"server": {"replicas": 4}}}"#]).await;
    let template = async || {
        let deployment = json_of(&test.kubectl(&["get", "deployment", "demo-server", "-o", "json"]).await);
        let spec = &deployment["spec"]["template"]["spec"];
        let added = [&spec["initContainers"], &spec["hostAliases"]].map(|list| list.as_array().map_or(0, Vec::len));
        (deployment["spec"]["replicas"].as_i64(), added, spec["containers"].clone())
    };
    let before = crate::harness::until("the change of the spec", async || {
        let now = template().await;
        if now.0 == Some(4) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(before.1, [1, 1], "the operator removed the hop");
    for removed in [json!(["demo-server"]), json!([])] {
        let (code, text, stderr) = plugin(&test, &["drill", "undo", "demo", "-o", "json"]).await;
        assert_eq!((code, &json_of(&text)["removedFrom"]), (0, &removed), "{stderr}");
        assert_eq!(template().await, (Some(4), [0, 0], before.2.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_a_killed_drill_left_suspended_is_resumed_unless_someone_else_suspended_it() {
    let test = TestNamespace::new("plugin-killed").await;
    test.create("demo", json!({})).await;
    make_reachable(&test).await;
    let conditions = ["Ready", "Exact", "Fresh"].map(|kind| {
        let time = "2026-11-30T10:00:00Z";
        json!({ "type": kind, "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": time })
    });
    let status = json!({ "status": { "observedGeneration": 1, "conditions": conditions } }).to_string();
    test.kubectl(&["patch", "pp", "demo", "--subresource=status", "--type=merge", "-p", &status]).await;
    let found = async || {
        let pipeline = test.pipelines().get("demo").await.unwrap();
        (
            pipeline.spec.suspend,
            pipeline.metadata.annotations.is_some_and(|all| all.contains_key("pingpipeline.io/drill")),
        )
    };
    // There is no operator, so the drill waits after it has suspended the pipeline. Then it is killed.
    let mut drill = Command::new(env!("CARGO_BIN_EXE_kubectl-pingpipeline"));
    drill.args(["--namespace", &test.namespace, "drill", "partition", "demo", "--yes"]).kill_on_drop(true);
    let mut drill = drill.env("KUBECONFIG", test.control_plane.kubeconfig_path()).spawn().unwrap();
    let suspended = crate::harness::until("a suspended pipeline", async || {
        if found().await == (true, true) { Ok(()) } else { Err("it is not suspended".into()) }
    });
    tokio::select! {
        ended = drill.wait() => panic!("the drill ended: {ended:?}"),
        () = suspended => drill.kill().await.unwrap(),
    }
    let undo = async || {
        let (code, text, stderr) = plugin(&test, &["drill", "undo", "demo", "-o", "json"]).await;
        assert_eq!(code, 0, "{stderr}");
        (json_of(&text)["resumed"].as_bool().unwrap(), stderr.contains("stays suspended"), found().await)
    };
    assert_eq!(undo().await, (true, false, (false, false)));
    assert_eq!(undo().await, (false, false, (false, false)), "there is nothing left");

    let suspension = json!({
        "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo" }, "spec": { "suspend": true },
    });
    let suspend_as = async |manager: &str| {
        let manager = format!("--field-manager={manager}");
        let apply =
            ["apply", "--server-side", &manager, "--force-conflicts", "--namespace", &test.namespace, "-f", "-"];
        test.control_plane.kubectl_with_input(apply, &suspension.to_string()).await.unwrap();
    };
    suspend_as("pingpipeline-drill").await;
    suspend_as("a-user").await;
    assert_eq!(undo().await, (false, true, (true, false)), "the user's suspension stays");
    assert_eq!(undo().await, (false, true, (true, false)));
}

/// Makes the servers of `demo` reachable over a forwarded port, with a CA and a token.
async fn make_reachable(test: &TestNamespace) {
    let host = format!("demo-server.{}.svc", test.namespace);
    let (ca, certificate) = tls::issue(&host);
    let access = json!({
        "url": format!("https://{host}:8080"), "serverName": host, "caSecret": "demo-ca", "tokenSecret": "demo-token", "hint": "",
    });
    let status = json!({ "status": { "access": access } }).to_string();
    test.kubectl(&["patch", "pp", "demo", "--subresource=status", "--type=merge", "-p", &status]).await;
    set_secret(test, &test.namespace, "demo-ca", json!({ "ca.crt": ca })).await;
    set_secret(test, &test.namespace, "demo-token", json!({ "token": "the first token" })).await;
    let (address, _) = tls::in_front_of(server(Ipv4Addr::LOCALHOST.into()).await, &certificate).await;
    // The API server does not connect to loopback.
    kubelet::start(test, &test.namespace, own_address(), address).await;
    make_ready_server(test).await;
}

/// The pod of a server, on the node that has the name of the namespace.
async fn make_ready_server(test: &TestNamespace) {
    let labels = json!({
        "app.kubernetes.io/name": "ping", "app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "server",
    });
    let ports = json!([{ "name": "admin", "containerPort": 8081 }, { "name": "api", "containerPort": 8080 }]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "demo-server-0", "namespace": test.namespace, "labels": labels },
        "spec": { "nodeName": test.namespace, "containers": [{ "name": "server", "image": "server", "ports": ports }] },
    });
    test.control_plane.kubectl_with_input(["create", "-f", "-"], &pod.to_string()).await.unwrap();
    let status = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    let status = status.to_string();
    test.kubectl(&["patch", "pod", "demo-server-0", "--subresource=status", "--type=merge", "-p", &status]).await;
}

/// The address of this machine in its network. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}
