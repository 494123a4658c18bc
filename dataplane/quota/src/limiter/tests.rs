//! Several servers share a store, in virtual time.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use ping_core::{BucketClaim, BucketGrant, Millis};
use ping_memory::MemoryStore;
use ping_ports::{Clock, Name, NamesAdmitted, StoreError};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use super::*;
use crate::Limit;

/// The clock of the runtime.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        1_728_926_331_000 + Millis::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// What the store does.
const ANSWERS: u8 = 0;
const FAILS: u8 = 1;
/// It does not answer, until its adapter gives up after seven seconds.
const HANGS: u8 = 2;

/// A store that answers after two milliseconds, fails or hangs, and counts the calls.
struct Remote {
    store: MemoryStore,
    calls: AtomicU64,
    state: AtomicU8,
}

impl Remote {
    fn new() -> Arc<Self> {
        let store = MemoryStore::new(Arc::new(VirtualClock(Instant::now())));
        Arc::new(Self { store, calls: AtomicU64::new(0), state: AtomicU8::new(ANSWERS) })
    }

    async fn travel(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        sleep(if state == HANGS { Duration::from_secs(7) } else { Duration::from_millis(2) }).await;
        if state == ANSWERS { Ok(()) } else { Err(StoreError("no connection".into())) }
    }
}

#[async_trait]
impl QuotaStore for Remote {
    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<Vec<BucketGrant>, StoreError> {
        self.travel().await?;
        self.store.settle(claims).await
    }

    async fn known_names(&self, names: &[(Arc<str>, Name)]) -> Result<Vec<bool>, StoreError> {
        self.travel().await?;
        self.store.known_names(names).await.map(|known| vec![false; known.len()])
    }

    async fn admit_names(&self, budget: &str, per_day: u64, names: &[Name]) -> Result<NamesAdmitted, StoreError> {
        self.travel().await?;
        self.store.admit_names(budget, per_day, names).await
    }

    async fn forget_expired_quotas(&self) -> Result<(), StoreError> {
        self.store.forget_expired_quotas().await
    }
}

/// One server.
struct Server {
    limiter: QuotaLimiter,
    tasks: JoinSet<()>,
}

impl Server {
    fn start(store: &Arc<Remote>) -> Self {
        let mut tasks = JoinSet::new();
        let metrics = QuotaMetrics::register(&mut Registry::default());
        Self { limiter: QuotaLimiter::start(store.clone(), metrics, &mut tasks), tasks }
    }

    /// Callers that send a batch whenever `pause` is over, and count what is admitted.
    fn load(&self, callers: u64, amount: u64, pause: Duration, admitted: &Arc<AtomicU64>) -> Vec<JoinHandle<()>> {
        let caller = |number: u64| {
            let (limiter, admitted) = (self.limiter.clone(), Arc::clone(admitted));
            tokio::spawn(async move {
                // They do not all come at the same time.
                sleep(Duration::from_millis(number * 7 % 50)).await;
                loop {
                    if limiter.admit(&demand(amount)).await.is_ok() {
                        admitted.fetch_add(amount, Ordering::Relaxed);
                    }
                    sleep(pause).await;
                }
            })
        };
        (0..callers).map(caller).collect()
    }
}

/// A thousand events per second; two seconds' worth at once.
fn demand(amount: u64) -> Demand {
    let charge = Charge {
        quota: "q".into(),
        bucket: "events:q".into(),
        limit: Limit::Events,
        amount,
        per_second: 1_000,
        burst_seconds: 2,
    };
    Demand { events: vec![("q".into(), amount)], charges: vec![charge], names: Arc::default() }
}

fn names(sources: &[&str]) -> Demand {
    let names = sources.iter().map(|source| Name::Source((*source).into())).collect();
    let new = NewNames { quota: "q".into(), budget: "sources:q".into(), limit: Limit::Sources, per_day: 3, names };
    Demand { events: vec![("q".into(), 1)], charges: Vec::new(), names: [new].into() }
}

