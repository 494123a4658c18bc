//! Authenticates callers by the current version of the access policy, and replaces the policy when its file changes.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use ping_runtime::files;
use quick_cache::{Weighter, sync::Cache};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    AccessPolicy, AuthenticationError, bearer,
    caller::Caller,
    identity::Identity,
    issuer::Issuer,
    issuer_keys::IssuerKeys,
    jwt::{self, Claimed},
    key_set::KeySet,
    ring_verifier,
};

/// Callers with a verified token or certificate that are remembered.
const CACHED_CALLERS: usize = 4_096;
/// Bytes that they may occupy together.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// Largest file of an access policy, in bytes.
const MAX_POLICY_BYTES: usize = 1024 * 1024;

/// A certificate that the TLS handshake has verified.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// When it expires, in seconds since the Unix epoch.
    pub expires: i64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

/// What a call proves its caller with. A token counts before a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The header `authorization`. A request with several of them has no caller to authenticate.
    pub authorization: Option<&'a [u8]>,
    /// The certificate of the connection.
    pub certificate: Option<Certificate<'a>>,
}

/// The result of [`Authenticator::authenticate`].
pub enum Lookup {
    /// The caller, or why it is refused.
    Known(Result<Arc<Caller>, AuthenticationError>),
    /// The token may be valid, but the keys of its issuer have to be fetched first.
    Unknown(Verification),
}

/// Authenticates callers. Cheap to clone; clones share the policy.
#[derive(Clone)]
pub struct Authenticator(Arc<RwLock<Arc<Version>>>);

/// One version of the policy, and the callers that it has authenticated.
struct Version {
    number: u64,
    policy: AccessPolicy,
    tokens: HashMap<[u8; 32], Arc<Caller>>,
    anonymous: Arc<Caller>,
    /// By the claim `iss`.
    issuers: HashMap<Box<str>, Arc<IssuerKeys>>,
    verified: Cache<[u8; 32], Arc<Caller>, BySize>,
}

#[derive(Clone)]
struct BySize;

impl Weighter<[u8; 32], Arc<Caller>> for BySize {
    fn weight(&self, _: &[u8; 32], caller: &Arc<Caller>) -> u64 {
        caller.size() as u64
    }
}

impl Version {
    /// Versions of one process have different numbers.
    fn new(policy: AccessPolicy, known: &HashMap<Box<str>, Arc<IssuerKeys>>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        // An issuer that stays the same keeps its keys.
        let keys = |issuer: &Arc<Issuer>| match known.get(&issuer.issuer) {
            Some(keys) if keys.issuer == *issuer => Arc::clone(keys),
            _ => Arc::new(IssuerKeys::new(Arc::clone(issuer))),
        };
        Self {
            number,
            tokens: policy.token_callers(number),
            anonymous: Arc::new(policy.caller(Identity::Anonymous, None, number)),
            issuers: policy.issuers().map(|issuer| (issuer.issuer.clone(), keys(issuer))).collect(),
            verified: Cache::with_weighter(CACHED_CALLERS, CACHE_BYTES, BySize),
            policy,
        }
    }

    fn by_certificate(&self, certificate: Certificate<'_>, now: i64) -> Result<Arc<Caller>, AuthenticationError> {
        if certificate.expires <= now {
            return Err(AuthenticationError::Expired);
        }
        if let Some(caller) = self.verified.get(&certificate.digest) {
            return Ok(caller);
        }
        let name = certificate.name.ok_or(AuthenticationError::Certificate)?.into();
        let caller = self.policy.caller(Identity::Certificate { name }, Some(certificate.expires), self.number);
        Ok(self.remember(certificate.digest, caller))
    }

    /// Whether the key that signed the credentials is still published. Credentials without one are not affected.
    fn is_key_published(&self, identity: &Identity) -> bool {
        let Identity::Issued { issuer, key, .. } = identity else { return true };
        let keys = self.issuers.get(&issuer.issuer).and_then(|issuer| issuer.current());
        keys.is_some_and(|keys| keys.has(key))
    }

