//! Condition types of a PingPipeline, documented in `docs/operator/conditions.md`.

macro_rules! condition_types {
    ($(#[doc = $doc:literal] $name:ident,)+) => {
        /// What a condition is about, and what it means that it is True.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ConditionType {
            $(#[doc = $doc] $name,)+
        }

        impl ConditionType {
            /// All of them, with what it means that they are True.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $doc),)+];
        }
    };
}

condition_types! {
    /// all Postgres instances work, and the primary is settled
    PostgresReady,
    /// Kafka, its topics and both users are ready
    KafkaReady,
    /// all pods of the cache are ready
    CacheReady,
    /// all servers are available, at the current version
    ServerReady,
    /// all processors are available, at the current version
    ProcessorReady,
    /// no acknowledged ping can be lost together with one machine
    Durable,
    /// the number counts every acknowledged ping once
    Exact,
    /// the number is at most `spec.monitoring.freshWithinMs` old
    Fresh,
    /// all components are ready; this is what `kubectl wait --for=condition=Ready pp/<name>` waits for
    Ready,
    /// something is on its way (as kstatus reads it)
    Reconciling,
    /// it will not get better by itself: the spec has to be changed (as kstatus reads it)
    Stalled,
}

impl ConditionType {
    /// True for the two that are written together with the figures, by their own field manager.
    #[must_use]
    pub fn is_figure(self) -> bool {
        matches!(self, Self::Exact | Self::Fresh)
    }
}

impl std::fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, formatter)
    }
}
