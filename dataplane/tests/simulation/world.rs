//! One schedule: servers, processors and callers, the faults injected into them, and what must be true meanwhile and in the
//! end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_core::{Event, Millis, Minute, Retention};
use ping_history::{Count, Includes};
use ping_ingest::{Ingest, IngestMetrics, IngestPorts, IngestSettings};
use ping_memory::{LoggedMinutes, MemoryCache, MemoryLog, MemoryStatuses, MemoryStore};
use ping_ports::{Clock, CounterCache, EventStore, LogBounds, SourceReader, TotalsStore, Traces, ViewAudit};
use ping_projections::{
    CountMetrics, CountSettings, CounterProjection, LogPorts, MinutePublisher, Processor, SourceProjection,
    StatusProjection,
};
use ping_query::StatusQuery;
use prometheus_client::registry::Registry;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bugs::Bug,
    cache::FaultyCache,
    clients::{self, Clocks, Sent, Servers},
    dropping::dropping,
    log::{CommittedOffsets, FaultyConsumer, FaultyLog},
    reader::read_statuses,
    report::Report,
    rng::{FastClock, FaultRng, Host, VirtualClock},
    statuses::{self, FaultyStatuses},
    store::FaultyStore,
    view_audit::{Edit, edit},
    views::FaultyViews,
};

struct Server {
    host: Host,
    _tasks: JoinSet<()>,
}

struct World {
    rng: FaultRng,
    clock: Arc<dyn Clock>,
    fast_clock: Arc<dyn Clock>,
    store: Arc<MemoryStore>,
    log: MemoryLog,
    cache: Arc<MemoryCache>,
    statuses: Arc<MemoryStatuses>,
    committed: CommittedOffsets,
    ingest_metrics: Arc<IngestMetrics>,
    count_metrics: Arc<CountMetrics>,
    views_metrics: Arc<CountMetrics>,
    views_committed: CommittedOffsets,
    lane_handles: Servers,
    servers: Vec<Server>,
    processors: Vec<(Host, JoinSet<()>)>,
    sent: Arc<Mutex<Sent>>,
    crashes: u64,
    restores: u64,
}

