//! Why a condition is what it is: a closed list, documented in `docs/operator/conditions.md`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Reason of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them, with what they mean.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, concat!($($doc),+)),)+];

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
    Ready,
    /// It is not run by the operator; its secret or address is known.
    External,
    /// It is being set up.
    Provisioning,
    /// Some of it works, not all.
    Degraded,
    /// A new version is replacing the old one.
    RollingOut,
    /// A CRD is not installed. It is picked up within seconds of being installed.
    DependencyMissing,
    /// The other operator has said nothing about the object: it is not running, or does not watch this namespace.
    OperatorSilent,
    /// A Secret, or a key of it, does not exist.
    SecretMissing,
    /// The Kafka of `clusterRef`, or its listener, does not exist.
    ReferenceMissing,
    /// The other operator reports a failure; the message repeats it.
    Failed,
    /// The other operator was told to leave the object alone.
    Paused,
    /// The API server refused a write; the message repeats why.
    ApplyFailed,
    /// An object of that name exists and belongs to somebody else.
    NameTaken,
    /// `spec.hibernate` is true.
    Hibernating,
    /// `spec.suspend` is true.
    Suspended,
    /// The spec contradicts itself.
    Invalid,
    /// `durability: Exact` together with settings that can lose acknowledged pings.
    UnsafeForExact,
    /// The change would lose data or cannot be made.
    Irreversible,
    /// Nothing is changed, because the spec is refused.
    Refused,
    /// The pipeline is being deleted.
    Deleting,
    /// The deletion waits for an object that nobody removes.
    DeletionBlocked,
    /// Every acknowledged ping is on at least two Postgres instances.
    Synchronous,
    /// Settings allow acknowledged pings to be lost.
    Unsafe,
    /// The operator cannot see it.
    Unverified,
    /// Every acknowledged ping is in the number once.
    CountedOnce,
    /// The cache is being rebuilt or is in doubt.
    Recounting,
    /// No server answered.
    NoAnswer,
    /// There is no ready server to ask.
    NotServing,
    /// The number is as fresh as asked.
    WithinBound,
    /// The number is older than asked.
    Lagging,
    /// There is nothing to do.
    Settled,
    /// Things are on their way.
    Progressing,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
