//! Where updates are shown: on a terminal in place, elsewhere one after the other.

use std::io;

use console::{Term, truncate_str};
use ping_proto::{WatchRequest, WatchResponse};

use crate::{
    failure::Failure,
    output::{self, Format},
};

use super::latest::Latest;

/// Height and width of a terminal that does not say how large it is.
const DEFAULT_SIZE: (usize, usize) = (24, 80);

/// Where updates are shown.
pub(super) struct Screen {
    format: Format,
    /// None if the output is not for a person at a terminal.
    terminal: Option<Term>,
    /// Number of lines that the next update replaces.
    lines: usize,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        let in_place = format == Format::Text && output::is_terminal();
        Self { format, terminal: in_place.then(Term::stdout), lines: 0 }
    }

    /// What to ask the server for: a terminal also shows the last hour and the top sources.
    pub(super) fn request(&self) -> WatchRequest {
        if self.terminal.is_some() { WatchRequest { minutes: 60, top_sources: 5 } } else { WatchRequest::default() }
    }

    /// Shows an update.
    pub(super) fn show(&mut self, message: &WatchResponse, latest: &Latest, rate: Option<f64>) -> anyhow::Result<()> {
        if self.format != Format::Text {
            return output::object(self.format, message);
        }
        if self.terminal.is_some() {
            return Ok(self.draw(&latest.lines(rate, self.size().1))?);
        }
        Ok(output::line(latest.line(rate))?)
    }

    /// Shows that the server is unavailable.
    pub(super) fn show_failure(&mut self, failure: &Failure) -> anyhow::Result<()> {
        if self.format != Format::Text {
            return output::object(self.format, &failure.to_json());
        }
        if self.terminal.is_some() {
            return Ok(self.draw(&[failure.line(), "retrying".to_owned()])?);
        }
        Ok(output::line(failure.line())?)
    }

    /// Height and width of the terminal.
    fn size(&self) -> (usize, usize) {
        let size = self.terminal.as_ref().and_then(Term::size_checked);
        size.map_or(DEFAULT_SIZE, |(height, width)| (height.into(), width.into()))
    }

    /// Replaces the lines drawn last. A longer line would wrap, and be two of them.
    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (height, width) = self.size();
        let Some(terminal) = &self.terminal else { return Ok(()) };
        terminal.clear_last_lines(self.lines.min(height.saturating_sub(1)))?;
        let fitting = lines.iter().take(height.saturating_sub(1));
        self.lines = fitting.len();
        fitting.into_iter().try_for_each(|line| terminal.write_line(&truncate_str(line, width, "…")))
    }
}