/// What is admitted in ten seconds.
async fn in_ten_seconds(admitted: &AtomicU64) -> u64 {
    let before = admitted.load(Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    admitted.load(Ordering::Relaxed) - before
}

fn is_the_quota(events: u64) -> bool {
    (9_000..=11_000).contains(&events)
}

#[tokio::test(start_paused = true)]
async fn servers_share_a_quota_while_one_joins_and_one_dies() {
    let store = Remote::new();
    let admitted = Arc::new(AtomicU64::new(0));
    let (first, second) = (Server::start(&store), Server::start(&store));
    let pause = Duration::from_millis(10);
    let dying = first.load(10, 2, pause, &admitted);
    let _busy = second.load(30, 5, pause, &admitted);
    // The burst.
    sleep(Duration::from_secs(3)).await;
    let events = in_ten_seconds(&admitted).await;
    assert!(is_the_quota(events), "two servers: {events}");
    let third = Server::start(&store);
    let _more = third.load(20, 1, pause, &admitted);
    let events = in_ten_seconds(&admitted).await;
    assert!(is_the_quota(events), "one joined: {events}");
    // What the first has taken is lost.
    dying.iter().for_each(JoinHandle::abort);
    drop(first.tasks);
    let events = in_ten_seconds(&admitted).await;
    assert!(is_the_quota(events), "one died: {events}");
    let calls = store.calls.load(Ordering::Relaxed);
    assert!(calls < 33 * 3 * 50, "{calls} calls to the store in 33 s");
}

#[tokio::test(start_paused = true)]
async fn a_caller_below_its_quota_is_never_refused_whichever_server_it_reaches() {
    let store = Remote::new();
    let servers = [Server::start(&store), Server::start(&store), Server::start(&store)];
    for round in 0..20_000 {
        // Nine events in ten milliseconds, by three servers in turn.
        let admitted = servers[round % 3].limiter.admit(&demand(3)).await;
        assert_eq!(admitted, Ok(()), "round {round}");
        sleep(Duration::from_micros(3_334)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_returns_what_it_has_taken() {
    let store = Remote::new();
    let Server { limiter, mut tasks } = Server::start(&store);
    for _ in 0..100 {
        limiter.admit(&demand(5)).await.unwrap();
    }
    drop(limiter);
    while tasks.join_next().await.is_some() {}
    assert_eq!(Server::start(&store).limiter.admit(&demand(1_500)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_call_fits_and_then_it_does() {
    let store = Remote::new();
    let server = Server::start(&store);
    server.limiter.admit(&demand(2_000)).await.unwrap();
    for amount in [100, 500, 2_000] {
        let refused = server.limiter.admit(&demand(amount)).await.unwrap_err();
        let QuotaRefusal::Exceeded { retry_in, allowed: 1_000, .. } = refused else { panic!("{refused}") };
        assert!(retry_in <= Duration::from_millis(amount + 1), "{retry_in:?}");
        // The exchange itself takes 2 ms.
        sleep(retry_in + Duration::from_millis(3)).await;
        assert_eq!(server.limiter.admit(&demand(amount)).await, Ok(()), "{amount} after {retry_in:?}");
    }
    let calls = store.calls.load(Ordering::Relaxed);
    for _ in 0..1_000 {
        server.limiter.admit(&demand(500)).await.unwrap_err();
    }
    assert!(store.calls.load(Ordering::Relaxed) <= calls + 1, "refusals need no call to the store");
    let refused = server.limiter.admit(&demand(2_001)).await.unwrap_err();
    assert!(matches!(refused, QuotaRefusal::TooLarge { most: 2_000, amount: 2_001, .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_slowed_down_to_its_quota_and_refused_if_it_would_wait_too_long() {
    let store = Remote::new();
    let Server { limiter, tasks: _tasks } = Server::start(&store);
    let timeout = Duration::from_secs(5);
    limiter.admit(&demand(2_000)).await.unwrap();
    let started = Instant::now();
    for _ in 0..50 {
        limiter.admit_when_it_fits(&demand(200), timeout).await.unwrap();
    }
    let rate = 10_000.0 / started.elapsed().as_secs_f64();
    assert!((950.0..1_020.0).contains(&rate), "{rate} events per second");
    let slow = Charge {
        per_second: 100,
        burst_seconds: 100,
        bucket: "events:slow".into(),
        ..demand(10_000).charges.remove(0)
    };
    let slow = |amount| Demand { charges: vec![Charge { amount, ..slow.clone() }], ..Demand::default() };
    limiter.admit(&slow(10_000)).await.unwrap();
    let started = Instant::now();
    let refused = limiter.admit_when_it_fits(&slow(600), timeout).await.unwrap_err();
    assert!(
        matches!(refused, QuotaRefusal::Exceeded { .. }) && started.elapsed() < Duration::from_secs(1),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_without_the_store_and_the_quota_is_right_when_it_is_back() {
    let store = Remote::new();
    let server = Server::start(&store);
    store.state.store(FAILS, Ordering::Relaxed);
    let refused = server.limiter.admit(&demand(1)).await.unwrap_err();
    assert!(matches!(&refused, QuotaRefusal::Unavailable(cause) if cause.contains("no connection")), "{refused}");
    assert!(server.limiter.admit(&names(&["a"])).await.is_err());
    store.state.store(ANSWERS, Ordering::Relaxed);
    assert_eq!(server.limiter.admit(&demand(2_000)).await, Ok(()));
    assert_eq!(server.limiter.admit(&names(&["a"])).await, Ok(()));
}

/// Many calls at once; what became of each, which must be known after little more than ten seconds.
async fn within_ten_seconds(server: &Server, demands: impl Iterator<Item = Demand>) -> Vec<Result<(), QuotaRefusal>> {
    let mut calls = JoinSet::new();
    for demand in demands {
        let limiter = server.limiter.clone();
        calls.spawn(async move { limiter.admit(&demand).await });
    }
    timeout(Duration::from_millis(10_100), calls.join_all()).await.expect("no call waits longer")
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_blocks_no_call_for_longer_than_ten_seconds_and_nothing_is_charged() {
    let store = Remote::new();
    let server = Server::start(&store);
    store.state.store(HANGS, Ordering::Relaxed);
    // More than may wait.
    let waiting = (0..3_000).map(|_| demand(1)).chain((0..20_000).map(|number| names(&[&format!("n{number}")])));
    for refused in within_ten_seconds(&server, waiting).await {
        assert!(matches!(&refused, Err(QuotaRefusal::Unavailable(_))), "{refused:?}");
    }
    store.state.store(ANSWERS, Ordering::Relaxed);
    // The first call that comes afterwards waits until the adapter has given up.
    assert_eq!(server.limiter.admit(&demand(1)).await, Ok(()));
    let again = (0..1_500).map(|_| demand(1)).chain(["a", "b", "c"].map(|source| names(&[source])));
    for admitted in within_ten_seconds(&server, again).await {
        assert_eq!(admitted, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_has_gone_away_is_not_charged() {
    let store = Remote::new();
    let server = Server::start(&store);
    let gone = timeout(Duration::from_millis(1), server.limiter.admit(&demand(2_000))).await;
    assert!(gone.is_err(), "the store takes two milliseconds");
    sleep(Duration::from_millis(5)).await;
    assert_eq!(server.limiter.admit(&demand(2_000)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn charges_are_taken_together_or_not_at_all() {
    let store = Remote::new();
    let Server { limiter, tasks: _tasks } = Server::start(&store);
    let both = |events, bytes| {
        let mut demand = demand(events);
        let bytes =
            Charge { bucket: "bytes:q".into(), limit: Limit::Bytes, amount: bytes, ..demand.charges[0].clone() };
        demand.charges.push(bytes);
        demand
    };
    limiter.admit(&both(0, 2_000)).await.unwrap();
    for _ in 0..5 {
        let refused = limiter.admit(&both(1_000, 500)).await.unwrap_err();
        assert!(matches!(refused, QuotaRefusal::Exceeded { limit: Limit::Bytes, .. }), "{refused}");
    }
    assert_eq!(limiter.admit(&demand(2_000)).await, Ok(()), "no events were charged");
}

#[tokio::test(start_paused = true)]
async fn known_names_are_not_looked_up_and_a_used_up_budget_is_not_asked() {
    let store = Remote::new();
    let server = Server::start(&store);
    server.limiter.admit(&names(&["a", "b"])).await.unwrap();
    assert!(server.limiter.knows("sources:q", "a", None) && !server.limiter.knows("sources:p", "a", None));
    assert_eq!(server.limiter.admit(&names(&["a", "c"])).await, Ok(()));
    let refused = server.limiter.admit(&names(&["d"])).await.unwrap_err();
    let QuotaRefusal::Exceeded { retry_in, allowed: 3, limit: Limit::Sources, .. } = refused else {
        panic!("{refused}")
    };
    assert!(retry_in <= Duration::from_secs(86_400));
    let calls = store.calls.load(Ordering::Relaxed);
    for number in 0..100 {
        server.limiter.admit(&names(&[&format!("n{number}")])).await.unwrap_err();
    }
    assert_eq!(store.calls.load(Ordering::Relaxed), calls + 100, "one look-up each, and no admission");
    let other = Server::start(&store);
    assert_eq!(other.limiter.admit(&names(&["a"])).await, Ok(()), "it is not new");
    assert!(other.limiter.admit(&names(&["e"])).await.is_err(), "servers share the budget");
    let refused = other.limiter.admit(&names(&["e", "f", "g", "h"])).await.unwrap_err();
    assert!(matches!(refused, QuotaRefusal::TooLarge { most: 3, amount: 4, .. }), "{refused}");
}
