//! An issuer of tokens, as the access policy names it.

use std::path::PathBuf;

/// Who signs tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// How rules call it.
    pub(crate) name: Box<str>,
    /// The claim `iss`.
    pub(crate) issuer: Box<str>,
    /// At least one of them is in the claim `aud`.
    pub(crate) audiences: Vec<String>,
    /// The claim with the groups.
    pub(crate) groups_claim: Box<str>,
    pub(crate) keys: KeyLocation,
    /// The CAs of the server that has the keys; none for those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// The token to fetch the keys with.
    pub(crate) token_file: Option<PathBuf>,
}

/// Where the keys of an issuer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    /// Where the issuer says (OpenID Connect Discovery).
    Discovery,
    Url(Box<str>),
    File(PathBuf),
}
