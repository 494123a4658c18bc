//! The token that a client sends with each call.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tonic::{
    Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

/// How long a token is used before its file is read again. Kubernetes replaces a token long before it expires.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// Where the token comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    File(TokenFile),
    Shared(SharedToken),
}

impl Token {
    pub(crate) fn in_file(path: PathBuf) -> Self {
        Self::File(TokenFile(Arc::new(Inner { path, last: Mutex::default() })))
    }

    /// Adds the header with the token.
    pub(crate) fn authorize(&self, metadata: &mut MetadataMap) -> Result<(), Status> {
        let header = match self {
            Self::File(file) => file.header()?,
            Self::Shared(SharedToken(header)) => header.read().clone(),
        };
        metadata.insert("authorization", header);
        Ok(())
    }
}

/// A text that is not a valid token. It does not show the text.
#[derive(Debug, thiserror::Error)]
#[error("it is empty or has other characters than a token")]
pub struct InvalidToken;

/// A token that the program replaces before it expires. Clones share it.
#[derive(Clone, Debug)]
pub struct SharedToken(Arc<RwLock<MetadataValue<Ascii>>>);

impl SharedToken {
    /// The token in `text`, without the white space around it.
    ///
    /// # Errors
    /// When it is not a valid token.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        Ok(Self(Arc::new(RwLock::new(header(text)?))))
    }

    /// Replaces it, also in clients that have it already.
    ///
    /// # Errors
    /// When `text` is not a valid token. The old one stays.
    pub fn replace(&self, text: &str) -> Result<(), InvalidToken> {
        *self.0.write() = header(text)?;
        Ok(())
    }
}

/// The header with the token in `text`.
fn header(text: &str) -> Result<MetadataValue<Ascii>, InvalidToken> {
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(InvalidToken);
    }
    let mut header: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| InvalidToken)?;
    // It is not shown in debug output.
    header.set_sensitive(true);
    Ok(header)
}

/// A file with a token.
#[derive(Clone, Debug)]
pub(crate) struct TokenFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    last: Mutex<Option<(Instant, MetadataValue<Ascii>)>>,
}

impl TokenFile {
    fn header(&self) -> Result<MetadataValue<Ascii>, Status> {
        let mut last = self.0.last.lock();
        if let Some((_, header)) = last.as_ref().filter(|(read, _)| read.elapsed() < REREAD_INTERVAL) {
            return Ok(header.clone());
        }
        let header = self.read()?;
        *last = Some((Instant::now(), header.clone()));
        Ok(header)
    }

    fn read(&self) -> Result<MetadataValue<Ascii>, Status> {
        let path = self.0.path.display();
        let token = std::fs::read_to_string(&self.0.path)
            .map_err(|error| Status::unauthenticated(format!("cannot read the token file {path}: {error}")))?;
        header(&token).map_err(|error| Status::unauthenticated(format!("the token file {path} has no token: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_sent_by_clients_that_have_it_and_never_shown() {
        let token = SharedToken::new(" first\n").unwrap();
        let client = Token::Shared(token.clone());
        let mut metadata = MetadataMap::new();
        client.authorize(&mut metadata).unwrap();
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer first");
        token.replace("second").unwrap();
        for wrong in ["", " ", "two words", "a\nb", "\u{7f}"] {
            assert!(token.replace(wrong).is_err(), "{wrong:?}");
        }
        client.authorize(&mut metadata).unwrap();
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer second");
        assert!(!format!("{client:?} {metadata:?}").contains("second"));
    }
}
