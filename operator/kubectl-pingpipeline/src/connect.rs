//! `kubectl pingpipeline connect`

use anyhow::Context as _;
use clap::Args;
use ping_api::{
    crd::{
        PingPipeline,
        access::{ClientCertificates, Protection},
        status::Access,
    },
    names::Names,
    roles::{ingest_role, query_role},
};
use serde_json::{Value, json};

use crate::{cluster::ConnectionArgs, output::Format};

/// Local port of the printed commands.
const LOCAL_PORT: u16 = 8080;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline.
    name: String,
}

/// Prints how to connect. Reads no Secret.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipeline = cluster.find(Some(&arguments.name)).await?.pop().context("no such pipeline")?;
    let guide = Guide::of(&pipeline).with_context(|| {
        format!("the operator has not reported how to connect to {}; check that it is running", arguments.name)
    })?;
    match format {
        Format::Text => println!("{}", guide.text()),
        Format::Json => println!("{}", guide.json()),
    }
    Ok(true)
}

/// How to connect to one pipeline.
struct Guide {
    names: Names,
    access: Access,
    /// Whether calls need credentials.
    authenticated: bool,
    /// Whether connections need a client certificate.
    certificate_required: bool,
    /// The Services that ingest and that answer queries, and their port.
    services: [String; 2],
    port: i32,
}

impl Guide {
    /// None until the operator has reported how to connect.
    fn of(pipeline: &PingPipeline) -> Option<Self> {
        let (names, server) = (Names::of(pipeline), &pipeline.spec.server);
        let client = server.tls.client_ca.as_ref();
        Some(Self {
            access: pipeline.status.as_ref()?.access.clone()?,
            authenticated: server.authentication.mode == Protection::Required,
            certificate_required: client.is_some_and(|client| client.mode == ClientCertificates::Required),
            services: [ingest_role(server), query_role(server)].map(|role| names.part(role.component())),
            port: server.service.port,
            names,
        })
    }

    fn text(&self) -> String {
        let [ingest, query] = &self.services;
        let mut lines = vec![format!("In the cluster: {}", self.access.url)];
        if ingest != query {
            let scheme = self.access.url.split("://").next().unwrap_or("https");
            lines.push(format!("Queries: {scheme}://{query}.{}.svc:{}", self.names.namespace, self.port));
        }
        lines.extend(self.warnings());
        lines.push(String::new());
        lines.push("From this machine:".into());
        lines.extend(self.commands().into_iter().map(|command| format!("  {command}")));
        if self.authenticated {
            lines.push(String::new());
            lines.push("So that pingctl needs no options later:".into());
            lines.push(format!("  {}", self.login()));
        }
        lines.join("\n")
    }

    fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.access.server_name.is_none() {
            found.push("NOT ENCRYPTED: spec.server.tls.mode is Disable.".to_owned());
        }
        if !self.authenticated {
            found.push("NO CREDENTIALS NEEDED: spec.server.authentication.mode is Disable.".into());
        } else if self.access.token_secret.is_none() {
            found.push("There is no first token. Write a token of your own to the file token.".into());
        }
        if self.certificate_required {
            found.push("Connections need a client certificate: add --cert and --key to curl and pingctl.".into());
        }
        found
    }

    /// Commands for a shell, in order.
    fn commands(&self) -> Vec<String> {
        let Names { namespace, .. } = &self.names;
        let save = |secret: &str, key: &str, file: &str| {
            let path = key.replace('.', r"\.");
            format!("kubectl -n {namespace} get secret {secret} -o jsonpath='{{.data.{path}}}' | base64 -d >{file}")
        };
        let mut commands = Vec::new();
        commands.extend(self.access.ca_secret.iter().map(|secret| save(secret, "ca.crt", "ca.crt")));
        let token =
            self.access.token_secret.iter().map(|secret| format!("(umask 077; {})", save(secret, "token", "token")));
        commands.extend(token);
        let [ingest, query] = &self.services;
        commands.push(format!("kubectl -n {namespace} port-forward service/{ingest} {LOCAL_PORT}:{} &", self.port));
        let (url, curl, pingctl) = self.client_options();
        let json = "-H 'Content-Type: application/json'";
        commands.push(format!("curl{curl} {json} {url}/ping.v1.PingService/Ping -d '{{}}'"));
        let query_url = match ingest == query {
            true => url.clone(),
            false => {
                let next = LOCAL_PORT + 1;
                commands.push(format!("kubectl -n {namespace} port-forward service/{query} {next}:{} &", self.port));
                url.replace(&format!(":{LOCAL_PORT}"), &format!(":{next}"))
            }
        };
        let pingctl_url = query_url.replace(self.access.server_name.as_deref().unwrap_or("localhost"), "localhost");
        commands.push(format!("pingctl --addr {pingctl_url}{pingctl} count"));
        commands
    }

    /// Stores how to connect for pingctl.
    fn login(&self) -> String {
        let (url, _, options) = self.client_options();
        let url = url.replace(self.access.server_name.as_deref().unwrap_or("localhost"), "localhost");
        format!("pingctl login {} --addr {url}{options}", self.names.pipeline)
    }

    /// URL of the forwarded port, options of curl, and options of pingctl. The certificate covers `server_name`, not always `localhost`.
    fn client_options(&self) -> (String, String, String) {
        let (mut curl, mut pingctl) = (String::new(), String::new());
        if self.access.ca_secret.is_some() {
            curl += " --cacert ca.crt";
            pingctl += " --ca ca.crt";
        }
        let url = match &self.access.server_name {
            None => format!("http://localhost:{LOCAL_PORT}"),
            Some(host) => {
                curl += &format!(" --connect-to {host}::localhost:");
                pingctl += &format!(" --tls-server-name {host}");
                format!("https://{host}:{LOCAL_PORT}")
            }
        };
        if self.authenticated {
            curl += " -H \"Authorization: Bearer $(cat token)\"";
            pingctl += " --token-file token";
        }
        (url, curl, pingctl)
    }

    fn json(&self) -> Value {
        json!({
            "access": self.access, "authenticated": self.authenticated, "warnings": self.warnings(), "commands": self.commands(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guide(server: Value, access: Value) -> Guide {
        let pipeline = serde_json::from_value(json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo", "namespace": "shop" },
            "spec": { "server": server }, "status": { "access": access },
        }));
        Guide::of(&pipeline.unwrap()).unwrap()
    }

    #[test]
    fn the_commands_verify_the_server_and_send_the_first_token() {
        let access = json!({
            "url": "https://demo-server.shop.svc:8080", "serverName": "demo-server.shop.svc", "caSecret": "demo-ca",
            "tokenSecret": "demo-token", "hint": "",
        });
        let text = guide(json!({}), access).text();
        for line in [
            "In the cluster: https://demo-server.shop.svc:8080",
            r"  kubectl -n shop get secret demo-ca -o jsonpath='{.data.ca\.crt}' | base64 -d >ca.crt",
            "  (umask 077; kubectl -n shop get secret demo-token -o jsonpath='{.data.token}' | base64 -d >token)",
            "  kubectl -n shop port-forward service/demo-server 8080:8080 &",
            "  curl --cacert ca.crt --connect-to demo-server.shop.svc::localhost: -H \"Authorization: Bearer $(cat token)\" \
             -H 'Content-Type: application/json' https://demo-server.shop.svc:8080/ping.v1.PingService/Ping -d '{}'",
            "  pingctl --addr https://localhost:8080 --ca ca.crt --tls-server-name demo-server.shop.svc --token-file token count",
            "  pingctl login demo --addr https://localhost:8080 --ca ca.crt --tls-server-name demo-server.shop.svc --token-file token",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("NOT ENCRYPTED") && !text.contains("NO CREDENTIALS"), "{text}");
    }

    #[test]
    fn what_is_turned_off_is_said_and_separate_servers_have_two_ports() {
        let off = json!({ "mode": "Disable" });
        let server = json!({ "tls": off, "authentication": off, "ingest": {} });
        let text = guide(server, json!({ "url": "http://demo-ingest.shop.svc:8080", "hint": "" })).text();
        for part in [
            "NOT ENCRYPTED",
            "NO CREDENTIALS NEEDED",
            "Queries: http://demo-query.shop.svc:8080",
            "port-forward service/demo-query 8081:8080 &",
            "pingctl --addr http://localhost:8081 count",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("Bearer") && !text.contains("login"), "{text}");
    }
}
