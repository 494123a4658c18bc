//! The README of the chart: its values with their defaults, and the comments above them in values.yaml.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// A value of the chart.
#[derive(Debug, PartialEq)]
struct Setting {
    key: String,
    default: String,
    meaning: String,
}

/// The page.
///
/// # Errors
/// If a file is not YAML, or a value has no comment.
pub(crate) fn page(chart: &str, values: &str) -> anyhow::Result<String> {
    let chart: Value = yaml_serde::from_str(chart).context("Chart.yaml is not YAML")?;
    let text = |key: &str| chart[key].as_str().with_context(|| format!("Chart.yaml has no {key}"));
    let mut page = format!(
        "# {}\n\n<!-- Written by `make generate` from values.yaml and Chart.yaml. -->\n\n{}.\n\n\
         It needs Kubernetes {} or newer.\n\n```\n\
         helm install {0} oci://REGISTRY/charts/{0} --version {} --namespace ping-system --create-namespace \\\n  \
         --set 'watchNamespaces={{default}}'\n```\n\n\
         A release has the chart as a file, too, which `helm install` accepts instead of the address.\n\n## Values\n\n\
         | value | default | meaning |\n| --- | --- | --- |\n",
        text("name")?,
        text("description")?,
        text("kubeVersion")?.trim_start_matches(">=").trim_end_matches("-0"),
        text("version")?,
    );
    for Setting { key, default, meaning } in settings(values)? {
        let _ = writeln!(page, "| `{key}` | `{}` | {} |", default.replace('|', "\\|"), meaning.replace('|', "\\|"));
    }
    Ok(page)
}

/// The leaves of a file of values. A comment belongs to the key below it; one above a section belongs to all of its keys that have none.
fn settings(values: &str) -> anyhow::Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut sections: Vec<(usize, String, String)> = Vec::new();
    let mut comment = String::new();
    for line in values.lines() {
        let content = line.trim_start();
        let depth = line.len() - content.len();
        if let Some(text) = content.strip_prefix("# ") {
            comment = format!("{comment} {text}").trim_start().to_owned();
            continue;
        }
        let Some((key, default)) = content.split_once(':') else {
            ensure!(content.is_empty(), "values.yaml: write {content} in one line, so that it can be a default");
            comment.clear();
            continue;
        };
        sections.retain(|(at, ..)| *at < depth);
        let inherited = sections.last().map(|(.., comment)| comment.clone()).unwrap_or_default();
        let meaning = if comment.is_empty() { inherited } else { std::mem::take(&mut comment) };
        if default.is_empty() {
            sections.push((depth, key.to_owned(), meaning));
            continue;
        }
        let path: Vec<_> = sections.iter().map(|(_, name, _)| name.as_str()).chain([key]).collect();
        let key = path.join(".");
        ensure!(!meaning.is_empty(), "values.yaml: {key} has no comment above it that says what it does");
        settings.push(Setting { key, default: default.trim().to_owned(), meaning });
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_keys_below_it() {
        let values = "# How many.\n# Or none.\nreplicas: 2\n\n# Where it runs.\npod:\n  labels: {}\n  # Its name.\n  name: \"\"\n";
        let expected = [
            ("replicas", "2", "How many. Or none."),
            ("pod.labels", "{}", "Where it runs."),
            ("pod.name", "\"\"", "Its name."),
        ];
        let expected = expected.map(|(key, default, meaning)| Setting {
            key: key.into(),
            default: default.into(),
            meaning: meaning.into(),
        });
        assert_eq!(settings(values).unwrap(), expected);
    }

    #[test]
    fn a_value_without_a_comment_is_an_error() {
        let error = settings("# One.\na: 1\n\nb: 2\n").unwrap_err().to_string();
        assert!(error.contains("b has no comment"), "{error}");
    }
}
