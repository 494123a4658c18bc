//! Accepts connections, encrypts them, and bounds what they use: memory, connections, streams, time.
//!
//! HTTP only: this crate knows neither messages nor methods. What it bounds is the caller's doing, so every limit is a setting, and
//! every limit that is reached is a metric.

mod account;
mod body;
mod budget;
mod caller;
mod connections;
mod metrics;
mod response;
mod scope;
mod serve;
mod settings;
mod stream;
mod tls;

pub use account::{Account, UnreadBody};
pub use body::{Body, BodyError};
pub use budget::{Budget, Charge};
pub use caller::{CallerAddress, TrustedProxies};
pub use metrics::TransportMetrics;
pub use response::Complete;
pub use scope::RequestScope;
pub use serve::{BUDGET_TIMEOUT, STREAM_WINDOW_BYTES, Transport, serve};
pub use settings::TransportSettings;
pub use tls::{PeerCertificate, Tls, TlsConfig, TlsError, TlsMetrics, TlsPem};
