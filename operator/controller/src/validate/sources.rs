//! Whether servers and processors would take the rule about sources.

use ping_api::crd::sources::{SourcesSpec, StatusNames, Threshold};

use super::{Invalid, conflicting};

/// Kinds of events are at most this long.
const KIND_BYTES: usize = 64;
const AT_LEAST: std::ops::RangeInclusive<i64> = 1..=1_000_000_000;

pub(super) fn sources(spec: &SourcesSpec) -> Result<(), Invalid> {
    let (not_when, yes_when) = (&spec.status.not_when, &spec.status.yes_when);
    threshold("notWhen", not_when)?;
    threshold("yesWhen", yes_when)?;
    if not_when.kind == yes_when.kind && yes_when.at_least >= not_when.at_least {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.notWhen and yesWhen ask for the same kind, \"{}\", and no source could reach yesWhen \
             ({}) without notWhen ({}). Set yesWhen.atLeast below notWhen.atLeast, or ask for different kinds",
            not_when.kind, yes_when.at_least, not_when.at_least
        )));
    }
    names(&spec.status.names)
}

fn threshold(field: &str, Threshold { kind, at_least }: &Threshold) -> Result<(), Invalid> {
    if kind.is_empty() || kind.len() > KIND_BYTES || kind.chars().any(char::is_control) {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.{field}.kind has {} bytes, but kinds of events have 1 to {KIND_BYTES} bytes without control \
             characters: no event could be of it. Set it to the kind that your events say (letters beyond ASCII take 2 \
             to 4 bytes each)",
            kind.len()
        )));
    }
    if !AT_LEAST.contains(at_least) {
        return Err(Invalid::Conflicting(format!(
            "spec.sources.status.{field}.atLeast is {at_least}, but it is a number of events, from 1 to 1000000000. Set it \
             to one of those"
        )));
    }
    Ok(())
}

fn names(StatusNames { not, is, unknown }: &StatusNames) -> Result<(), Invalid> {
    for (field, name) in [("not", not), ("is", is), ("unknown", unknown)] {
        if name.is_empty() || name.contains(',') {
            return Err(Invalid::Conflicting(format!(
                "spec.sources.status.names.{field} is \"{name}\", but a name has at least one character and no comma. Set \
                 it to what callers shall be told"
            )));
        }
    }
    if not == is || is == unknown || not == unknown {
        return Err(conflicting(
            "spec.sources.status.names gives two answers the same name, and callers could not tell them apart. Give not, \
             is and unknown three different names",
        ));
    }
    Ok(())
}
