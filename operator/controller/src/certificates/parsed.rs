//! What a certificate says.

use std::{collections::BTreeSet, net::IpAddr};

use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

use super::Usage;

const END: &str = "-----END CERTIFICATE-----";

/// The part of a certificate that decisions depend on. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) names: BTreeSet<String>,
    pub(super) usages: BTreeSet<Usage>,
}

impl Parsed {
    /// The first certificate in `pem`; `None` if there is none, or it is malformed.
    pub(super) fn first(pem: &[u8]) -> Option<Self> {
        let block = Pem::iter_from_buffer(pem).next()?.ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let usages = certificate.extended_key_usage().ok()?;
        let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        let usages = usages.into_iter().flat_map(|usages| {
            let server = usages.value.server_auth.then_some(Usage::Server);
            let client = usages.value.client_auth.then_some(Usage::Client);
            server.into_iter().chain(client)
        });
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            names: names.collect(),
            usages: usages.collect(),
        })
    }

    /// True if it is valid at `now`.
    pub(super) fn is_valid(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// True if two thirds of its lifetime have passed at `now`.
    pub(super) fn is_due(&self, now: i64) -> bool {
        now - self.not_before >= (self.not_after - self.not_before) / 3 * 2
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The certificates of a bundle, each as PEM with a final line break.
pub(super) fn certificates(bundle: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bundle);
    let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
    blocks.map(|block| format!("{}\n", block.trim())).collect()
}
