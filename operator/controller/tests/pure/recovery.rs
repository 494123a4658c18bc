//! Backups, and pipelines that start from one: what is built, what is refused, and the condition.

use ping_api::{
    crd::{
        PingPipeline,
        backup::{Backup, ObjectStore, Recovery},
        postgres::PostgresCluster,
    },
    kinds::Kind,
};
use ping_operator::validate::{Invalid, validate};
use serde_json::{Value, json};

use crate::fixture::{applied, condition, demo, empty, example, live, live_of, object, refusal, status_of};

fn cluster(pipeline: &mut PingPipeline) -> &mut PostgresCluster {
    pipeline.spec.postgres.cluster.get_or_insert_default()
}

fn recovery(value: Value) -> Recovery {
    serde_json::from_value(value).unwrap()
}

/// The CloudNativePG cluster of a pipeline with this recovery.
fn restored(value: Value) -> Value {
    let mut pipeline = demo();
    cluster(&mut pipeline).recovery = Some(recovery(value));
    object(&pipeline, &empty(), Kind::Cluster, "demo-postgres")["spec"].clone()
}

#[test]
fn a_cluster_is_restored_from_an_object_store_to_a_time() {
    let pipeline = example("restored");
    let spec = object(&pipeline, &empty(), Kind::Cluster, "restored-postgres")["spec"].clone();
    let expected = json!({"recovery": {
        "source": "origin", "database": "pings", "owner": "pings",
        "recoveryTarget": { "targetTime": "2026-11-28T09:30:00Z" },
    }});
    assert_eq!(spec["bootstrap"], expected);
    let parameters = json!({ "barmanObjectName": "restored-postgres-origin", "serverName": "pings-postgres" });
    let plugin = json!({ "name": "barman-cloud.cloudnative-pg.io", "parameters": parameters });
    assert_eq!(spec["externalClusters"], json!([{ "name": "origin", "plugin": plugin }]));
    let origin = object(&pipeline, &empty(), Kind::ObjectStore, "restored-postgres-origin")["spec"].clone();
    assert_eq!(origin["retentionPolicy"], Value::Null, "backups of the other pipeline are not deleted");
    let own = object(&pipeline, &empty(), Kind::ObjectStore, "restored-postgres")["spec"].clone();
    assert_eq!(own["retentionPolicy"], "30d");
    assert_eq!(own["configuration"], origin["configuration"]);
}

#[test]
fn a_cluster_is_restored_from_another_pipeline_or_from_snapshots() {
    let of_pipeline = restored(json!({ "pipeline": "old" }));
    assert_eq!(of_pipeline["bootstrap"]["recovery"]["recoveryTarget"], Value::Null, "the latest state");
    let parameters = &of_pipeline["externalClusters"][0]["plugin"]["parameters"];
    assert_eq!(*parameters, json!({ "barmanObjectName": "old-postgres", "serverName": "old-postgres" }));
    let snapshots = restored(json!({ "volumeSnapshots": { "storage": "data", "walStorage": "wal" } }));
    let reference =
        |name: &str| json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name });
    let expected = json!({ "database": "pings", "owner": "pings", "volumeSnapshots": {
        "storage": reference("data"), "walStorage": reference("wal"),
    }});
    assert_eq!(snapshots["bootstrap"], json!({ "recovery": expected }));
    assert_eq!(snapshots["externalClusters"], Value::Null);
    let both = restored(json!({ "pipeline": "old", "volumeSnapshots": { "storage": "data" } }));
    assert_eq!(both["bootstrap"]["recovery"]["source"], "origin");
}

#[test]
fn credentials_are_those_of_the_destination_or_the_identity_of_the_pods() {
    let configuration = |store: Value| {
        let mut pipeline = demo();
        let store: ObjectStore = serde_json::from_value(store).unwrap();
        let (schedule, retention) = ("0 2 * * *".into(), "30d".into());
        cluster(&mut pipeline).backup = Some(Backup { schedule, retention, store });
        cluster(&mut pipeline).service_account_annotations.insert("role".into(), "backup".into());
        let spec = object(&pipeline, &empty(), Kind::Cluster, "demo-postgres")["spec"].clone();
        assert_eq!(spec["serviceAccountTemplate"]["metadata"]["annotations"], json!({ "role": "backup" }));
        object(&pipeline, &empty(), Kind::ObjectStore, "demo-postgres")["spec"]["configuration"].clone()
    };
    let key = json!({ "name": "pings-backup", "key": "ACCESS_KEY_ID" });
    for (store, credentials, expected) in [
        (json!({ "destinationPath": "s3://a" }), "s3Credentials", json!({ "inheritFromIAMRole": true })),
        (
            json!({ "destinationPath": "s3://a", "accessKeyId": key, "secretAccessKey": key }),
            "s3Credentials",
            json!({ "accessKeyId": key, "secretAccessKey": key }),
        ),
        (json!({ "destinationPath": "gs://a" }), "googleCredentials", json!({ "gkeEnvironment": true })),
        (
            json!({ "destinationPath": "gs://a", "googleCredentials": key }),
            "googleCredentials",
            json!({ "applicationCredentials": key }),
        ),
        (
            json!({ "destinationPath": "https://a.blob.core.windows.net/b" }),
            "azureCredentials",
            json!({ "useDefaultAzureCredentials": true }),
        ),
        (
            json!({ "destinationPath": "https://a.blob.core.windows.net/b", "azureConnectionString": key }),
            "azureCredentials",
            json!({ "connectionString": key }),
        ),
    ] {
        let configuration = configuration(store);
        assert_eq!(configuration[credentials], expected, "{configuration}");
        let all = ["s3Credentials", "googleCredentials", "azureCredentials"];
        assert_eq!(all.iter().filter(|name| !configuration[**name].is_null()).count(), 1);
    }
}

