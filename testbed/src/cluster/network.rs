//! The network of a cluster: a bridge on this machine, a cable from it to each node, and who has which address.

use std::{net::Ipv4Addr, ops::RangeInclusive, path::Path};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::{control_plane::SERVICES, pid::Pid, tools};

/// The bridge. Its name also says that only one cluster at a time fits this machine.
const BRIDGE: &str = "ping-testbed";
/// This machine, as nodes and pods see it.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The name service.
pub(super) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// All pods of all nodes.
pub(super) const ALL_PODS: &str = "10.90.0.0/16";

/// The address of node `number`, from 1.
pub(super) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 89, 0, 10 + number)
}

/// The addresses of the pods of node `number`.
pub(super) fn pods(number: u8) -> String {
    format!("10.90.{number}.0/24")
}

/// Makes the bridge, with this machine on it.
pub(super) async fn up() -> anyhow::Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"]).await?;
    ip(&["address", "add", &format!("{GATEWAY}/24"), "dev", BRIDGE]).await?;
    ip(&["link", "set", BRIDGE, "up"]).await
}

/// Takes away the cables and the bridge, with every route over them.
///
/// The kernel removes a cable together with its node, but some seconds later.
pub(super) fn down(nodes: RangeInclusive<u8>) -> anyhow::Result<()> {
    for device in nodes.map(plug).chain([BRIDGE.to_owned()]) {
        if Path::new("/sys/class/net").join(&device).exists() {
            let status = std::process::Command::new("ip").args(["link", "delete", &device]).status();
            let gone =
                status.context("cannot run ip")?.success() || !Path::new("/sys/class/net").join(&device).exists();
            ensure!(gone, "cannot remove {device}");
        }
    }
    Ok(())
}

/// The end of a node's cable on this machine.
fn plug(number: u8) -> String {
    format!("ping-node-{number}")
}

/// Lays a cable from the bridge to node `number`, whose network namespace is that of `node`. The node does the rest.
pub(super) async fn connect(number: u8, node: Pid) -> anyhow::Result<()> {
    let (plug, namespace) = (plug(number), node.number().to_string());
    ip(&["link", "add", &plug, "type", "veth", "peer", "name", "eth0", "netns", &namespace]).await?;
    ip(&["link", "set", &plug, "master", BRIDGE, "up"]).await?;
    let via = address(number).to_string();
    ip(&["route", "add", &pods(number), "via", &via]).await?;
    // Any node leads to every Service.
    if number == 1 {
        ip(&["route", "add", SERVICES, "via", &via]).await?;
    }
    Ok(())
}

async fn ip(args: &[&str]) -> anyhow::Result<()> {
    tools::run(Command::new("ip").args(args)).await?;
    Ok(())
}