/// Runs one schedule to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::new(seed, bug).run())
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let rng = FaultRng::new(seed, bug);
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let fast_clock: Arc<dyn Clock> = Arc::new(FastClock(Instant::now()));
        Self {
            store: Arc::new(MemoryStore::new(Arc::clone(&clock))),
            log: MemoryLog::new(1 + u32::try_from(rng.below(3)).unwrap()),
            cache: Arc::default(),
            // Nodes with one source, and with several.
            statuses: Arc::new(MemoryStatuses::new(2, statuses::TIMES)),
            committed: Arc::default(),
            ingest_metrics: Arc::new(IngestMetrics::register(&mut Registry::default())),
            count_metrics: Arc::new(CountMetrics::register(&mut Registry::default(), "ping_count")),
            views_metrics: Arc::new(CountMetrics::register(&mut Registry::default(), "ping_views")),
            views_committed: Arc::default(),
            lane_handles: Arc::default(),
            servers: Vec::new(),
            processors: Vec::new(),
            sent: Arc::default(),
            crashes: 0,
            restores: 0,
            rng,
            clock,
            fast_clock,
        }
    }

    fn start_server(&mut self) {
        let host = Host::new(&self.rng);
        let store = FaultyStore::new(&host, &self.store);
        let log = FaultyLog { host: host.clone(), inner: self.log.clone(), store: store.clone() };
        let ports = IngestPorts {
            store: Arc::new(store.clone()),
            outbox: Arc::new(store),
            producer: Arc::new(log),
            traces: Traces::default(),
        };
        let settings = IngestSettings {
            lanes: 1 + usize::try_from(self.rng.below(2)).unwrap(),
            queue_events: 40,
            batch_events: 1 + usize::try_from(self.rng.below(10)).unwrap(),
            lease: Duration::from_millis(300),
            timeout: Duration::from_millis(800),
        };
        let mut tasks = JoinSet::new();
        let ingest = Ingest::start(ports, settings, Arc::clone(&self.ingest_metrics), &mut tasks);
        self.lane_handles.lock().push(ingest);
        self.servers.push(Server { host, _tasks: tasks });
    }

    fn start_processor(&mut self) {
        let host = Host::new(&self.rng);
        let store = FaultyStore::new(&host, &self.store);
        let log = FaultyLog { host: host.clone(), inner: self.log.clone(), store: store.clone() };
        let cache = Arc::new(FaultyCache { host: host.clone(), inner: Arc::clone(&self.cache) });
        let views = FaultyViews { host: host.clone(), inner: Arc::clone(&self.store) };
        let ports = LogPorts {
            outbox: Arc::new(store.clone()),
            bounds: Arc::new(log.clone()),
            producer: Arc::new(log),
            incarnations: Arc::new(views.clone()),
            clock: Arc::clone(&self.clock),
            traces: Traces::default(),
        };
        let settings = CountSettings {
            flush_records: 1 + usize::try_from(self.rng.below(20)).unwrap(),
            flush_bytes: 1 + usize::try_from(self.rng.below(700)).unwrap(),
            fan_in: 2 + usize::try_from(self.rng.below(2)).unwrap(),
            retry: Duration::from_millis(20),
            ..CountSettings::default()
        };
        let consumer = FaultyConsumer {
            host: host.clone(),
            inner: self.log.subscribe("counts"),
            committed: Arc::clone(&self.committed),
        };
        let dropping = dropping(store.clone(), Arc::clone(&self.fast_clock));
        let counters = CounterProjection::new(cache, Arc::new(store), &ports, &settings);
        let cached = Arc::new(self.statuses_seen_by(&host));
        let statuses = StatusProjection { rule: statuses::rule_of_processors(self.rng.bug), cache: cached };
        let views =
            SourceProjection::new(Arc::new(views), &ports, &settings, Retention::default()).with_statuses(statuses);
        let views = views.with_minutes(Some(MinutePublisher::new(self.store.clone(), Arc::new(LoggedMinutes))));
        let committed = Arc::clone(&self.views_committed);
        let viewing = FaultyConsumer { host: host.clone(), inner: self.log.subscribe("views"), committed };
        let metrics = Arc::clone(&self.views_metrics);
        let viewing = Processor::new(viewing, views, ports.clone(), settings.clone(), metrics);
        let processor = Processor::new(consumer, counters, ports, settings, Arc::clone(&self.count_metrics));
        let mut tasks = JoinSet::new();
        tasks.spawn(processor.run(CancellationToken::new()));
        tasks.spawn(viewing.run(CancellationToken::new()));
        tasks.spawn(dropping.run(CancellationToken::new()));
        self.processors.push((host, tasks));
    }

    fn statuses_seen_by(&self, host: &Host) -> FaultyStatuses {
        FaultyStatuses { host: host.clone(), inner: Arc::clone(&self.statuses) }
    }

    /// Reads statuses as a server does, which caches what it had to read from the store.
    fn start_reader(&self, reaches_cache: bool) -> JoinSet<()> {
        let host = Host::new(&self.rng);
        if !reaches_cache {
            host.cut_off(Duration::from_secs(3_600));
        }
        let cache = Arc::new(self.statuses_seen_by(&host));
        let (clock, sent) = (Arc::clone(&self.clock), Arc::clone(&self.sent));
        let query = StatusQuery::new(statuses::rule(), cache, self.store.clone(), Arc::clone(&clock));
        let mut tasks = JoinSet::new();
        tasks.spawn(read_statuses(host, query, clock, sent));
        tasks
    }

    async fn run(mut self) -> Result<Report, String> {
        let readers = [false, true, true].map(|reaches_cache| self.start_reader(reaches_cache));
        self.start_server();
        self.start_server();
        self.start_processor();
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let (rng, servers) = (self.rng.clone(), Arc::clone(&self.lane_handles));
            let clocks = Clocks { events: Arc::clone(&self.clock), ids: Arc::clone(&self.fast_clock) };
            callers.spawn(clients::run(rng, servers, clocks, Arc::clone(&self.sent), 12));
        }
        let mut saved = self.cache.save();
        let mut backup = self.store.save();
        for _ in 0..25 {
            sleep(self.rng.millis(200)).await;
            self.check_reading().await?;
            if self.rng.chance(10) {
                saved = self.cache.save();
            } else if self.rng.chance(4) {
                saved(&self.cache);
                saved = self.cache.save();
            } else if self.rng.chance(6) {
                backup = self.store.save();
            } else if self.rng.chance(3) {
                self.restore_store(backup).await?;
                backup = self.store.save();
            } else {
                self.inject_fault().await;
            }
        }
        self.rng.end_of_faults();
        while callers.join_next().await.is_some() {}
        self.settle(readers).await
    }

    /// The store goes back to `backup`. What was answered until now must hold for what it was.
    async fn restore_store(&mut self, backup: impl FnOnce(&MemoryStore)) -> Result<(), String> {
        self.check_reading().await?;
        {
            let mut sent = self.sent.lock();
            sent.all_are_possible(self.clock.now());
            if let Some(violation) = sent.history.check().first() {
                return Err(violation.to_string());
            }
        }
        backup(&self.store);
        self.rng.store_was_restored();
        if self.rng.bug == Some(Bug::WriterIdsReused) {
            self.store.reissue_writer_numbers();
        }
        let ids: Vec<_> = self.sent.lock().ids.iter().copied().collect();
        let stored = self.store.find(&ids).await.unwrap();
        self.sent.lock().go_back(self.clock.now(), &stored);
        self.restores += 1;
        Ok(())
    }

    /// Injects a fault, or none.
    async fn inject_fault(&mut self) {
        let (servers, processors) = (self.servers.len() as u64, self.processors.len() as u64);
        match self.rng.below(24) {
            0 | 1 => {
                let victim = usize::try_from(self.rng.below(servers)).unwrap();
                self.lane_handles.lock().remove(victim);
                self.servers.remove(victim);
                self.crashes += 1;
                self.start_server();
            }
            2 | 3 => {
                let victim = usize::try_from(self.rng.below(servers)).unwrap();
                self.servers[victim].host.stall(self.rng.millis(1_500));
            }
            4 | 5 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors.remove(victim);
                self.crashes += 1;
                self.start_processor();
            }
            6 | 7 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors[victim].0.stall(self.rng.millis(1_500));
            }
            8 if processors < 3 => self.start_processor(),
            9 | 10 => self.log.rebalance(),
            11 => self.cache.clear(),
            12 => self.log.grow(4),
            13 => {
                let bounds = self.log.bounds().await.unwrap();
                for (partition, bounds) in bounds {
                    self.log.truncate(partition, bounds.low + (bounds.end - bounds.low) / 2);
                }
            }
            14 | 15 => {
                let victim = usize::try_from(self.rng.below(processors)).unwrap();
                self.processors[victim].0.cut_off(self.rng.millis(2_500));
            }
            16 => self.statuses.clear(),
            _ => {}
        }
    }

    /// What must hold for a reader at any time: the count is never too high. The history checks what it includes.
    async fn check_reading(&self) -> Result<(), String> {
        let began = self.clock.now();
        let Some(reading) = self.cache.read(None).await.unwrap() else { return Ok(()) };
        let stored = self.store.count(None).await.unwrap().count;
        // Until the cache is rebuilt, its answers hold for a time before the store went back.
        let is_current = reading.as_of > self.sent.lock().went_back;
        if is_current && reading.total > stored {
            return Err(format!("the cache has {}, the store {stored}", reading.total));
        }
        let at = clients::since(began, &*self.clock);
        let answer = |includes, count, as_of_ms| Count { includes, count, as_of_ms, exact: true };
        {
            let mut sent = self.sent.lock();
            if is_current {
                sent.history.count(at, answer(Includes::AsOf, reading.total, reading.as_of));
            }
            sent.history.count(at, answer(Includes::Strong, stored, 0));
        }
        self.check_views().await
    }

    /// The same for the views per source.
    async fn check_views(&self) -> Result<(), String> {
        let as_of = self.store.as_of().await.unwrap();
        let held: i64 = self.store.views().unwrap().kinds.values().map(|span| span.count).sum();
        let with_source = |events: Vec<Event>| events.iter().filter(|event| !event.source.is_empty()).count();
        let before: Vec<_> = {
            let sent = self.sent.lock();
            sent.acknowledged.iter().filter(|(_, at)| **at < as_of).map(|(id, _)| *id).collect()
        };
        let before = with_source(self.store.find(&before).await.unwrap());
        let rows: i64 = self.store.recounted_views().kinds.values().map(|span| span.count).sum();
        if held > rows {
            return Err(format!("the views have {held} events with a source, the store {rows}"));
        }
        if held < i64::try_from(before).unwrap() {
            return Err(format!("the views have {held}, but {before} were acknowledged before their as_of"));
        }
        Ok(())
    }

    /// Waits until nothing changes any more, then compares everything.
    async fn settle(mut self, readers: [JoinSet<()>; 3]) -> Result<Report, String> {
        if self.servers.is_empty() {
            self.start_server();
        }
        for _ in 0..60 {
            sleep(Duration::from_millis(500)).await;
            self.check_reading().await?;
            if self.is_settled().await {
                break;
            }
        }
        // Long enough for an audit to act on a difference, and for one more.
        sleep(CountSettings::default().audit_interval * 4).await;
        let repaired = self.views_metrics.drifts.get();
        if repaired > 0 {
            return Err(format!("audits had to repair the views {repaired} times"));
        }
        // Readers would cache statuses that follow from edited counts.
        drop(readers);
        let edits = if self.rng.chance(25) { self.edit_views().await? } else { 0 };
        Ok(Report { edits, ..self.final_check().await? })
    }

    /// Edits a segment, and waits until an audit has repaired the views. Returns how many segments were edited.
    async fn edit_views(&self) -> Result<u64, String> {
        let what = if self.rng.chance(50) { Edit::Delete } else { Edit::Double };
        if !edit(&self.store, what, usize::try_from(self.rng.below(1_000)).unwrap()) {
            return Ok(0);
        }
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            let state = self.store.view_audit_state().await.unwrap();
            if self.views_metrics.drifts.get() > 0 && !state.suspect && self.is_settled().await {
                return Ok(1);
            }
        }
        Err(format!("the views were not repaired within a minute after {what:?}"))
    }

    async fn is_settled(&self) -> bool {
        let stored = self.store.count(None).await.unwrap().count;
        let counted = self.cache.read(None).await.unwrap().is_some_and(|reading| reading.total == stored);
        counted && self.store.views().unwrap() == self.store.recounted_views()
    }

    async fn final_check(self) -> Result<Report, String> {
        let recount = self.store.recount().await.unwrap();
        let stored = self.store.snapshot(ping_core::Minute(0), Duration::ZERO).await.unwrap();
        let mut ids: Vec<_> = self.sent.lock().acknowledged.keys().copied().collect();
        ids.retain(|id| !self.store.refuses(*id));
        let present = ping_ports::EventStore::find(&*self.store, &ids).await.unwrap().len();
        let counters = self.cache.counters().await.unwrap().ok_or("the cache is empty in the end")?;
        let drifts = self.count_metrics.drifts.get();
        let (sent, refused, violations) = {
            let sent = self.sent.lock();
            (sent.ids.len(), sent.refused, sent.history.check())
        };
        if let Some(violation) = violations.first() {
            return Err(violation.to_string());
        }
        if present != ids.len() {
            return Err(format!("{} of {} acknowledged events are not in the store", ids.len() - present, ids.len()));
        }
        if usize::try_from(recount.events()).unwrap() > sent {
            return Err(format!("{} events from {sent} distinct ids", recount.events()));
        }
        if counters.total != stored.total || recount.events() != stored.total {
            return Err(format!("{recount:?}, store {}, cache {}", stored.total, counters.total));
        }
        let touched = |minute| counters.minutes.contains_key(minute);
        let minutes = stored.minutes.iter().filter(|(minute, _)| touched(*minute));
        if counters.minutes != minutes.map(|(minute, count)| (*minute, *count)).collect() {
            return Err(format!("minutes differ: store {:?}, cache {:?}", stored.minutes, counters.minutes));
        }
        let (counted, rows) = (self.store.views().unwrap(), self.store.recounted_views());
        if counted != rows {
            return Err(format!("views per source differ: rows {rows:?}, views {counted:?}"));
        }
        let statuses = statuses::check(&self.statuses, &rows, Minute::of(self.clock.now())).await?;
        if drifts > 0 {
            return Err(format!("audits had to repair the cache {drifts} times"));
        }
        self.check_ages(counters.as_of).await?;
        Ok(Report {
            events: u64::try_from(recount.events()).unwrap(),
            dropped: u64::try_from(recount.dropped.count).unwrap(),
            refused,
            replayed: self.count_metrics.duplicates.get(),
            rebuilds: self.count_metrics.rebuilds.get(),
            stale: self.count_metrics.stale.get(),
            fenced: self.ingest_metrics.fenced.get(),
            relayed: self.ingest_metrics.relayed.get(),
            crashes: self.crashes,
            restores: self.restores,
            rollbacks: self.count_metrics.store_rollbacks.get(),
            phantoms: self.views_metrics.phantoms.get(),
            statuses,
            edits: 0,
        })
    }

    /// After a quiet time, the count and the audits are recent.
    async fn check_ages(&self, as_of: Millis) -> Result<(), String> {
        let now = self.clock.now();
        let last_audit = self.cache.read(None).await.unwrap().and_then(|reading| reading.last_audit);
        let views = self.store.view_audit_state().await.unwrap();
        if as_of + 5_000 < now {
            return Err(format!("as_of is {} ms old after a quiet time", now - as_of));
        }
        if last_audit.is_none_or(|at| at + 10_000 < now) {
            return Err(format!("the last audit was at {last_audit:?}, it is {now} now"));
        }
        if views.suspect || views.last_audit.is_none_or(|at| at + 15_000 < now) {
            return Err(format!("the views are {views:?}, it is {now} now"));
        }
        Ok(())
    }
}