#[test]
fn processors_and_the_status_name_the_restore_once_the_cluster_exists() {
    let after = |cluster_exists: bool, value: Option<Value>| {
        let mut pipeline = demo();
        cluster(&mut pipeline).recovery = value.map(recovery);
        let restored = json!({
            "metadata": { "uid": "c1", "creationTimestamp": "2026-11-21T03:00:00Z" },
            "spec": { "bootstrap": { "recovery": { "source": "origin" } } },
        });
        let mut state = empty();
        state.live = live_of(cluster_exists.then(|| live(Kind::Cluster, "default", "demo-postgres", restored)));
        let deployment = object(&pipeline, &state, Kind::Deployment, "demo-processor");
        let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        let id = variables.into_iter().find(|variable| variable["name"] == "PING_RESTORE_ID");
        let status = status_of(&pipeline, &state, &applied(&pipeline, &state, &[]));
        (id.map(|variable| variable["value"].clone()), status.restored_at.map(|at| at.0.to_string()))
    };
    let old = || Some(json!({ "pipeline": "old" }));
    assert_eq!(after(true, old()), (Some(json!("c1")), Some("2026-11-21T03:00:00Z".into())));
    assert_eq!(after(false, old()), (None, None));
    assert_eq!(after(true, None), (None, None));
}

#[test]
fn an_impossible_recovery_is_refused() {
    let refused = |value: Value| refusal(|pipeline| cluster(pipeline).recovery = Some(recovery(value))).to_string();
    assert!(refused(json!({})).contains("set objectStore, pipeline or volumeSnapshots"));
    let time = json!({ "volumeSnapshots": { "storage": "a" }, "targetTime": "2026-11-28T09:30:00Z" });
    assert!(refused(time).contains("needs the write-ahead log"));
    assert!(refused(json!({ "pipeline": "demo" })).contains("among those that it is restored from"));
    assert!(refused(json!({ "pipeline": "old", "targetTime": "yesterday" })).contains("like 2026-11-28T09:30:00Z"));
    let mut same = example("restored");
    let origin = cluster(&mut same).recovery.as_mut().unwrap().object_store.as_mut().unwrap();
    (origin.server_name, origin.store.destination_path) = ("restored-postgres".into(), "s3://pings-backup".into());
    assert!(validate(&same, &empty()).unwrap_err().to_string().contains("another name"));
}

#[test]
fn data_that_exists_is_not_replaced_by_a_backup() {
    let mut pipeline = demo();
    cluster(&mut pipeline).recovery = Some(recovery(json!({ "pipeline": "old" })));
    let with = |bootstrap: Value| {
        let mut state = empty();
        let spec = json!({ "spec": { "bootstrap": bootstrap } });
        state.live = live_of([live(Kind::Cluster, "default", "demo-postgres", spec)]);
        validate(&pipeline, &state).err()
    };
    assert_eq!(with(json!({ "recovery": { "source": "origin" } })), None);
    let invalid = with(json!({ "initdb": {} })).unwrap();
    assert!(matches!(&invalid, Invalid::Irreversible(message) if message.contains("has data of its own")), "{invalid}");
}

#[test]
fn the_condition_follows_the_archive_and_the_schedule() {
    let of = |pipeline: &PingPipeline, statuses: &[(Kind, &str, Value)]| {
        condition(&status_of(pipeline, &empty(), &applied(pipeline, &empty(), statuses)), "BackedUp")
    };
    let (status, reason, _) = of(&demo(), &[]);
    assert_eq!((&*status, &*reason), ("False", "NoBackup"));
    let production = example("production");
    assert_eq!(of(&production, &[]).1, "BackupPending");
    // As the Barman Cloud plugin 0.15 writes it.
    let window = json!({ "serverRecoveryWindow": { "pings-postgres": {
        "firstRecoverabilityPoint": "2026-11-01T02:00:09Z", "lastSuccessfulBackupTime": "2026-11-21T02:00:12Z",
    }}});
    let schedule = json!({ "lastScheduleTime": "2026-11-21T02:00:00Z", "nextScheduleTime": "2026-11-22T02:00:00Z" });
    let mut statuses =
        vec![(Kind::ObjectStore, "pings-postgres", window), (Kind::ScheduledBackup, "pings-postgres", schedule)];
    let (status, reason, message) = of(&production, &statuses);
    assert_eq!((&*status, &*reason), ("True", "Restorable"));
    assert!(message.contains("since 2026-11-01T02:00:09Z"), "{message}");
    let failing = json!({ "phase": "Cluster in healthy state", "conditions": [
        { "type": "ContinuousArchiving", "status": "False", "message": "exit status 4: no such bucket" },
    ]});
    statuses.push((Kind::Cluster, "pings-postgres", failing));
    let (status, reason, message) = of(&production, &statuses);
    assert_eq!((&*status, &*reason), ("False", "ArchivingFailed"));
    assert!(message.contains("no such bucket"), "{message}");
}
