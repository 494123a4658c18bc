//! The quotas of one server.

use std::{sync::Arc, time::Duration};

use ping_ports::{QuotaStore, SourceReader, chain};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Charge, Demand, NameLimits, NewNames, QuotaMetrics, QuotaRefusal, SourceLimitWatch,
    exchange::{Attempt, Buckets, Exchange, MAX_WAITING, Waiting},
    name_limits::NameLimitState,
    names::{KnownNames, NamesQueue, Registrar},
};

/// Longest time that a call waits for the store and for the calls before it. An adapter gives up earlier, and knows why.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the start until expired rows are deleted from the store.
const FIRST_FORGET: Duration = Duration::from_secs(60);
/// How often they are deleted then.
const FORGET: Duration = Duration::from_secs(600);

/// Admits calls within the quotas of their callers. Cheap to clone; its tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct QuotaLimiter {
    buckets: Arc<Buckets>,
    known: Arc<KnownNames>,
    exchange: mpsc::Sender<Waiting>,
    registrar: NamesQueue,
    name_limits: NameLimitState,
    metrics: Arc<QuotaMetrics>,
}

impl QuotaLimiter {
    /// Starts the tasks that share the quotas with other servers through `store`. They end once every clone of the limiter is dropped, and
    /// what was not used is returned.
    #[must_use]
    pub fn start(store: Arc<dyn QuotaStore>, metrics: QuotaMetrics, tasks: &mut JoinSet<()>) -> Self {
        let (exchange, queue) = mpsc::channel(MAX_WAITING);
        let (buckets, known, metrics) = (Arc::<Buckets>::default(), Arc::<KnownNames>::default(), Arc::new(metrics));
        let task =
            Exchange { buckets: Arc::clone(&buckets), store: Arc::clone(&store), metrics: Arc::clone(&metrics), queue };
        let (ended, end) = oneshot::channel();
        tasks.spawn(async move {
            task.run().await;
            drop(ended);
        });
        tasks.spawn(forget(Arc::clone(&store), Arc::clone(&metrics), end));
        let (registrar, task) = Registrar::new(Arc::clone(&known), store, Arc::clone(&metrics));
        tasks.spawn(task.run());
        Self { buckets, known, exchange, registrar, name_limits: NameLimitState::default(), metrics }
    }

    /// The same limiter with limits of names for all callers, and the task that watches the number of sources in `reader`.
    #[must_use]
    pub fn with_name_limits(
        self,
        limits: NameLimits,
        reader: Arc<dyn SourceReader>,
        registry: &mut Registry,
    ) -> (Self, SourceLimitWatch) {
        let name_limits = NameLimitState::new(limits);
        let watch = SourceLimitWatch::new(name_limits.clone(), reader, registry);
        (Self { name_limits, ..self }, watch)
    }

    /// The number of sources that may exist, once there are as many: from then on, names of sources must stand in a demand.
    #[must_use]
    pub fn reached_sources(&self) -> Option<u64> {
        self.name_limits.is_reached().then_some(self.name_limits.limits.sources)
    }

    /// How many names of kinds may be new per day; `None` for no limit. They must stand in a demand.
    #[must_use]
    pub fn kind_names_per_day(&self) -> Option<u64> {
        Some(self.name_limits.limits.kind_names_per_day).filter(|limit| *limit > 0)
    }

    /// Whether a name is known not to be new, without a look-up. Names that are not may stand in a demand.
    #[must_use]
    pub fn knows(&self, budget: &str, source: &str, kind: Option<&str>) -> bool {
        self.known.contains(budget, source, kind)
    }

    /// Admits a call, or refuses it: for callers that wait for one answer. The only wait is for the store, at most ten seconds.
    ///
    /// # Errors
    /// When a quota does not allow it, or the store is unavailable. Nothing is charged then, unless new names are the reason.
    pub async fn admit(&self, demand: &Demand) -> Result<(), QuotaRefusal> {
        let admitted = self.try_admit(demand).await;
        self.count(demand, &admitted);
        admitted
    }

    /// Admits a batch as soon as it fits, but waits at most for `timeout`: for streams, whose flow control slows the sender down meanwhile.
    ///
    /// # Errors
    /// As for [`Self::admit`].
    pub async fn admit_when_it_fits(&self, demand: &Demand, timeout: Duration) -> Result<(), QuotaRefusal> {
        let deadline = Instant::now() + timeout;
        let mut waited = false;
        loop {
            let admitted = self.try_admit(demand).await;
            match &admitted {
                Err(QuotaRefusal::Exceeded { retry_in, quota, .. }) if Instant::now() + *retry_in <= deadline => {
                    if !waited {
                        waited = true;
                        self.metrics.count_delayed(quota);
                    }
                    sleep(*retry_in).await;
                }
                _ => {
                    self.count(demand, &admitted);
                    return admitted;
                }
            }
        }
    }

    fn count(&self, demand: &Demand, admitted: &Result<(), QuotaRefusal>) {
        match admitted {
            Ok(()) => self.metrics.count_admitted(demand),
            Err(refusal) => self.metrics.count_refused(demand, refusal),
        }
    }

    async fn try_admit(&self, demand: &Demand) -> Result<(), QuotaRefusal> {
        if let Some(refusal) = demand.too_large() {
            return Err(refusal);
        }
        let must_ask = match self.buckets.attempt(&demand.charges, Instant::now()) {
            Attempt::Admitted => false,
            Attempt::Refused(refusal) => return Err(refusal),
            Attempt::Ask(_) => true,
        };
        if !must_ask && demand.names.is_empty() {
            return Ok(());
        }
        let asking = async {
            if must_ask {
                self.ask_exchange(demand.charges.clone()).await?;
            }
            if demand.names.is_empty() { Ok(()) } else { self.ask_registrar(&demand.names).await }
        };
        timeout(STORE_TIMEOUT, asking).await.unwrap_or_else(|_| {
            let seconds = STORE_TIMEOUT.as_secs();
            Err(QuotaRefusal::Unavailable(format!("it did not answer about quotas within {seconds} s")))
        })
    }

    async fn ask_exchange(&self, charges: Vec<Charge>) -> Result<(), QuotaRefusal> {
        let (reply, answer) = oneshot::channel();
        self.exchange.send(Waiting { charges, reply }).await.map_err(|_| QuotaRefusal::ShuttingDown)?;
        answer.await.unwrap_or(Err(QuotaRefusal::ShuttingDown))
    }

    async fn ask_registrar(&self, names: &Arc<[NewNames]>) -> Result<(), QuotaRefusal> {
        let answer = self.registrar.send(names).await.ok_or(QuotaRefusal::ShuttingDown)?;
        answer.await.unwrap_or(Err(QuotaRefusal::ShuttingDown))
    }
}

/// Deletes expired rows from the store every ten minutes, until the limiter ends.
async fn forget(store: Arc<dyn QuotaStore>, metrics: Arc<QuotaMetrics>, end: oneshot::Receiver<()>) {
    let forgetting = async {
        sleep(FIRST_FORGET).await;
        loop {
            metrics.exchanges.inc();
            if let Err(error) = store.forget_expired_quotas().await {
                metrics.errors.inc();
                tracing::warn!(
                    error = chain(&error),
                    "expired quotas are not deleted; the next attempt is in ten minutes"
                );
            }
            sleep(FORGET).await;
        }
    };
    tokio::select! {
        // The sender is dropped, which is an error.
        _ = end => {}
        () = forgetting => {}
    }
}

#[cfg(test)]
mod tests;
