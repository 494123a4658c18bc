//! What a replica does with the lease that it has read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::LEASE;

/// A version of the lease, and since when this replica has seen no other one.
#[derive(Debug)]
pub(super) struct Observed {
    version: Option<String>,
    since: Instant,
}

impl Observed {
    /// Records what was read at `now`. Returns for how long the lease has not changed.
    pub(super) fn update(observed: &mut Option<Self>, lease: Option<&Lease>, now: Instant) -> Duration {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        match observed {
            Some(last) if last.version == version => now.duration_since(last.since),
            _ => {
                *observed = Some(Self { version, since: now });
                Duration::ZERO
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No replica holds the lease, or its holder did not renew it in time. `transitions`: how often its holder has changed then.
    Take { transitions: i32 },
    /// This replica holds it.
    Renew,
    /// Another replica holds it.
    Wait,
}

/// Decides for the replica `identity` from the lease, if it exists, and how long it has not changed.
pub(super) fn step(lease: Option<&Lease>, identity: &str, unchanged_for: Duration) -> Step {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return Step::Take { transitions: 0 } };
    let take = Step::Take { transitions: spec.lease_transitions.unwrap_or(0).saturating_add(1) };
    match spec.holder_identity.as_deref() {
        None | Some("") => take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if unchanged_for >= seconds.map_or(LEASE, Duration::from_secs) { take } else { Step::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(version: &str, holder: Option<&str>, renewed: &str) -> Lease {
        let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed, "leaseTransitions": 4 });
        serde_json::from_value(json!({ "metadata": { "resourceVersion": version }, "spec": spec })).unwrap()
    }

    #[test]
    fn a_lease_without_holder_is_taken_and_ones_own_is_renewed() {
        assert_eq!(step(None, "me", Duration::ZERO), Step::Take { transitions: 0 });
        let now = "2026-11-30T12:00:00.000000Z";
        assert_eq!(step(Some(&lease("1", None, now)), "me", Duration::ZERO), Step::Take { transitions: 5 });
        assert_eq!(step(Some(&lease("1", Some("me"), now)), "me", Duration::from_secs(60)), Step::Renew);
    }

    #[test]
    fn a_lease_ends_when_it_was_not_changed_for_its_duration_whatever_its_times_are() {
        let start = Instant::now();
        for renewed in ["2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"] {
            let mut observed = None;
            let mut read = |version: &str, seconds: u64| {
                let lease = lease(version, Some("other"), renewed);
                let unchanged_for = Observed::update(&mut observed, Some(&lease), start + Duration::from_secs(seconds));
                step(Some(&lease), "me", unchanged_for)
            };
            assert_eq!(read("1", 100), Step::Wait, "{renewed}: it was not seen before");
            assert_eq!(read("1", 114), Step::Wait);
            assert_eq!(read("2", 115), Step::Wait, "it was renewed");
            assert_eq!(read("2", 129), Step::Wait);
            assert_eq!(read("2", 130), Step::Take { transitions: 5 });
        }
    }
}