    fn remember(&self, digest: [u8; 32], caller: Caller) -> Arc<Caller> {
        let caller = Arc::new(caller);
        self.verified.insert(digest, Arc::clone(&caller));
        caller
    }

    /// Verifies a token with `keys`, those of its issuer.
    fn verify(
        &self,
        token: &str,
        digest: [u8; 32],
        claimed: &Claimed,
        issuer: &IssuerKeys,
        keys: &KeySet,
    ) -> Result<Arc<Caller>, AuthenticationError> {
        let key = keys.find(claimed.key_id.as_deref(), claimed.algorithm);
        let key = key.ok_or_else(|| AuthenticationError::Key(issuer.issuer.name.clone()))?;
        let (identity, expires) = jwt::verify(token, key, &issuer.issuer)?;
        Ok(self.remember(digest, self.policy.caller(identity, Some(expires), self.number)))
    }
}

impl Authenticator {
    /// Authenticates by `policy`. Keys of issuers are fetched when the first token needs them.
    #[must_use]
    pub fn new(policy: AccessPolicy) -> Self {
        ring_verifier::install();
        Self(Arc::new(RwLock::new(Arc::new(Version::new(policy, &HashMap::new())))))
    }

    /// Replaces the policy. Callers are authenticated again.
    pub fn replace(&self, policy: AccessPolicy) {
        let version = Version::new(policy, &self.current().issuers);
        *self.0.write() = Arc::new(version);
    }

    /// The caller with these credentials at `now`, in seconds since the Unix epoch.
    #[must_use]
    pub fn authenticate(&self, credentials: Credentials<'_>, now: i64) -> Lookup {
        let version = self.current();
        let Some(header) = credentials.authorization else {
            return Lookup::Known(match credentials.certificate {
                Some(certificate) => version.by_certificate(certificate, now),
                None => Ok(Arc::clone(&version.anonymous)),
            });
        };
        let token = match bearer::token(header) {
            Ok(token) => token,
            Err(error) => return Lookup::Known(Err(error)),
        };
        let digest = bearer::sha256(token);
        if let Some(caller) = version.tokens.get(&digest) {
            return Lookup::Known(Ok(Arc::clone(caller)));
        }
        let is_valid = |caller: &Arc<Caller>| !caller.is_expired(now) && version.is_key_published(&caller.identity);
        if let Some(caller) = version.verified.get(&digest).filter(is_valid) {
            return Lookup::Known(Ok(caller));
        }
        by_jwt(version, token, digest).unwrap_or_else(|error| Lookup::Known(Err(error)))
    }

    /// A caller without credentials.
    #[must_use]
    pub fn anonymous(&self) -> Arc<Caller> {
        Arc::clone(&self.current().anonymous)
    }

    /// The caller by the current version of the policy at `now`, for a stream whose call began earlier.
    ///
    /// # Errors
    /// When its credentials have expired or been revoked.
    pub fn renew(&self, caller: &Arc<Caller>, now: i64) -> Result<Arc<Caller>, AuthenticationError> {
        if caller.is_expired(now) {
            return Err(AuthenticationError::Expired);
        }
        let version = self.current();
        if !version.is_key_published(&caller.identity) {
            return Err(AuthenticationError::Revoked);
        }
        if caller.version == version.number {
            return Ok(Arc::clone(caller));
        }
        if !version.policy.accepts(&caller.identity) {
            return Err(AuthenticationError::Revoked);
        }
        Ok(Arc::new(version.policy.caller(caller.identity.clone(), caller.expires, version.number)))
    }

    fn current(&self) -> Arc<Version> {
        Arc::clone(&self.0.read())
    }
}

fn by_jwt(version: Arc<Version>, token: &str, digest: [u8; 32]) -> Result<Lookup, AuthenticationError> {
    if !jwt::is_jwt(token) {
        return Err(AuthenticationError::UnknownToken);
    }
    let claimed = jwt::claimed(token)?;
    let issuer = version.issuers.get(claimed.issuer.as_str()).cloned().ok_or(AuthenticationError::Issuer)?;
    let found = |keys: &Arc<KeySet>| keys.find(claimed.key_id.as_deref(), claimed.algorithm).is_some();
    match issuer.current().filter(found) {
        Some(keys) => Ok(Lookup::Known(version.verify(token, digest, &claimed, &issuer, &keys))),
        None => Ok(Lookup::Unknown(Verification { version, token: token.into(), digest, claimed, issuer })),
    }
}

