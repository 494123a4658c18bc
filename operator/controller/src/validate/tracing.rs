//! Checks the settings of traces. Servers and processors would not start with invalid ones.

use ping_api::crd::{
    PingPipelineSpec,
    tracing::{ALL_CALLS, TracingSpec},
};
use ping_runtime::env;

use super::invalid::Invalid;

/// Variables that are set if there is a collector.
const VARIABLES: [&str; 4] =
    [env::OTLP_ENDPOINT, env::TRACES_SAMPLER, env::TRACES_SAMPLER_ARG, env::OTEL_RESOURCE_ATTRIBUTES];

pub(super) fn tracing(spec: &PingPipelineSpec) -> Result<(), Invalid> {
    let TracingSpec { endpoint, sampling_rate_per_million: rate } = &spec.tracing;
    if !(0..=ALL_CALLS).contains(rate) {
        return Err(Invalid::Conflicting(format!(
            "spec.tracing.samplingRatePerMillion is {rate}. Set it to how many of a million calls to trace, from 0 to {ALL_CALLS}"
        )));
    }
    let Some(endpoint) = endpoint else { return Ok(()) };
    if !is_url(endpoint) {
        return Err(Invalid::Conflicting(format!(
            "spec.tracing.endpoint is \"{endpoint}\", which is not the URL of a collector. Set http://HOST:PORT or https://HOST:PORT, with the \
             collector's port for gRPC, usually 4317"
        )));
    }
    for (component, pod) in [("server", &spec.server.pod), ("processor", &spec.processor.pod)] {
        if let Some(variable) = pod.env.iter().find(|variable| VARIABLES.contains(&&*variable.name)) {
            return Err(Invalid::Conflicting(format!(
                "spec.{component}.env contains {}, which spec.tracing sets. Set it in one of the two places only",
                variable.name
            )));
        }
    }
    Ok(())
}

/// Whether `endpoint` has a scheme, a host and a port, and nothing else.
fn is_url(endpoint: &str) -> bool {
    let authority = ["http://", "https://"].into_iter().find_map(|scheme| endpoint.strip_prefix(scheme));
    let Some((host, port)) = authority.and_then(|authority| authority.rsplit_once(':')) else { return false };
    let is_host = |letter: char| letter.is_ascii_alphanumeric() || "-.[:]".contains(letter);
    !host.is_empty() && host.chars().all(is_host) && port.parse().is_ok_and(|port: u16| port > 0)
}
