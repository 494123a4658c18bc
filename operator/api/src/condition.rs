//! Condition types of a PingPipeline, documented in `docs/operator/conditions.md`.

macro_rules! condition_types {
    ($(#[doc = $doc:literal] $name:ident,)+) => {
        /// Type of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ConditionType {
            $(#[doc = $doc] $name,)+
        }

        impl ConditionType {
            /// All condition types, each with the meaning of `True`.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $doc),)+];
        }
    };
}

condition_types! {
    /// all Postgres instances are ready, and no failover is in progress
    PostgresReady,
    /// Kafka, its topics and both users are ready
    KafkaReady,
    /// all pods of the cache are ready
    CacheReady,
    /// all servers are available and run the current version
    ServerReady,
    /// all processors are available and run the current version
    ProcessorReady,
    /// every acknowledged event is on disk in `synchronous.number` + 1 Postgres instances (at least two), which the scheduler prefers to place on different nodes; `kubectl get pods -o wide` shows where they are
    Durable,
    /// the write-ahead log is archived, and the last base backup that was due has been made
    BackedUp,
    /// connections to Postgres, Kafka and the cache are encrypted, the servers of all three are verified, and callers reach the servers by TLS
    Encrypted,
    /// callers need credentials, and a rule that allows what they do
    Authenticated,
    /// the count includes every acknowledged event exactly once
    Exact,
    /// the count is at most `spec.monitoring.freshWithinMs` old
    Fresh,
    /// the volume of Postgres has less than 10 % or seven days left
    StorageLow,
    /// all components are ready; `kubectl wait --for=condition=Ready pp/<name>` waits for this condition
    Ready,
    /// a change is in progress (kstatus convention)
    Reconciling,
    /// waiting does not help: someone has to change the spec, an object or a permission, as the message says (kstatus convention)
    Stalled,
}

impl ConditionType {
    /// The condition types of the components.
    pub const COMPONENTS: [Self; 5] =
        [Self::PostgresReady, Self::KafkaReady, Self::CacheReady, Self::ServerReady, Self::ProcessorReady];

    /// True for the condition types that are written with the stats, by a separate field manager.
    #[must_use]
    pub fn is_from_stats(self) -> bool {
        matches!(self, Self::Exact | Self::Fresh | Self::StorageLow)
    }
}

impl std::fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, formatter)
    }
}
