//! What the rule wants to know of many sources, close at hand.

use async_trait::async_trait;

use super::CacheError;
use crate::domain::{Evidence, Millis, Minute, Partition};

/// Answers given before an epoch began may have missed something.
pub type Epoch = i64;

/// What is held of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The epoch it is: to be passed back with what the store says instead.
    pub epoch: Epoch,
    /// What is known, and may be believed.
    pub evidence: Option<Evidence>,
    /// Every event acknowledged before this time is in it. 0 when nothing is promised.
    pub as_of: Millis,
}

/// What whoever raises has raised so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Every event acknowledged before this time …
    pub as_of: Millis,
    /// … and published to one of these partitions of the log is in what is held.
    pub on: Vec<Partition>,
    /// How many partitions the log has.
    pub partitions: u32,
}

/// What is known of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// Who.
    pub source: Box<str>,
    /// What it did.
    pub evidence: Evidence,
    /// Nothing can change what it is.
    pub last: bool,
}

/// A bounded cache of evidence. It may forget anything at any time; what it holds only grows.
#[async_trait]
pub trait StatusCache: Send + Sync {
    /// What is held of `source`. What may still change is believed for a few minutes and within its epoch only; an epoch that
    /// somebody else begins may be seen some milliseconds later.
    async fn get(&self, source: &str, now: Minute) -> Result<Held, CacheError>;

    /// Raises what is held to this. `epoch`: the one in which the store was asked; none: this one.
    async fn raise(&self, epoch: Option<Epoch>, now: Minute, all: &[Testimony]) -> Result<(), CacheError>;

    /// Makes a promise about what is held and believed.
    async fn promise(&self, promise: &Promise) -> Result<(), CacheError>;

    /// Begins an epoch: what may still change is not believed any more.
    async fn begin(&self) -> Result<(), CacheError>;
}

/// Minutes for which something that may still change is believed. What the processors count they raise at once, so this bounds
/// only the harm of what nobody thought of.
pub const BELIEVED: i64 = 10;
