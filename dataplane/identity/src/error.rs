//! Why a caller is not authenticated.

/// Longest token, in bytes. Longer ones are refused before any work.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why credentials are refused. No message repeats a part of a token.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthenticationError {
    /// No credentials, and anonymous callers lack the permission.
    #[error(
        "the call has no credentials, and anonymous callers lack the permission \"{0}\"; send the header `authorization: Bearer TOKEN` \
             (pingctl: --token-file), or connect with a client certificate"
    )]
    Missing(&'static str),
    /// The header is not `Bearer TOKEN`.
    #[error("the header `authorization` cannot be read; send one, of the form `Bearer TOKEN`")]
    Scheme,
    /// The token is too long.
    #[error("the token has {0} bytes; the limit is {MAX_TOKEN_BYTES}")]
    TooLong(usize),
    /// Neither a static token nor a JWT.
    #[error("the token is not in the server's access policy; it may be revoked or mistyped")]
    UnknownToken,
    /// A JWT that cannot be read.
    #[error(
        "the token is not a valid JWT with the claims iss, sub, aud and exp, signed by RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
             ES384 or EdDSA"
    )]
    Malformed,
    /// An algorithm that needs a shared secret.
    #[error(
        "the token's algorithm is not allowed; have it signed by RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
    )]
    Algorithm,
    /// No issuer of the access policy.
    #[error("the token's issuer (claim iss) is not in the server's access policy")]
    Issuer,
    /// The issuer has no such key.
    #[error("the token is signed with a key that its issuer \"{0}\" does not publish; get a new token")]
    Key(Box<str>),
    /// The signature does not match.
    #[error("the token's signature is invalid; get a new token from its issuer \"{0}\"")]
    Signature(Box<str>),
    /// The time of `exp` has passed.
    #[error("the credentials have expired; get new ones, and check the clocks of both machines")]
    Expired,
    /// The time of `nbf` has not come.
    #[error("the token is not valid yet (claim nbf); check the clocks of both machines")]
    Premature,
    /// Another audience.
    #[error("the token is for another audience (claim aud); request one for \"{0}\"")]
    Audience(Box<str>),
    /// The issuer's keys cannot be fetched.
    #[error(
        "the keys of the issuer \"{0}\" are unavailable, so the token cannot be checked; retry, and look for the cause in the server's log"
    )]
    KeysUnavailable(Box<str>),
    /// The certificate has no name.
    #[error("the client certificate has no URI or DNS name and no common name; use one that has")]
    Certificate,
    /// The policy has changed since.
    #[error("the credentials have been revoked")]
    Revoked,
}

impl AuthenticationError {
    /// The values of [`reason`](Self::reason).
    pub const REASONS: [&str; 15] = [
        "missing",
        "scheme",
        "too_long",
        "unknown_token",
        "malformed",
        "algorithm",
        "issuer",
        "key",
        "signature",
        "expired",
        "premature",
        "audience",
        "keys_unavailable",
        "certificate",
        "revoked",
    ];

    /// A word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let [
            missing,
            scheme,
            too_long,
            unknown,
            malformed,
            algorithm,
            issuer,
            key,
            signature,
            expired,
            premature,
            audience,
            unavailable,
            certificate,
            revoked,
        ] = Self::REASONS;
        match self {
            Self::Missing(_) => missing,
            Self::Scheme => scheme,
            Self::TooLong(_) => too_long,
            Self::UnknownToken => unknown,
            Self::Malformed => malformed,
            Self::Algorithm => algorithm,
            Self::Issuer => issuer,
            Self::Key(_) => key,
            Self::Signature(_) => signature,
            Self::Expired => expired,
            Self::Premature => premature,
            Self::Audience(_) => audience,
            Self::KeysUnavailable(_) => unavailable,
            Self::Certificate => certificate,
            Self::Revoked => revoked,
        }
    }
}
