//! Reasons of conditions: a closed list, documented in `docs/operator/conditions.md`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $remedy:literal,)+) => {
        /// Reason of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, each with its meaning and what to do about it.
            pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, concat!($($doc),+), $remedy),)+];

            /// True if waiting does not help: someone has to change the spec, an object or a permission.
            #[must_use]
            pub fn needs_action(self) -> bool {
                matches!(
                    self,
                    Self::DependencyMissing
                        | Self::SecretMissing
                        | Self::SecretNotAllowed
                        | Self::ReferenceMissing
                        | Self::ReferenceNotGranted
                        | Self::ImageNotAllowed
                        | Self::IssuerUnreadable
                        | Self::NameConflict
                        | Self::Paused
                        | Self::Invalid
                        | Self::UnsafeForExact
                        | Self::Irreversible
                )
            }

            /// The reason as written in the condition.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The component is ready.
    Ready => "Nothing.",
    /// The component is not managed by the operator; its Secret or address is known.
    External => "Nothing. The owner of the component maintains it.",
    /// The component is being created.
    Provisioning => "Wait. If it takes too long, run `kubectl describe` on the object named in the message and on its pods.",
    /// Some pods are not ready.
    Degraded => "Run `kubectl describe` on the pods that are not ready. A node may be down, a volume or the cache full, or memory short.",
    /// A new version is replacing the old one.
    RollingOut => "Wait. If it takes too long, run `kubectl describe` on the new pods. The image or a setting may be wrong.",
    /// A CRD is not installed.
    DependencyMissing => "Install the operator named in the message. It is detected within seconds.",
    /// The operator of the object has not reported a status. It may not be running, or may not watch this namespace.
    OperatorSilent => "Check the pods and logs of that operator, and which namespaces it watches.",
    /// A Secret or ConfigMap that the spec refers to, or a key in it, does not exist.
    SecretMissing => "Create the Secret with the label `pingpipeline.io/allow-reference=true`, or correct its name or key in the spec.",
    /// The Kafka cluster in `clusterRef`, its listener, or a topic that the pipeline may use but not create, does not exist.
    ReferenceMissing => "Correct `spec.kafka`, or create the Kafka cluster, listener or topic.",
    /// The spec refers to an object in another namespace, and no PingReferenceGrant there allows it.
    ReferenceNotGranted => "Ask the owner of that namespace to apply the PingReferenceGrant in the message, or correct the reference.",
    /// The spec refers to a Secret or ConfigMap that does not have the label `pingpipeline.io/allow-reference=true`.
    SecretNotAllowed => "Run the `kubectl label` command in the message, or refer to another Secret.",
    /// The operator may not read the keys of the cluster's ServiceAccounts.
    IssuerUnreadable => "Run the command in the message, or remove `spec.server.authentication.serviceAccounts`.",
    /// The spec names an image that the operator does not allow.
    ImageNotAllowed => "Remove the image from the spec, or add it to the chart's value `allowedImages`.",
    /// The operator of the object reports a failure; the message quotes it.
    Failed => "Fix the cause given in the message. The log of that operator has the details.",
    /// The object is excluded from reconciliation by its operator.
    Paused => "Remove the annotation that pauses the object named in the message.",
    /// The API server rejected a write; the message says why.
    ApplyFailed => "Fix the cause given in the message: a missing permission, an exhausted quota or an unavailable webhook. The operator retries.",
    /// An object with that name exists and does not belong to this pipeline. It was not changed.
    NameConflict => "Delete or rename that object, or rename the pipeline.",
    /// `spec.hibernate` is true.
    Hibernating => "Set `spec.hibernate` to false to start the pipeline.",
    /// `spec.suspend` is true.
    Suspended => "Set `spec.suspend` to false to resume reconciliation.",
    /// The spec contradicts itself.
    Invalid => "Correct the spec as the message says. Running pods keep running.",
    /// `durability: Exact` is combined with settings that can lose acknowledged events.
    UnsafeForExact => "Change the settings named in the message, or set `durability: BestEffort`.",
    /// The change would lose data, or is not possible.
    Irreversible => "Revert the change, or use the alternative given in the message.",
    /// The spec was rejected. Until it is accepted, only certificates and keys are renewed, and components are not checked.
    Refused => "See `Stalled` for what to correct.",
    /// The pipeline is being deleted.
    Deleting => "Wait. Deletion takes at most a minute.",
    /// The deletion waits for an object that its operator does not remove.
    DeletionBlocked => "Start the operator of the object named in the message, or set the annotation `pingpipeline.io/force-delete=true`.",
    /// Every acknowledged event is stored on at least two Postgres instances.
    Synchronous => "Nothing.",
    /// The settings allow acknowledged events to be lost.
    Unsafe => "Nothing in development. In production, change the settings named in the message and set `durability: Exact`.",
    /// The operator cannot check how the external Postgres replicates.
    Unverified => "Make sure that the external Postgres replicates synchronously.",
    /// The write-ahead log is archived, and the last base backup has ended.
    Restorable => "Nothing.",
    /// The spec has no backups.
    NoBackup => "Set `spec.postgres.cluster.backup`, unless the events may be lost together with the volumes.",
    /// No base backup has ended yet.
    BackupPending => "Wait for the schedule, or run `kubectl pingpipeline backup NAME`.",
    /// A base backup that was due has not ended within six hours.
    BackupOverdue => "Run `kubectl describe scheduledbackups,backups`. CloudNativePG or its Barman Cloud plugin may not be running.",
    /// The last base backup failed.
    BackupFailed => "Run `kubectl describe backups`. Credentials, the bucket or the network may be the cause.",
    /// The write-ahead log is not archived.
    ArchivingFailed => "Fix the cause in the message soon: until then, the log fills the volume, and later events cannot be restored.",
    /// All connections between components, and from callers to servers, are encrypted.
    VerifiedTls => "Nothing.",
    /// Callers need credentials.
    CredentialsRequired => "Nothing.",
    /// The spec lets callers without credentials do what the message says.
    Anonymous => "Nothing, if everyone who reaches the servers may do that. Otherwise change `spec.server.authentication.mode` or `spec.server.authorization.anonymous`.",
    /// The spec asks for a connection in plaintext; the message names it.
    Plaintext => "Turn on TLS for the connection named in the message, then change the spec.",
    /// Every acknowledged event is counted exactly once.
    CountedOnce => "Nothing.",
    /// Every acknowledged event is counted exactly once. In the last seven days, the pipeline was created from a backup.
    Restored => "Nothing. Events that were acknowledged after the restored time can be sent again, with the same ids.",
    /// The count is exact for what Postgres has. In the last seven days, Postgres lacked acknowledged events: it was restored, or a failover lost commits.
    StoreWentBack => "List the missing events with `kubectl pingpipeline dead-letters NAME`, and decide whether to resend them: see the runbook of `PingPipelineDatabaseRestored`.",
    /// Every acknowledged event is counted exactly once. In the last seven days, the topic was created again.
    LogRecreated => "Find out who deleted the topic. Counts need no repair; other consumers of the topic do.",
    /// The cache is being rebuilt or checked.
    Recounting => "Wait. Postgres answers in the meantime. If it takes too long, see `ProcessorReady`, `CacheReady` and `KafkaReady`.",
    /// The counts per source differ from the stored events, and are being rebuilt from them.
    ViewsDiffer => "Wait for the rebuild. Then find out what changed them: see the runbook of `PingPipelineViewsDrifted`.",
    /// No server responded.
    NoAnswer => "Check the logs of the servers, and whether NetworkPolicies allow the operator to reach them.",
    /// No server is ready.
    NotServing => "See `ServerReady`.",
    /// The count is within the configured age.
    WithinBound => "Nothing.",
    /// The count is older than configured.
    Lagging => "See `ProcessorReady` and `KafkaReady`. If both are true, add processors or partitions.",
    /// The volume of Postgres has space for at least seven days.
    Sufficient => "Nothing.",
    /// The volume of Postgres has less than 10 % left, after what the write-ahead log may need and a margin.
    AlmostFull => "Raise `spec.postgres.cluster.storage.size`, or set `spec.events.retentionDays`.",
    /// At its present growth, the volume of Postgres is full within seven days.
    FillsUp => "Raise `spec.postgres.cluster.storage.size`, or set `spec.events.retentionDays`.",
    /// No server has measured yet how much Postgres stores.
    NotMeasured => "Wait for a minute. Servers of an earlier version do not measure it.",
    /// The operator does not know how large the volume of the external Postgres is.
    VolumeUnknown => "Watch the volume of the external Postgres.",
    /// No change is in progress.
    Settled => "Nothing.",
    /// A change is in progress.
    Progressing => "Wait. The message says for what.",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
