//! What `pingctl doctor` found.

use std::io;

use serde::{Serialize, Serializer};

use crate::{failure::Failure, output};

/// What every call needs, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Step {
    Configuration,
    NameResolution,
    Tcp,
    Tls,
    Http,
    Authentication,
    Permission,
    Freshness,
}

const STEPS: [Step; 8] = [
    Step::Configuration,
    Step::NameResolution,
    Step::Tcp,
    Step::Tls,
    Step::Http,
    Step::Authentication,
    Step::Permission,
    Step::Freshness,
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::NameResolution => "name resolution",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::Freshness => "freshness",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// A step that succeeded, and what the next ones need of it.
pub(crate) struct Finding<T> {
    detail: String,
    /// What will fail later, or is not as it should be, and what to do.
    warning: Option<String>,
    value: T,
}

impl<T> Finding<T> {
    pub(crate) fn ok(detail: impl Into<String>, value: T) -> Self {
        Self { detail: detail.into(), warning: None, value }
    }

    /// The same with a warning that says what to do, if there is one.
    pub(crate) fn with_warning(self, warning: Option<String>) -> Self {
        Self { warning, ..self }
    }
}

#[derive(Debug, Serialize)]
struct StepResult {
    step: Step,
    outcome: Outcome,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// What was found, step by step.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<StepResult>);

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            healthy: bool,
            steps: &'a [StepResult],
        }
        Whole { healthy: self.is_healthy(), steps: &self.all() }.serialize(serializer)
    }
}

impl Report {
    /// Adds the result of a step, and returns what the next ones need of it.
    pub(crate) fn add<T>(&mut self, step: Step, result: Result<Finding<T>, Failure>) -> Option<T> {
        let (line, value) = match result {
            Ok(Finding { detail, warning, value }) => {
                let outcome = if warning.is_some() { Outcome::Warning } else { Outcome::Ok };
                (StepResult { step, outcome, detail, fix: warning }, Some(value))
            }
            Err(failure) => {
                (StepResult { step, outcome: Outcome::Failed, detail: failure.line(), fix: failure.fix }, None)
            }
        };
        self.0.push(line);
        value
    }

    /// Whether every step succeeded.
    pub(crate) fn is_healthy(&self) -> bool {
        self.0.len() == STEPS.len() && self.0.iter().all(|line| line.outcome != Outcome::Failed)
    }

    /// One line per step; those that were not reached are skipped.
    fn all(&self) -> Vec<StepResult> {
        let line = |line: &StepResult| StepResult { detail: line.detail.clone(), fix: line.fix.clone(), ..*line };
        let skipped =
            |step: &Step| StepResult { step: *step, outcome: Outcome::Skipped, detail: String::new(), fix: None };
        self.0.iter().map(line).chain(STEPS[self.0.len()..].iter().map(skipped)).collect()
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        for StepResult { step, outcome, detail, fix } in self.all() {
            let outcome = match outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "skipped",
            };
            output::line(format!("{outcome:<8} {:<16} {detail}", step.name()).trim_end())?;
            if let Some(fix) = fix {
                output::line(format!("{:<25} fix: {fix}", ""))?;
            }
        }
        Ok(())
    }
}
