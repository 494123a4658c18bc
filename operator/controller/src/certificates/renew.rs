//! Issues what the plan asks for.

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::{
    AUTHORITY_LIFETIME, AuthorityStep, BUNDLE, CERTIFICATE, CLOCK_SKEW, KEY, NEXT, SIGNER, SecretData, Usage,
    WantedCertificate,
    parsed::{Parsed, certificates as split},
    plan,
};

/// A certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused a name or a key.
    #[error("cannot issue a certificate")]
    Issue(#[from] rcgen::Error),
    /// The authority's Secret was changed by another client.
    #[error(
        "the Secret of the certificate authority holds a key that cannot be read; delete the Secret, and a new one is issued"
    )]
    Authority,
}

/// The Secrets as they must be from now on.
#[derive(Clone, PartialEq, Eq)]
pub struct Renewed {
    /// That of the authority.
    pub authority: SecretData,
    /// Those of the certificates, in the given order.
    pub certificates: Vec<SecretData>,
}

/// Carries out the plan: returns all Secrets, the unchanged ones included.
///
/// # Errors
/// If a name is not valid, or the authority's key cannot be read.
pub fn renew(
    authority: Option<&SecretData>,
    wanted: &[(WantedCertificate, Option<&SecretData>)],
    now: i64,
) -> Result<Renewed, CertificateError> {
    let (step, stale) = plan(authority, wanted, now);
    let authority = advance(authority, step, now)?;
    let mut certificates = Vec::new();
    for ((wanted, data), is_stale) in wanted.iter().zip(stale) {
        certificates.push(match data {
            Some(data) if !is_stale => (*data).clone(),
            _ => issue(wanted, &authority, now)?,
        });
    }
    Ok(Renewed { authority, certificates })
}

/// The authority's Secret after `step`.
fn advance(before: Option<&SecretData>, step: AuthorityStep, now: i64) -> Result<SecretData, CertificateError> {
    let mut data = before.cloned().unwrap_or_default();
    match step {
        AuthorityStep::Keep => {}
        AuthorityStep::Create => {
            for key in NEXT {
                data.remove(key);
            }
            data.extend(create(SIGNER, now)?);
        }
        AuthorityStep::AddNext => data.extend(create(NEXT, now)?),
        AuthorityStep::Promote => {
            for (from, to) in NEXT.into_iter().zip(SIGNER) {
                if let Some(value) = data.remove(from) {
                    data.insert(to.into(), value);
                }
            }
        }
    }
    let bundle = bundle(&data, now);
    data.insert(BUNDLE.into(), bundle);
    Ok(data)
}

/// What clients trust: the authority that signs, the next one, and earlier ones that have not expired.
fn bundle(data: &SecretData, now: i64) -> ByteString {
    let found = [SIGNER[0], NEXT[0], BUNDLE].into_iter().filter_map(|key| data.get(key));
    let mut trusted: Vec<String> = Vec::new();
    for certificate in found.flat_map(|ByteString(pem)| split(pem)) {
        let is_expired = Parsed::first(certificate.as_bytes()).is_none_or(|parsed| now >= parsed.not_after);
        if !is_expired && !trusted.contains(&certificate) {
            trusted.push(certificate);
        }
    }
    ByteString(trusted.concat().into_bytes())
}

/// A new authority, under these Secret keys. Its name is unique, so that certificates tell which one issued them.
fn create([certificate, key]: [&str; 2], now: i64) -> Result<[(String, ByteString); 2], CertificateError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, format!("ping-operator {:016x}", rand::random::<u64>()));
    set_validity(&mut params, now, now + AUTHORITY_LIFETIME);
    let pair = KeyPair::generate()?;
    Ok([(certificate.into(), bytes(params.self_signed(&pair)?.pem())), (key.into(), bytes(pair.serialize_pem()))])
}

fn issue(wanted: &WantedCertificate, authority: &SecretData, now: i64) -> Result<SecretData, CertificateError> {
    let [certificate, key] =
        SIGNER.map(|key| authority.get(key).and_then(|ByteString(pem)| std::str::from_utf8(pem).ok()));
    let (certificate, key) = certificate.zip(key).ok_or(CertificateError::Authority)?;
    let signer = Parsed::first(certificate.as_bytes()).ok_or(CertificateError::Authority)?;
    let key = KeyPair::from_pem(key).map_err(|_| CertificateError::Authority)?;
    let issuer = Issuer::from_ca_cert_pem(certificate, key)?;

    let mut params = CertificateParams::new(wanted.names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, wanted.component);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = wanted.usages.iter().map(|usage| purpose(*usage)).collect();
    set_validity(&mut params, now, (now + wanted.lifetime).min(signer.not_after));
    let pair = KeyPair::generate()?;
    let certificate = params.signed_by(&pair, &issuer)?;
    Ok([(CERTIFICATE.into(), bytes(certificate.pem())), (KEY.into(), bytes(pair.serialize_pem()))].into())
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

fn set_validity(params: &mut CertificateParams, now: i64, until: i64) {
    let time = |seconds: i64| {
        let since_epoch = std::time::Duration::from_secs(seconds.max(0).unsigned_abs());
        date_time_ymd(1970, 1, 1) + since_epoch
    };
    params.not_before = time(now - CLOCK_SKEW);
    params.not_after = time(until);
}

fn bytes(text: String) -> ByteString {
    ByteString(text.into_bytes())
}
