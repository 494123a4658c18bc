//! The network between each two programs fails: cut in one direction or both, slow, losing packets. `CUT_SECONDS=n` sets how long a link is cut
//! (default 1).

use std::time::{Duration, Instant};

use ping_runtime::env;
use ping_testbed::{
    Kafka, Parts, Postgres, Redis,
    link::{Link, LinkState},
    ports::free_port,
};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::sleep;

use crate::{
    callers::{Load, now},
    check_answers, finish, flowing,
    processes::{Pingd, TIMEOUT},
    start_load, works_for,
};

/// How long all links are slow, or lose packets.
const BAD_SECONDS: u64 = 8;
pub(crate) const DELAY: Duration = Duration::from_millis(200);
pub(crate) const LOSS_PERCENT: u8 = 5;

/// A link between two programs, and what works while it is cut.
struct NamedLink {
    name: &'static str,
    link: Link,
    /// Events are acknowledged.
    writes: bool,
    /// Counts are answered.
    reads: bool,
}

/// A pipeline whose programs reach each other only through links.
struct Network {
    parts: Parts,
    server: Pingd,
    processor: Pingd,
    links: Vec<NamedLink>,
}

impl Network {
    async fn start() -> Self {
        let kafka_links = [free_port().unwrap(), free_port().unwrap()];
        let (kafka, postgres, redis) =
            tokio::try_join!(Kafka::start_behind(&kafka_links), Postgres::start(), Redis::start()).unwrap();
        let parts = Parts { postgres, kafka, redis };
        Pingd::migrate(&parts).await;
        let mut links = Vec::new();
        let mut programs = Vec::new();
        for (number, program) in ["server", "processor"].into_iter().enumerate() {
            let postgres = Link::start(free_port().unwrap(), parts.postgres.port()).await.unwrap();
            let kafka = Link::start(kafka_links[number], parts.kafka.linked_ports()[number]).await.unwrap();
            let cache = Link::start(free_port().unwrap(), parts.redis.port()).await.unwrap();
            let through = |url: String, port: u16, link: &Link| {
                assert!(url.contains(&format!(":{port}")), "{url}");
                url.replace(&format!(":{port}"), &format!(":{}", link.port()))
            };
            programs.push(vec![
                (env::POSTGRES_URL, through(parts.postgres.url(), parts.postgres.port(), &postgres)),
                (env::KAFKA_BROKERS, format!("127.0.0.1:{}", kafka.port())),
                (env::CACHE_URL, through(parts.redis.url(), parts.redis.port(), &cache)),
            ]);
            let names = match program {
                "server" => ["server to Postgres", "server to Kafka", "server to cache"],
                _ => ["processor to Postgres", "processor to Kafka", "processor to cache"],
            };
            for (name, link) in names.into_iter().zip([postgres, kafka, cache]) {
                links.push(NamedLink { name, link, writes: name != "server to Postgres", reads: true });
            }
        }
        let [processor, server] = [programs.pop().unwrap(), programs.pop().unwrap()];
        let (server, processor) =
            tokio::join!(Pingd::start_with_env("server", server), Pingd::start_with_env("processor", processor));
        let api = server.api.rsplit(':').next().unwrap().parse().unwrap();
        let link = Link::start(free_port().unwrap(), api).await.unwrap();
        links.push(NamedLink { name: "client to server", link, writes: false, reads: false });
        Self { parts, server, processor, links }
    }

    /// The server's address for clients.
    fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.links.last().unwrap().link.port())
    }

    /// Waits until the cache answers with an exact count that includes everything acknowledged before now; returns how long it took.
    async fn exact(&self) -> Duration {
        let (started, since) = (Instant::now(), now() / 1_000);
        loop {
            // Not through the link: a connection that was cut may be busy with what it missed.
            if let Ok((200, answer)) = self.server.call("PingCount", &json!({})).await {
                let as_of: i64 = answer["asOfMs"].as_str().unwrap().parse().unwrap();
                if answer["exact"] == true && answer["store"] == "STORE_CACHE" && as_of >= since {
                    return started.elapsed();
                }
            }
            assert!(started.elapsed() < TIMEOUT, "{}\n{}", self.server.log_tail(), self.processor.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn cut_duration() -> Duration {
    let seconds = std::env::var("CUT_SECONDS").ok().filter(|seconds| !seconds.is_empty());
    Duration::from_secs(seconds.map_or(1, |seconds| seconds.parse().expect("CUT_SECONDS is a whole number")))
}

/// Cuts `link` for `duration`, or until what must work has worked, and reports what worked meanwhile and how long it took to recover.
async fn cut(network: &Network, load: &Load, cut: &NamedLink, state: LinkState, duration: Duration) {
    let started = Instant::now();
    cut.link.set(state);
    let works = works_for(load, duration, cut.writes, cut.reads).await;
    let duration = started.elapsed();
    cut.link.set(LinkState::default());
    let (events, counts) = works.unwrap_or_else(|wrong| panic!("{}: {wrong}\n{}", cut.name, network.server.log_tail()));
    let (flowing, exact) = tokio::join!(flowing(load), network.exact());
    let direction = match (state.requests_cut, state.responses_cut) {
        (true, true) => "both directions",
        (true, false) => "requests",
        _ => "responses",
    };
    println!(
        "{}, {direction} cut for {duration:?}: meanwhile {events} events acknowledged and {counts} counts answered; then acknowledged after {flowing:?}, exact after {exact:?}",
        cut.name
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_slow_or_lossy_costs_nothing_but_time() {
    let network = Network::start().await;
    let (load, callers) = start_load(&network.api());
    flowing(&load).await;
    let duration = cut_duration();
    for link in &network.links {
        for (requests_cut, responses_cut) in [(true, false), (false, true), (true, true)] {
            let state = LinkState { requests_cut, responses_cut, ..LinkState::default() };
            cut(&network, &load, link, state, duration).await;
        }
    }
    for (what, state) in [
        ("200 ms more in each direction", LinkState { delay: DELAY, ..LinkState::default() }),
        ("5 % loss", LinkState { loss_percent: LOSS_PERCENT, ..LinkState::default() }),
    ] {
        network.links.iter().for_each(|link| link.link.set(state));
        let works = works_for(&load, Duration::from_secs(BAD_SECONDS), true, true).await;
        let (events, counts) = works.unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{}", network.server.log_tail()));
        network.links.iter().for_each(|link| link.link.set(LinkState::default()));
        let exact = network.exact().await;
        println!(
            "every link, {what} for {BAD_SECONDS} s: {events} events acknowledged, {counts} counts answered; exact after {exact:?}"
        );
    }
    let pool = PgPool::connect(&network.parts.postgres.url()).await.unwrap();
    finish(&load, callers, &network.parts, &pool, &[&network.server, &network.processor]).await;
    check_answers(&load);
}
