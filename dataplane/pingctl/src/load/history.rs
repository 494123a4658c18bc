//! `--history`: every call of a load, for programs that check what the counts in between must have been.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tonic::Status;

use crate::{exit::Exit, failure};

/// The file, and the first error of writing it.
pub(super) struct HistoryFile {
    path: PathBuf,
    lines: Mutex<io::Result<BufWriter<File>>>,
}

/// A call, written when it is dropped: one that is cancelled has no answer either.
pub(super) struct BegunCall<'a> {
    history: &'a HistoryFile,
    event_id: &'a str,
    began: Timestamp,
    outcome: &'static str,
}

impl HistoryFile {
    /// Creates the file, or empties it.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).map_err(|error| unwritable(path, error))?;
        Ok(Self { path: path.to_owned(), lines: Mutex::new(Ok(BufWriter::new(file))) })
    }

    /// Begins a call that sends an event.
    pub(super) fn begin<'a>(&'a self, event_id: &'a str) -> BegunCall<'a> {
        BegunCall { history: self, event_id, began: Timestamp::now(), outcome: "unknown" }
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// When any line could not be written.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        match &mut *self.lines.lock() {
            Ok(lines) => lines.flush().map_err(|error| unwritable(&self.path, error)),
            Err(error) => Err(unwritable(&self.path, io::Error::new(error.kind(), error.to_string()))),
        }
    }
}

impl BegunCall<'_> {
    /// Ends the call with its answer.
    pub(super) fn end<T>(mut self, answer: &Result<T, Status>) {
        self.outcome = match answer {
            Ok(_) => "acknowledged",
            Err(status) if failure::exit(status) == Exit::Refused => "rejected",
            Err(_) => "unknown",
        };
    }
}

impl Drop for BegunCall<'_> {
    fn drop(&mut self) {
        let (began, ended) = (self.began.as_microsecond(), Timestamp::now().as_microsecond());
        let line = json!({"event_id": self.event_id, "began_us": began, "ended_us": ended, "outcome": self.outcome});
        let mut lines = self.history.lines.lock();
        if let Ok(file) = &mut *lines
            && let Err(error) = writeln!(file, "{line}")
        {
            *lines = Err(error);
        }
    }
}

fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot write the history to {}", path.display()))
}
