//! The token that a client sends with each call.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tonic::{
    Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

/// How long a token is used before its file is read again. Kubernetes replaces a token long before it expires.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// A file with a token. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TokenFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    last: Mutex<Option<(Instant, MetadataValue<Ascii>)>>,
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner { path, last: Mutex::default() }))
    }

    /// Adds the header with the token.
    pub(crate) fn authorize(&self, metadata: &mut MetadataMap) -> Result<(), Status> {
        metadata.insert("authorization", self.header()?);
        Ok(())
    }

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
        let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Status::unauthenticated(format!("the token file {path} has other characters than a token")))?;
        // It is not shown in debug output.
        header.set_sensitive(true);
        Ok(header)
    }
}
