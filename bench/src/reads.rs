//! Reads statuses at a fixed rate and measures each latency from the time when the read was due.

use std::{os::fd::OwnedFd, thread, time::Duration};

use anyhow::Context;
use hdrhistogram::Histogram;
use ping_proto::{GetStatusResponse, Store};
use rustix::{
    io::{Errno, read},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use thread_priority::{
    Error, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::{io::unix::AsyncFd, runtime::Builder, sync::oneshot, task::JoinSet, time::Instant};

use crate::{machine, reader::Reader, report::Report};

/// The required 99th percentile of the latency (issue 6).
const LIMIT_MS: f64 = 5.0;
/// Reads become due at this interval, a few at a time.
const TICK: Duration = Duration::from_millis(1);
const CONNECTIONS: usize = 4;

/// The measured reads.
pub(crate) struct Reads {
    /// Measured from the time a read was due, so that a stalled server does not receive fewer reads.
    latency: Histogram<u64>,
    cached: u64,
    /// Reads without an answer. Their latency is that of the failure.
    failed: u64,
    took: Duration,
    /// Percentage of the cores' time that the host withheld.
    stolen: f64,
    /// Whether the reader ran with real-time priority.
    realtime: bool,
}

impl Reads {
    /// Adds the results to the report.
    pub(crate) fn report(&self, report: &mut Report, name: &str) {
        let reads = self.latency.len() as f64;
        report.add(name, reads / self.took.as_secs_f64(), "reads/s");
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        report.add(format!("{name}: p50"), at(0.5), "ms");
        report.add(format!("{name}: p95"), at(0.95), "ms");
        report.compare(format!("{name}: p99"), self.p99_ms(), "ms", "the requirement", LIMIT_MS);
        report.add(format!("{name}: max"), at(1.0), "ms");
        report.add(format!("{name}: share from the cache"), self.cached as f64 / reads * 100.0, "%");
        report.add(format!("{name}: failed"), self.failed as f64, "reads");
        report.add(format!("{name}: CPU time withheld by the host"), self.stolen, "%");
        report.add(format!("{name}: reader with real-time priority"), f64::from(u8::from(self.realtime)), "thread");
    }

    /// The 99th percentile of the latencies, in milliseconds.
    pub(crate) fn p99_ms(&self) -> f64 {
        self.latency.value_at_quantile(0.99) as f64 / 1e3
    }

    /// Reads without an answer.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    fn record(&mut self, (latency, answer): (Duration, anyhow::Result<GetStatusResponse>)) -> anyhow::Result<()> {
        self.latency.record(u64::try_from(latency.as_micros())?.max(1))?;
        match answer {
            Ok(answer) => self.cached += u64::from(answer.store.as_known() == Some(Store::Cache)),
            Err(error) => {
                if self.failed == 0 {
                    eprintln!("a status read failed: {error:#}");
                }
                self.failed += 1;
            }
        }
        Ok(())
    }
}

/// Makes `rate` reads per second, a multiple of 1,000, on a dedicated thread with real-time priority, so that the latencies include
/// neither delays by the writing load in this process nor the reader's own waits for a core. (In production a client has its own
/// cores.) `source` returns the source to read for a sequence number.
pub(crate) async fn read_on_thread(
    address: String,
    rate: u64,
    seconds: u64,
    source: impl Fn(u64) -> String + Send + 'static,
) -> anyhow::Result<Reads> {
    let (done, reads) = oneshot::channel();
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let reads = use_realtime_priority().and_then(|realtime| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            Ok(Reads { realtime, ..runtime.block_on(read_from(&address, rate, seconds, source))? })
        });
        // If the receiver is gone, another error is already being reported.
        drop(done.send(reads));
    })?;
    reads.await.context("the reader panicked")?
}

/// Gives this thread real-time priority, so that it runs as soon as it is ready; false if that is not permitted.
fn use_realtime_priority() -> anyhow::Result<bool> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        Ok(()) => Ok(true),
        Err(Error::OS(code)) if code == Errno::PERM.raw_os_error() => Ok(false),
        Err(error) => Err(error).context("real-time priority for the reader"),
    }
}

async fn read_from(address: &str, rate: u64, seconds: u64, source: impl Fn(u64) -> String) -> anyhow::Result<Reads> {
    let mut readers = Vec::new();
    for _ in 0..CONNECTIONS {
        readers.push(Reader::connect(address).await?);
    }
    run(readers, rate, seconds, source).await
}

/// Signals when reads are due: a few every millisecond.
///
/// Uses a kernel timer because the runtime's timers are only accurate to a millisecond, and the delay would count as latency of
/// the server.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
    next: Instant,
}

impl Ticks {
    #[expect(deprecated, reason = "sound for an owned descriptor; its replacement requires unsafe code")]
    fn start() -> anyhow::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let every = Timespec::try_from(TICK)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self { timer: AsyncFd::new(timer)?, next: Instant::now() + TICK })
    }

    /// The due times since the last call.
    async fn due(&mut self) -> anyhow::Result<Vec<Instant>> {
        let mut expirations = [0; 8];
        loop {
            let mut ready = self.timer.readable().await?;
            if let Ok(read) = ready.try_io(|timer| Ok(read(timer, &mut expirations)?)) {
                read?;
                break;
            }
        }
        let first = self.next;
        let due = (0..u32::try_from(u64::from_ne_bytes(expirations))?).map(|tick| first + TICK * tick);
        let due: Vec<_> = due.collect();
        self.next = first + TICK * u32::try_from(due.len())?;
        Ok(due)
    }
}

/// Sends reads as they become due.
async fn run(readers: Vec<Reader>, rate: u64, seconds: u64, source: impl Fn(u64) -> String) -> anyhow::Result<Reads> {
    let mut reads =
        Reads { latency: Histogram::new(3)?, cached: 0, failed: 0, took: Duration::ZERO, stolen: 0.0, realtime: false };
    let (mut pending, mut turn, started) = (JoinSet::new(), 0_u64, Instant::now());
    let before = machine::CoreTime::now()?;
    let mut ticks = Ticks::start()?;
    while turn < rate * seconds {
        for due in ticks.due().await? {
            for _ in 0..rate / 1_000 {
                turn += 1;
                let reader = readers[usize::try_from(turn)? % readers.len()].clone();
                let source = source(turn);
                pending.spawn(async move {
                    let answer = reader.status(source).await;
                    (due.elapsed(), answer)
                });
            }
        }
        while let Some(result) = pending.try_join_next() {
            reads.record(result?)?;
        }
    }
    while let Some(result) = pending.join_next().await {
        reads.record(result?)?;
    }
    reads.took = started.elapsed();
    reads.stolen = before.stolen_since()?;
    Ok(reads)
}
