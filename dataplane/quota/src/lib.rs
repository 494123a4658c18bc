//! Quotas: how much callers may send. All servers share them through the store of record (`docs/adr/0030`).
//!
//! A server takes what its callers need from a shared bucket in steps, and uses it without asking again. Here belongs what decides when
//! to take, to return and to refuse. Who has which quota is the matter of `ping-identity`.

mod bucket;
mod demand;
mod exchange;
mod limiter;
mod metrics;
mod name_limits;
mod names;

pub use demand::{Charge, Demand, Limit, NewNames, QuotaRefusal};
pub use limiter::QuotaLimiter;
pub use metrics::QuotaMetrics;
pub use name_limits::{NameLimits, SourceLimitWatch};
