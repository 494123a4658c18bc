//! What the events of a call ask of their caller's quotas.

use std::{collections::HashSet, sync::Arc, time::Duration};

use connectrpc::ConnectError;
use ping_core::Event;
use ping_identity::CallerQuota;
use ping_ports::Name;
use ping_quota::{Charge, Demand, Limit, NewNames, QuotaLimiter};

use super::{Api, access::Session, errors, record::kind_name};

/// Budgets of the limits that hold for all callers. Those of quotas begin with a word.
const ALL_SOURCES: &str = "/sources";
const KIND_NAMES: &str = "/kinds";
/// How long a batch of a stream waits for a quota. It holds memory that other callers need meanwhile.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an event besides source and kind: id and time.
const EVENT_BYTES: u64 = 24;

impl Api {
    /// Admits the events within the caller's quotas, or refuses all of them at once.
    pub(super) async fn admit(&self, session: &Session, events: &[Event]) -> Result<(), ConnectError> {
        match (&self.quotas, self.demand(session, events)) {
            (Some(limiter), Some(demand)) => limiter.admit(&demand).await.map_err(|error| errors::over_quota(&error)),
            _ => Ok(()),
        }
    }

    /// Admits a batch of a stream as soon as it fits.
    pub(super) async fn admit_when_it_fits(&self, demand: Option<Demand>) -> Result<(), ConnectError> {
        let (Some(limiter), Some(demand)) = (&self.quotas, demand) else { return Ok(()) };
        let admitted = limiter.admit_when_it_fits(&demand, STREAM_TIMEOUT).await;
        admitted.map_err(|error| errors::over_quota(&error))
    }

    /// What the events ask of the caller's quotas, and of the limits that hold for all callers; none if nothing limits them.
    pub(super) fn demand(&self, session: &Session, events: &[Event]) -> Option<Demand> {
        let limiter = self.quotas.as_ref()?;
        let mut demand = Demand::default();
        let mut names = Vec::new();
        add_limited_sources(&mut names, limiter, events);
        for quota in session.quotas() {
            let covered = || events.iter().filter(|event| quota.covers(&event.source, kind_name(event)));
            let count = covered().count() as u64;
            if count == 0 {
                continue;
            }
            demand.events.push((Arc::clone(quota.name()), count));
            add_charges(&mut demand, quota, count, covered().map(size).sum());
            add_names(&mut names, quota, limiter, covered());
        }
        add_kind_names(&mut names, limiter, events);
        if !names.is_empty() {
            demand.names = names.into();
        }
        (!demand.events.is_empty() || !demand.names.is_empty()).then_some(demand)
    }
}

/// Adds the sources that the server does not know, if no new one may be added.
fn add_limited_sources(unknown: &mut Vec<NewNames>, limiter: &QuotaLimiter, events: &[Event]) {
    let Some(most) = limiter.reached_sources() else { return };
    let is_unknown = |source: &str| !source.is_empty() && !limiter.knows(ALL_SOURCES, source, None);
    let sources: HashSet<&str> =
        events.iter().map(|event| &*event.source).filter(|source| is_unknown(source)).collect();
    let names = sources.into_iter().map(|source| Name::Source(source.into()));
    add_limited(unknown, (Limit::AllSources, ALL_SOURCES, most), names.collect());
}

/// Adds the names of kinds that the server does not know, whatever their source.
fn add_kind_names(unknown: &mut Vec<NewNames>, limiter: &QuotaLimiter, events: &[Event]) {
    let Some(per_day) = limiter.kind_names_per_day() else { return };
    // Most batches have few kinds, next to each other.
    let (mut kinds, mut previous) = (HashSet::new(), "");
    for Event { kind, .. } in events {
        if !kind.is_empty() && **kind != *previous && !limiter.knows(KIND_NAMES, "", Some(kind)) {
            kinds.insert(&**kind);
        }
        previous = kind;
    }
    let names = kinds.into_iter().map(|kind| Name::Kind { source: "".into(), kind: kind.into() });
    add_limited(unknown, (Limit::KindNames, KIND_NAMES, per_day), names.collect());
}

fn add_limited(unknown: &mut Vec<NewNames>, (limit, budget, per_day): (Limit, &str, u64), names: Vec<Name>) {
    if !names.is_empty() {
        unknown.push(NewNames { quota: limit.as_str().into(), budget: budget.into(), limit, per_day, names });
    }
}

/// The bytes that a quota counts for an event.
fn size(event: &Event) -> u64 {
    EVENT_BYTES + (event.source.len() + event.kind.len()) as u64
}

fn add_charges(demand: &mut Demand, quota: &CallerQuota, events: u64, bytes: u64) {
    let limits = quota.limits();
    let [events_key, bytes_key, ..] = quota.keys();
    for (limit, amount, per_second, bucket) in [
        (Limit::Events, events, limits.events_per_second, events_key),
        (Limit::Bytes, bytes, limits.bytes_per_second, bytes_key),
    ] {
        let Some(per_second) = per_second else { continue };
        demand.charges.push(Charge {
            quota: Arc::clone(quota.name()),
            bucket: Arc::clone(bucket),
            limit,
            amount,
            per_second,
            burst_seconds: limits.burst_seconds,
        });
    }
}

/// Adds the names that the server does not know. Events without a source have none: they are in no view.
fn add_names<'a>(
    unknown: &mut Vec<NewNames>,
    quota: &CallerQuota,
    limiter: &QuotaLimiter,
    events: impl Iterator<Item = &'a Event> + Clone,
) {
    let limits = quota.limits();
    let [.., sources_key, kinds_key] = quota.keys();
    for (limit, per_day, budget) in
        [(Limit::Sources, limits.new_sources_per_day, sources_key), (Limit::Kinds, limits.new_kinds_per_day, kinds_key)]
    {
        let Some(per_day) = per_day else { continue };
        let mut names = HashSet::new();
        for Event { source, kind, .. } in events.clone().filter(|event| !event.source.is_empty()) {
            let kind = (limit == Limit::Kinds).then_some(&**kind);
            if !limiter.knows(budget, source, kind) {
                names.insert((&**source, kind));
            }
        }
        if names.is_empty() {
            continue;
        }
        let name = |(source, kind): (&str, Option<&str>)| match kind {
            None => Name::Source(source.into()),
            Some(kind) => Name::Kind { source: source.into(), kind: kind.into() },
        };
        unknown.push(NewNames {
            quota: Arc::clone(quota.name()),
            budget: Arc::clone(budget),
            limit,
            per_day,
            names: names.into_iter().map(name).collect(),
        });
    }
}