/// A token whose key is not known.
pub struct Verification {
    version: Arc<Version>,
    token: Box<str>,
    digest: [u8; 32],
    claimed: Claimed,
    issuer: Arc<IssuerKeys>,
}

impl Verification {
    /// Fetches the keys of the issuer, unless that was a moment ago, and verifies the token.
    ///
    /// # Errors
    /// When the token is invalid, or there are no keys.
    pub async fn run(self) -> Result<Arc<Caller>, AuthenticationError> {
        let Self { version, token, digest, claimed, issuer } = self;
        let keys = issuer.refreshed(|keys| keys.find(claimed.key_id.as_deref(), claimed.algorithm).is_some()).await;
        let keys = keys.ok_or_else(|| AuthenticationError::KeysUnavailable(issuer.issuer.name.clone()))?;
        version.verify(&token, digest, &claimed, &issuer, &keys)
    }
}

/// Reads the access policy from its file, and again when it changes.
pub struct PolicyWatch {
    authenticator: Authenticator,
    files: files::Watch,
    fetching: HashMap<Box<str>, (Arc<IssuerKeys>, AbortHandle)>,
}

impl PolicyWatch {
    /// Reads the policy.
    ///
    /// # Errors
    /// When the file cannot be read, or the policy is invalid. The message names the file and the entry.
    pub async fn open(path: PathBuf) -> Result<Self, String> {
        let (files, contents) = files::Watch::open(vec![path.clone()]).await?;
        let authenticator = Authenticator::new(parse(&path, &contents)?);
        Ok(Self { authenticator, files, fetching: HashMap::new() })
    }

    /// Authenticates by the current policy.
    #[must_use]
    pub fn authenticator(&self) -> Authenticator {
        self.authenticator.clone()
    }

    /// Replaces the policy when its file changes, and keeps the keys of its issuers fresh. Never ends. A file that is invalid leaves
    /// the old policy in place and calls `failed`.
    pub async fn run(mut self, failed: impl Fn() + Send) {
        let mut tasks = JoinSet::new();
        loop {
            self.fetch_keys(&mut tasks);
            let path = self.files.paths()[0].clone();
            match self.files.changed().await.and_then(|contents| parse(&path, &contents)) {
                Ok(policy) => {
                    self.authenticator.replace(policy);
                    tracing::info!(file = %path.display(), "the access policy has changed");
                }
                Err(error) => {
                    failed();
                    tracing::error!(error, "the access policy cannot be used; the old one stays");
                }
            }
        }
    }

    /// Starts to fetch the keys of new issuers, and stops it for those that are gone.
    fn fetch_keys(&mut self, tasks: &mut JoinSet<()>) {
        // Forgets those that have been stopped.
        while tasks.try_join_next().is_some() {}
        let version = self.authenticator.current();
        let issuers = &version.issuers;
        self.fetching.retain(|name, (keys, task)| {
            let stays = issuers.get(name).is_some_and(|current| Arc::ptr_eq(current, keys));
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, keys) in issuers {
            self.fetching.entry(name.clone()).or_insert_with(|| {
                let fetched = Arc::clone(keys);
                (Arc::clone(keys), tasks.spawn(async move { fetched.keep_fresh().await }))
            });
        }
    }
}

fn parse(path: &std::path::Path, contents: &[Vec<u8>]) -> Result<AccessPolicy, String> {
    let yaml = contents.first().map_or(&[][..], Vec::as_slice);
    let path = path.display();
    if yaml.len() > MAX_POLICY_BYTES {
        return Err(format!("the access policy {path} has {} bytes; the limit is {MAX_POLICY_BYTES}", yaml.len()));
    }
    let policy = AccessPolicy::parse(yaml).map_err(|error| format!("the access policy {path} is invalid: {error}"))?;
    for warning in policy.warnings() {
        tracing::warn!("the access policy {path}: {warning}");
    }
    Ok(policy)
}
