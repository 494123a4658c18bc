//! Why a condition is what it is: a closed list, documented in `docs/operator/conditions.md`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $remedy:literal,)+) => {
        /// Reason of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them, with what they mean and what there is to do about them.
            pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, concat!($($doc),+), $remedy),)+];

            /// As it stands in the condition.
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
    /// It is there, and all of it works.
    Ready => "Nothing.",
    /// It is not run by the operator; its secret or address is known.
    External => "Nothing; whoever runs it looks after it.",
    /// It is being set up.
    Provisioning => "Wait. If it takes long, `kubectl describe` the object that the message names, and its pods.",
    /// Some of it works, not all.
    Degraded => "`kubectl describe` the pods that are not ready: a node may be gone, a volume full, memory short.",
    /// A new version is replacing the old one.
    RollingOut => "Wait. If it takes long, `kubectl describe` the new pods: the image or a setting may be wrong.",
    /// A CRD is not installed. It is picked up within seconds of being installed.
    DependencyMissing => "Install the operator that the message names; nothing else has to be done.",
    /// The other operator has said nothing about the object: it is not running, or does not watch this namespace.
    OperatorSilent => "Look at that operator's pods and log, and at the namespaces it watches.",
    /// A Secret, or a key of it, does not exist.
    SecretMissing => "Create the Secret, or correct its name or key in the spec.",
    /// The Kafka of `clusterRef`, or its listener, does not exist.
    ReferenceMissing => "Correct `spec.kafka.clusterRef`, or create that Kafka or listener.",
    /// The other operator reports a failure; the message repeats it.
    Failed => "Do what the message says; its words are those of the other operator, whose log has more.",
    /// The other operator was told to leave the object alone.
    Paused => "Take the annotation that pauses it off the object that the message names.",
    /// The API server refused a write; the message repeats why.
    ApplyFailed => "Do what the message says: a right may be missing, a quota used up, a webhook away. It is tried again.",
    /// An object of that name exists and belongs to somebody else.
    NameTaken => "Delete or rename that object, or give the pipeline another name.",
    /// `spec.hibernate` is true.
    Hibernating => "Set `spec.hibernate` to false to wake it up.",
    /// `spec.suspend` is true.
    Suspended => "Set `spec.suspend` to false to have the operator go on.",
    /// The spec contradicts itself.
    Invalid => "Correct the spec as the message says. What runs keeps running.",
    /// `durability: Exact` together with settings that can lose acknowledged pings.
    UnsafeForExact => "Change the settings that the message names, or set `durability: BestEffort`.",
    /// The change would lose data or cannot be made.
    Irreversible => "Take the change back, or go the way that the message names.",
    /// Nothing is changed, because the spec is refused.
    Refused => "See `Stalled` for what has to be corrected.",
    /// The pipeline is being deleted.
    Deleting => "Wait; it ends within a minute.",
    /// The deletion waits for an object that nobody removes.
    DeletionBlocked => "Start the operator of the object that the message names, or set the annotation `pingpipeline.io/force-delete=true`.",
    /// Every acknowledged ping is on at least two Postgres instances.
    Synchronous => "Nothing.",
    /// Settings allow acknowledged pings to be lost.
    Unsafe => "Nothing in development. Else change the settings that the message names, and set `durability: Exact`.",
    /// The operator cannot see it.
    Unverified => "Make sure that the external Postgres replicates synchronously.",
    /// Every acknowledged ping is in the number once.
    CountedOnce => "Nothing.",
    /// The cache is being rebuilt or is in doubt.
    Recounting => "Wait: Postgres answers meanwhile. If it takes long, see `ProcessorReady`, `CacheReady` and `KafkaReady`.",
    /// No server answered.
    NoAnswer => "Look at the servers' log, and whether NetworkPolicies let the operator reach them.",
    /// There is no ready server to ask.
    NotServing => "See `ServerReady`.",
    /// The number is as fresh as asked.
    WithinBound => "Nothing.",
    /// The number is older than asked.
    Lagging => "See `ProcessorReady` and `KafkaReady`. If they are well, more processors or partitions help.",
    /// There is nothing to do.
    Settled => "Nothing.",
    /// Things are on their way.
    Progressing => "Wait; the message says for what.",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
