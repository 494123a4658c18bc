//! Who a caller is, and what it may do.
//!
//! The access policy, the checks of tokens and the authorization are pure. Three files do I/O: `authenticator.rs` watches the policy's
//! file, `issuer_keys.rs` decides when to fetch the keys of an issuer, and `fetch.rs` fetches them. Signatures are checked by ring.

mod authenticator;
mod bearer;
mod caller;
mod error;
mod fetch;
mod grants;
mod identity;
mod issuer;
mod issuer_keys;
mod jwt;
mod key_set;
mod pattern;
mod permission;
mod policy;
mod quota;
mod ring_verifier;

pub use authenticator::{Authenticator, Certificate, Credentials, Lookup, PolicyWatch, Verification};
pub use caller::Caller;
pub use error::{AuthenticationError, MAX_TOKEN_BYTES};
pub use grants::{Denied, Extent};
pub use permission::Permission;
pub use policy::{AccessPolicy, PolicyError};
pub use quota::{CallerQuota, QuotaLimits};
