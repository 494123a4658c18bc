//! Reads at a fixed rate, and how long each took from when it was due.

use std::{os::fd::OwnedFd, thread, time::Duration};

use anyhow::Context;
use hdrhistogram::Histogram;
use ping_proto::Store;
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

/// Per second, and how long 99 % of them may take: what is asked of the system (issue 6).
const READS: u64 = 5_000;
const LIMIT_MS: f64 = 5.0;
/// Reads are due that often, a few at once.
const TICK: Duration = Duration::from_millis(1);
const CONNECTIONS: usize = 4;

/// What reading was like.
pub(crate) struct Reads {
    /// From the time a read was due, so that a server that stands still is not asked less.
    latency: Histogram<u64>,
    cached: u64,
    took: Duration,
    /// Percent of the cores' time meanwhile that the host gave to somebody else.
    stolen: f64,
    /// The reader had a core as soon as it was ready.
    first: bool,
}

impl Reads {
    /// Adds what they were like to the report.
    pub(crate) fn note(&self, report: &mut Report, name: &str) {
        let reads = self.latency.len() as f64;
        report.add(name, reads / self.took.as_secs_f64(), "reads/s");
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        report.add(format!("{name}: p50"), at(0.5), "ms");
        report.add(format!("{name}: p95"), at(0.95), "ms");
        report.compare(format!("{name}: p99"), at(0.99), "ms", "what is asked", LIMIT_MS);
        report.add(format!("{name}: max"), at(1.0), "ms");
        report.add(format!("{name} answered by the cache"), self.cached as f64 / reads * 100.0, "%");
        report.add(format!("{name}: time of the cores that the host took"), self.stolen, "%");
        report.add(format!("{name}: reader that goes first"), f64::from(u8::from(self.first)), "thread");
    }

    fn take(&mut self, (latency, cached): (Duration, bool)) -> anyhow::Result<()> {
        self.latency.record(u64::try_from(latency.as_micros())?.max(1))?;
        self.cached += u64::from(cached);
        Ok(())
    }
}

/// Reads on a thread of its own, which goes first: what is measured is not how long the writing load kept this process, nor how
/// long a client, whose cores would be its own, waited for one of those that it measures. `source` says which one is asked for
/// in a turn.
pub(crate) async fn read_apart(address: String, seconds: u64, source: fn(u64) -> String) -> anyhow::Result<Reads> {
    let (done, reads) = oneshot::channel();
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let reads = go_first().and_then(|first| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            Ok(Reads { first, ..runtime.block_on(read_from(&address, seconds, source))? })
        });
        // Whoever no longer waits has failed, and says so.
        drop(done.send(reads));
    })?;
    reads.await.context("the reader panicked")?
}

/// Lets this thread run whenever it is ready, before everybody with an ordinary priority; false when that is not ours to ask for.
fn go_first() -> anyhow::Result<bool> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        Ok(()) => Ok(true),
        Err(Error::OS(code)) if code == Errno::PERM.raw_os_error() => Ok(false),
        Err(error) => Err(error).context("real-time priority for the reader"),
    }
}

async fn read_from(address: &str, seconds: u64, source: fn(u64) -> String) -> anyhow::Result<Reads> {
    let mut readers = Vec::new();
    for _ in 0..CONNECTIONS {
        readers.push(Reader::connect(address).await?);
    }
    ask(readers, seconds, source).await
}

/// Says when reads are due: a few every millisecond.
///
/// The kernel's timer, because the runtime's own only know whole milliseconds, and being late by up to one would count as the
/// server's.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
    next: Instant,
}

impl Ticks {
    #[expect(deprecated, reason = "sound for a descriptor that is owned; its successor is not for safe code")]
    fn start() -> anyhow::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let every = Timespec::try_from(TICK)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self { timer: AsyncFd::new(timer)?, next: Instant::now() + TICK })
    }

    /// The times that have come since the last call.
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

/// Reads as they are due.
async fn ask(readers: Vec<Reader>, seconds: u64, source: fn(u64) -> String) -> anyhow::Result<Reads> {
    let mut reads = Reads { latency: Histogram::new(3)?, cached: 0, took: Duration::ZERO, stolen: 0.0, first: false };
    let (mut asked, mut turn, started) = (JoinSet::new(), 0_u64, Instant::now());
    let before = machine::CoreTime::now();
    let mut ticks = Ticks::start()?;
    while turn < READS * seconds {
        for due in ticks.due().await? {
            for _ in 0..READS / 1_000 {
                turn += 1;
                let reader = readers[usize::try_from(turn)? % readers.len()].clone();
                asked.spawn(async move {
                    let answer = reader.status(source(turn)).await?;
                    anyhow::Ok((due.elapsed(), answer.store == i32::from(Store::Cache)))
                });
            }
        }
        while let Some(answer) = asked.try_join_next() {
            reads.take(answer??)?;
        }
    }
    while let Some(answer) = asked.join_next().await {
        reads.take(answer??)?;
    }
    reads.took = started.elapsed();
    reads.stolen = before.stolen_since();
    Ok(reads)
}
