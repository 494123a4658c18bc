//! `kubectl pingpipeline explain`

use anyhow::bail;
use clap::Args;
use ping_api::{condition::ConditionType, reason::Reason};
use serde_json::json;

use crate::{cluster::ConnectionArgs, output::Format};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A condition such as KafkaReady, or a reason such as OperatorSilent (case-insensitive).
    word: String,
    /// Name of a pipeline, to show the current value of the condition.
    name: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let matches = |known: &str| known.eq_ignore_ascii_case(&arguments.word);
    let condition = ConditionType::ALL.iter().find(|(kind, _)| matches(&kind.to_string()));
    let mut explanations = Vec::new();
    if let Some((kind, meaning)) = condition {
        explanations.push((format!("condition {kind}"), format!("True means:{meaning}"), None));
    }
    if let Some((reason, meaning, remedy)) = Reason::ALL.iter().find(|(reason, ..)| matches(reason.as_str())) {
        explanations.push((format!("reason {reason}"), meaning.trim().to_owned(), Some(*remedy)));
    }
    if explanations.is_empty() {
        let conditions = ConditionType::ALL.iter().map(|(kind, _)| kind.to_string()).collect::<Vec<_>>().join(", ");
        let reasons = Reason::ALL.iter().map(|(reason, ..)| reason.as_str()).collect::<Vec<_>>().join(", ");
        bail!("{} is neither a condition ({conditions}) nor a reason ({reasons})", arguments.word);
    }
    let now = match (&arguments.name, condition) {
        (Some(name), Some((kind, _))) => {
            let found = connection.connect().await?.find(Some(name)).await?;
            let conditions =
                found.into_iter().filter_map(|pipeline| pipeline.status).flat_map(|status| status.conditions);
            conditions.into_iter().find(|condition| condition.type_ == kind.to_string())
        }
        (Some(_), None) => bail!("a pipeline name requires a condition, not a reason"),
        (None, _) => None,
    };
    match format {
        Format::Json => {
            let explanations = explanations
                .iter()
                .map(|(what, meaning, remedy)| json!({ "what": what, "meaning": meaning, "remedy": remedy }));
            println!("{}", json!({ "explained": explanations.collect::<Vec<_>>(), "now": now }));
        }
        Format::Text => {
            for (what, meaning, remedy) in explanations {
                println!("{what}\n  {meaning}");
                remedy.into_iter().for_each(|remedy| println!("  What to do: {remedy}"));
            }
            if let Some(now) = now {
                let remedy =
                    Reason::ALL.iter().find(|(reason, ..)| reason.as_str() == now.reason).map(|(.., remedy)| *remedy);
                println!("now: {} ({})\n  {}", now.status, now.reason, now.message);
                println!(
                    "  What to do: {}",
                    remedy.unwrap_or("this plugin does not know the reason; update the plugin")
                );
            }
        }
    }
    Ok(true)
}
