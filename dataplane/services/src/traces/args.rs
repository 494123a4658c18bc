//! The command line of traces. Names and defaults are those of OpenTelemetry.

use anyhow::{Context, bail, ensure};
use clap::Args;
use http::Uri;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_sdk::trace::Sampler;
use ping_runtime::env;

/// Where traces go, and which calls are traced.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// OpenTelemetry collector that receives traces by OTLP over gRPC, e.g. http://localhost:4317. Unset: no traces
    #[arg(long, env = env::OTLP_ENDPOINT, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Protocol of the collector; only grpc is supported
    #[arg(long, env = env::OTLP_PROTOCOL, default_value = "grpc")]
    pub otlp_protocol: String,
    /// PEM file with the CA of the collector's certificate [default: the CAs of the system]
    #[arg(long, env = env::OTLP_CERTIFICATE, value_name = "FILE")]
    pub otlp_certificate: Option<String>,
    /// Calls that are traced: always_on, always_off or traceidratio; with the prefix parentbased_, callers that send a traceparent decide
    #[arg(long, env = env::TRACES_SAMPLER, default_value = "parentbased_always_on")]
    pub traces_sampler: String,
    /// Share of the calls that a traceidratio sampler traces, from 0 to 1
    #[arg(long, env = env::TRACES_SAMPLER_ARG, value_name = "RATIO", default_value = "1")]
    pub traces_sampler_arg: String,
}

/// Settings that are valid.
#[derive(Debug)]
pub(super) struct TraceSettings {
    pub(super) endpoint: String,
    /// None for plaintext.
    pub(super) tls: Option<ClientTlsConfig>,
    pub(super) sampler: Sampler,
}

impl TraceArgs {
    /// The settings; `None` if there is no collector. The other variables, which may be meant for other programs, are not looked at then. An
    /// empty variable counts as unset, as OpenTelemetry specifies.
    pub(super) fn settings(&self) -> anyhow::Result<Option<TraceSettings>> {
        let Some(endpoint) = self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let url: Option<Uri> =
            endpoint.parse().ok().filter(|url: &Uri| url.host().is_some_and(|host| !host.is_empty()));
        let tls = match url.as_ref().and_then(Uri::scheme_str) {
            Some("http") => None,
            Some("https") => Some(self.tls()?),
            _ => bail!(
                "--otlp-endpoint ({}) is \"{endpoint}\", which is not the URL of a collector; write http://HOST:PORT, or \
                 https://HOST:PORT for TLS",
                env::OTLP_ENDPOINT
            ),
        };
        ensure!(
            matches!(&*self.otlp_protocol, "" | "grpc"),
            "--otlp-protocol ({}) is \"{}\", but traces are sent by gRPC only; write grpc, and the collector's port for gRPC, usually \
             4317, into --otlp-endpoint",
            env::OTLP_PROTOCOL,
            self.otlp_protocol
        );
        Ok(Some(TraceSettings { endpoint: endpoint.to_owned(), tls, sampler: self.sampler()? }))
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let Some(path) = self.otlp_certificate.as_ref().filter(|path| !path.is_empty()) else {
            return Ok(ClientTlsConfig::new().with_enabled_roots());
        };
        let pem = std::fs::read(path)
            .with_context(|| format!("--otlp-certificate ({}): cannot read {path}", env::OTLP_CERTIFICATE))?;
        Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
    }

    fn sampler(&self) -> anyhow::Result<Sampler> {
        let sampler = match &*self.traces_sampler {
            "" => "parentbased_always_on",
            sampler => sampler,
        };
        let (of_roots, is_parent_based) = match sampler.strip_prefix("parentbased_") {
            Some(of_roots) => (of_roots, true),
            None => (sampler, false),
        };
        let of_roots = match of_roots {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()?),
            _ => bail!(
                "--traces-sampler ({}) is \"{sampler}\"; write always_on, always_off, traceidratio, or one of them with the prefix \
                 parentbased_",
                env::TRACES_SAMPLER
            ),
        };
        Ok(if is_parent_based { Sampler::ParentBased(Box::new(of_roots)) } else { of_roots })
    }

    fn ratio(&self) -> anyhow::Result<f64> {
        if self.traces_sampler_arg.is_empty() {
            return Ok(1.0);
        }
        let ratio = self.traces_sampler_arg.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.with_context(|| {
            format!(
                "--traces-sampler-arg ({}) is \"{}\"; write the share of calls to trace, a number from 0 to 1 such as 0.01",
                env::TRACES_SAMPLER_ARG,
                self.traces_sampler_arg
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        traces: TraceArgs,
    }

    /// The sampler of these arguments, or the error.
    fn sampler(args: &[&str]) -> Result<String, String> {
        let program = Program::parse_from([&["program"][..], args].concat());
        match program.traces.settings() {
            Ok(settings) => Ok(settings.map_or_else(|| "off".into(), |settings| format!("{:?}", settings.sampler))),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// The same with a collector.
    fn sampler_on(args: &[&str]) -> Result<String, String> {
        sampler(&[&["--otlp-endpoint", "https://collector:4317"][..], args].concat())
    }

    #[test]
    fn without_a_collector_nothing_else_matters() {
        for args in [&[][..], &["--otlp-endpoint", ""], &["--otlp-protocol", "http/json", "--traces-sampler", "x"]] {
            assert_eq!(sampler(args), Ok("off".into()), "{args:?}");
        }
    }

    #[test]
    fn samplers_have_the_names_of_opentelemetry() {
        let ratio = |sampler| ["--traces-sampler", sampler, "--traces-sampler-arg", "0.25"];
        assert_eq!(sampler_on(&[]), Ok("ParentBased(AlwaysOn)".into()));
        assert_eq!(sampler_on(&["--traces-sampler", "", "--otlp-protocol", ""]), Ok("ParentBased(AlwaysOn)".into()));
        assert_eq!(sampler_on(&["--traces-sampler", "always_off"]), Ok("AlwaysOff".into()));
        assert_eq!(sampler_on(&["--traces-sampler", "traceidratio"]), Ok("TraceIdRatioBased(1.0)".into()));
        assert_eq!(sampler_on(&ratio("traceidratio")), Ok("TraceIdRatioBased(0.25)".into()));
        assert_eq!(sampler_on(&ratio("parentbased_traceidratio")), Ok("ParentBased(TraceIdRatioBased(0.25))".into()));
    }

    #[test]
    fn what_is_wrong_is_named_with_a_way_to_fix_it() {
        for endpoint in ["collector:4317", "localhost", "ftp://collector", "http://", "/v1/traces", "http://a b"] {
            let error = sampler(&["--otlp-endpoint", endpoint]).unwrap_err();
            assert!(error.contains(&format!("\"{endpoint}\"")) && error.contains("http://HOST:PORT"), "{error}");
        }
        for (args, expected) in [
            (["--otlp-protocol", "http/protobuf"], "gRPC only; write grpc"),
            (["--traces-sampler", "jaeger_remote"], "write always_on"),
            (["--traces-sampler", "parentbased_xray"], "write always_on"),
        ] {
            let error = sampler_on(&args).unwrap_err();
            assert!(error.contains(expected) && error.contains(args[1]) && error.contains("OTEL_"), "{error}");
        }
        for ratio in ["2", "-0.1", "NaN", "all"] {
            let args = ["--traces-sampler", "traceidratio", &format!("--traces-sampler-arg={ratio}")];
            let error = sampler_on(&args).unwrap_err();
            assert!(error.contains(ratio) && error.contains("from 0 to 1"), "{error}");
        }
    }
}
