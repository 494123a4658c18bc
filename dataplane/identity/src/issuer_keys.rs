//! Keeps the keys of one issuer fresh.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    fetch::{self, FetchError},
    issuer::Issuer,
    key_set::{KeySet, KeySetError},
};

/// Pause between two regular fetches.
const FETCH_INTERVAL: Duration = Duration::from_secs(300);
/// Pause between two fetches because of a token with an unknown key, and after a failure.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// How long keys are used after they were fetched, while newer ones cannot be fetched.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of one issuer.
pub(crate) struct IssuerKeys {
    pub(crate) issuer: Arc<Issuer>,
    current: RwLock<Option<Fetched>>,
    /// When the last fetch began. Held during a fetch, so that callers who need it share it.
    last_fetch: Mutex<Option<Instant>>,
}

struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the answer cannot be used: {0}")]
    Keys(#[from] KeySetError),
}

impl IssuerKeys {
    pub(crate) fn new(issuer: Arc<Issuer>) -> Self {
        Self { issuer, current: RwLock::default(), last_fetch: Mutex::default() }
    }

    /// The keys, unless they are too old.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        let current = self.current.read();
        current.as_ref().filter(|fetched| fetched.at.elapsed() < MAX_AGE).map(|fetched| Arc::clone(&fetched.keys))
    }

    /// The keys, fetched again unless they satisfy `found` or the last fetch was a moment ago. Callers that wait at the same time
    /// share one fetch.
    pub(crate) async fn refreshed(&self, found: impl Fn(&KeySet) -> bool) -> Option<Arc<KeySet>> {
        let mut last = self.last_fetch.lock().await;
        let is_found = self.current().is_some_and(|keys| found(&keys));
        if !is_found && last.is_none_or(|last| last.elapsed() >= MIN_FETCH_INTERVAL) {
            *last = Some(Instant::now());
            self.fetch().await;
        }
        self.current()
    }

    /// Fetches the keys regularly; never ends.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            let fetched = {
                let mut last = self.last_fetch.lock().await;
                *last = Some(Instant::now());
                self.fetch().await
            };
            sleep(if fetched { FETCH_INTERVAL } else { MIN_FETCH_INTERVAL }).await;
        }
    }

    /// Whether the fetch succeeded. If not, the old keys stay.
    async fn fetch(&self) -> bool {
        match self.try_fetch().await {
            Ok(keys) => {
                *self.current.write() = Some(Fetched { keys: Arc::new(keys), at: Instant::now() });
                true
            }
            Err(error) => {
                let issuer = &*self.issuer.name;
                let cause = causes(&error);
                tracing::warn!(
                    issuer,
                    cause,
                    "cannot fetch the keys of an issuer; the old ones are used for up to a day"
                );
                false
            }
        }
    }

    async fn try_fetch(&self) -> Result<KeySet, RefreshError> {
        Ok(KeySet::parse(&fetch::jwks(&self.issuer).await?)?)
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
