//! Checks the status rule and the limits of names. Servers and processors would not start with an invalid one.

use ping_api::crd::sources::{SourcesSpec, StatusLabels, Threshold};

use super::invalid::{Invalid, conflicting};

/// Longest kind of an event, in bytes.
const MAX_KIND_BYTES: usize = 64;
/// Range of `atLeast`.
const AT_LEAST: std::ops::RangeInclusive<i64> = 1..=1_000_000_000;

/// Range of `newKindNamesPerDay`.
const NEW_KINDS: std::ops::RangeInclusive<i32> = 0..=1_000_000;

pub(super) fn sources(spec: &SourcesSpec) -> Result<(), Invalid> {
    let (negative_when, positive_when) = (&spec.status.negative_when, &spec.status.positive_when);
    threshold("negativeWhen", negative_when)?;
    threshold("positiveWhen", positive_when)?;
    if negative_when.kind == positive_when.kind && positive_when.at_least >= negative_when.at_least {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.negativeWhen and positiveWhen use the same kind, \"{}\", so every source that reached \
             positiveWhen ({}) would be negative already ({}). Set positiveWhen.atLeast below negativeWhen.atLeast, or use \
             different kinds",
            negative_when.kind, positive_when.at_least, negative_when.at_least
        )));
    }
    limits(spec)?;
    labels(&spec.status.labels)
}

fn limits(SourcesSpec { max_sources, new_kind_names_per_day, .. }: &SourcesSpec) -> Result<(), Invalid> {
    if *max_sources < 0 {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.maxSources is {max_sources}. Set it to a number of sources, or to 0 for no limit"
        )));
    }
    if !NEW_KINDS.contains(new_kind_names_per_day) {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.newKindNamesPerDay is {new_kind_names_per_day}. Set it to a number of kinds from 1 to 1000000, or to 0 for no limit"
        )));
    }
    Ok(())
}

fn threshold(field: &str, Threshold { kind, at_least }: &Threshold) -> Result<(), Invalid> {
    if kind.is_empty() || kind.len() > MAX_KIND_BYTES || kind.chars().any(char::is_control) {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.{field}.kind has {} bytes, but kinds have 1 to {MAX_KIND_BYTES} bytes without control \
             characters, so no event could match. Set it to the kind of your events (non-ASCII characters take 2 to 4 bytes \
             each)",
            kind.len()
        )));
    }
    if !AT_LEAST.contains(at_least) {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.{field}.atLeast is {at_least}. Set it to a number of events from 1 to 1000000000"
        )));
    }
    Ok(())
}

fn labels(StatusLabels { negative, positive, unknown }: &StatusLabels) -> Result<(), Invalid> {
    for (field, label) in [("negative", negative), ("positive", positive), ("unknown", unknown)] {
        if label.is_empty() || label.contains(',') {
            return Err(Invalid::Conflicting(format!(
                "spec.sources.status.labels.{field} is \"{label}\". Set it to a label with at least one character and no comma"
            )));
        }
    }
    if negative == positive || positive == unknown || negative == unknown {
        return Err(conflicting(
            "spec.sources.status.labels contains the same label twice, so callers could not tell the statuses apart. Give \
             negative, positive and unknown three different labels",
        ));
    }
    Ok(())
}
