//! `spec.postgres.cluster.backup` and `spec.postgres.cluster.recovery`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{SecretKey, rule};

/// An object store and its credentials. Without credentials, the pods use the identity that the cloud gives to their ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStore {
    /// Bucket and folder: `s3://pings-backup/`, `gs://pings-backup/`, or `https://<account>.blob.core.windows.net/<container>/`.
    #[schemars(length(max = 1024), regex(pattern = r"^(s3|gs|https?)://[^\s]+$"))]
    pub destination_path: String,
    /// URL of the object store. Absent: that of the cloud provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub endpoint_url: Option<String>,
    /// Secret key that holds the CA certificates of `endpointUrl`. Absent: public CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKey>,
    /// S3: Secret key that holds the access key id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKey>,
    /// S3: Secret key that holds the secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKey>,
    /// Google Cloud Storage: Secret key that holds the JSON key of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google_credentials: Option<SecretKey>,
    /// Azure: Secret key that holds the connection string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_connection_string: Option<SecretKey>,
}

impl ObjectStore {
    /// The Secret keys that it names, each with its field.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretKey)> {
        [
            ("endpointCa", &self.endpoint_ca),
            ("accessKeyId", &self.access_key_id),
            ("secretAccessKey", &self.secret_access_key),
            ("googleCredentials", &self.google_credentials),
            ("azureConnectionString", &self.azure_connection_string),
        ]
        .into_iter()
        .filter_map(|(field, key)| Some((field, key.as_ref()?)))
    }
}

/// The rules of an [`ObjectStore`], for the types that it is part of, and rules of their own.
fn store_rules<const N: usize>(own: [Value; N]) -> Vec<Value> {
    let mut rules = vec![
        rule(
            "has(self.accessKeyId) == has(self.secretAccessKey)",
            "set both accessKeyId and secretAccessKey, or neither to use the identity of the pods",
        ),
        rule(
            "!has(self.accessKeyId) || self.destinationPath.startsWith('s3://')",
            "accessKeyId is for destinations that start with s3://",
        ),
        rule(
            "!has(self.googleCredentials) || self.destinationPath.startsWith('gs://')",
            "googleCredentials is for destinations that start with gs://",
        ),
        rule(
            "!has(self.azureConnectionString) || self.destinationPath.startsWith('http')",
            "azureConnectionString is for destinations that start with https://",
        ),
    ];
    rules.extend(own);
    rules
}

/// Backups to an object store, through CloudNativePG's Barman Cloud plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = store_rules([])))]
pub struct Backup {
    /// Schedule as five cron fields: minute, hour, day, month, weekday. Default `0 2 * * *` (02:00 UTC every day).
    #[serde(default = "Backup::default_schedule")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = [
        rule("self.trim().split(' ').filter(f, f != '').size() == 5", "the schedule needs five cron fields, without seconds, for example '0 2 * * *'"),
    ]))]
    pub schedule: String,
    /// How long backups are kept: a number followed by `d`, `w` or `m`. Default `30d`.
    #[serde(default = "Backup::default_retention")]
    #[schemars(regex(pattern = r"^[1-9][0-9]*[dwm]$"))]
    pub retention: String,
    /// Where they are stored.
    #[serde(flatten)]
    pub store: ObjectStore,
}

impl Backup {
    fn default_schedule() -> String {
        "0 2 * * *".into()
    }

    fn default_retention() -> String {
        "30d".into()
    }
}

/// The backup that a new cluster starts from, instead of an empty database. Set `objectStore`, `pipeline` or `volumeSnapshots`; only the last
/// can be combined with one of the others, which then provides the write-ahead log since the snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "has(self.objectStore) || has(self.pipeline) || has(self.volumeSnapshots)",
        "set objectStore, pipeline or volumeSnapshots",
    ),
    rule("!(has(self.objectStore) && has(self.pipeline))", "set either objectStore or pipeline, not both"),
    rule(
        "!has(self.targetTime) || has(self.objectStore) || has(self.pipeline)",
        "targetTime needs the write-ahead log: set objectStore or pipeline, too",
    ),
    rule("self == oldSelf", "a backup is restored when a pipeline is created. To restore another one, create a second PingPipeline"),
]))]
pub struct Recovery {
    /// Backups in an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<RecoveryStore>,
    /// Name of another PingPipeline in this namespace, whose backups are restored. It may have been deleted with `Retain`. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub pipeline: Option<String>,
    /// Snapshots of the volumes of an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshots: Option<VolumeSnapshots>,
    /// Restore the state at this time, for example `2026-11-28T09:30:00Z`. Absent: the latest state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub target_time: Option<String>,
}

/// Backups in an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = store_rules([])))]
pub struct RecoveryStore {
    /// Name under which the backups were made: the folder below `destinationPath`. A pipeline `demo` uses `demo-postgres`.
    #[schemars(length(min = 1, max = 253))]
    pub server_name: String,
    /// Where they are stored.
    #[serde(flatten)]
    pub store: ObjectStore,
}

/// VolumeSnapshots of one instance, all of the same backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshots {
    /// Name of the VolumeSnapshot of the data volume.
    #[schemars(length(min = 1, max = 253))]
    pub storage: String,
    /// Name of the VolumeSnapshot of the write-ahead log's volume. Absent: the log was on the data volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub wal_storage: Option<String>,
}
