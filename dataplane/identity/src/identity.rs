//! Who a caller is.

use std::sync::Arc;

use crate::issuer::Issuer;

/// What a caller has proved to be.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// No credentials.
    Anonymous,
    /// A static token.
    Token {
        /// Its name in the access policy.
        name: Box<str>,
        /// SHA-256 of the token.
        digest: [u8; 32],
    },
    /// A token that an issuer signed.
    Issued {
        /// Who signed it.
        issuer: Arc<Issuer>,
        /// The claim `sub`.
        subject: Box<str>,
        /// The claim with the groups, if it is a list of texts.
        groups: Vec<Box<str>>,
        /// The digest of the key that signed it.
        key: [u8; 32],
    },
    /// A client certificate.
    Certificate {
        /// Its name.
        name: Box<str>,
    },
}

impl Identity {
    /// The name that rules, messages and the audit log use.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Token { name, .. } => format!("token:{name}"),
            Self::Issued { issuer, subject, .. } => format!("{}:{subject}", issuer.name),
            Self::Certificate { name } => format!("cert:{name}"),
        }
    }

    /// The source that a rule with `bindSource` allows; none for anonymous callers.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Token { name, .. } | Self::Certificate { name } => Some(name),
            Self::Issued { subject, .. } => Some(subject),
        }
    }

    /// All names that a rule may call this caller by.
    pub(crate) fn names(&self) -> Vec<String> {
        let groups = match self {
            Self::Issued { issuer, groups, .. } => {
                groups.iter().map(|group| format!("group:{}:{group}", issuer.name)).collect()
            }
            _ => Vec::new(),
        };
        std::iter::once(self.name()).chain(groups).collect()
    }
}
