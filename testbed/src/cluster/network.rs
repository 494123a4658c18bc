//! The network of a cluster: its addresses, a bridge on this machine, and a veth pair from the bridge to each node.

use std::{net::Ipv4Addr, ops::RangeInclusive, path::Path};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::{control_plane::SERVICES, pid::Pid, tools};

/// The bridge. Its fixed name limits a machine to one cluster at a time.
const BRIDGE: &str = "ping-testbed";
/// The address of this machine for nodes and pods.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The address of CoreDNS.
pub(super) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The addresses of all pods on all nodes.
pub(super) const ALL_PODS: &str = "10.90.0.0/16";

/// The address of node `number`, from 1.
pub(super) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 89, 0, 10 + number)
}

/// The addresses of the pods of node `number`.
pub(super) fn pods(number: u8) -> String {
    format!("10.90.{number}.0/24")
}

/// Creates the bridge and attaches this machine to it.
pub(super) async fn up() -> anyhow::Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"]).await?;
    ip(&["address", "add", &format!("{GATEWAY}/24"), "dev", BRIDGE]).await?;
    ip(&["link", "set", BRIDGE, "up"]).await
}

/// Removes the veth pairs and the bridge, and with them every route that uses them.
///
/// The kernel also removes a node's veth pair, but only some seconds after the node has ended.
pub(super) fn down(nodes: RangeInclusive<u8>) -> anyhow::Result<()> {
    for device in nodes.map(host_interface).chain([BRIDGE.to_owned()]) {
        if Path::new("/sys/class/net").join(&device).exists() {
            let status = std::process::Command::new("ip").args(["link", "delete", &device]).status();
            let gone =
                status.context("cannot run ip")?.success() || !Path::new("/sys/class/net").join(&device).exists();
            ensure!(gone, "cannot remove {device}");
        }
    }
    Ok(())
}

/// The host side of a node's veth pair.
fn host_interface(number: u8) -> String {
    format!("ping-node-{number}")
}

/// Connects node `number`, which runs in the network namespace of `node`, to the bridge. The node configures its own side.
pub(super) async fn connect(number: u8, node: Pid) -> anyhow::Result<()> {
    let (interface, namespace) = (host_interface(number), node.number().to_string());
    ip(&["link", "add", &interface, "type", "veth", "peer", "name", "eth0", "netns", &namespace]).await?;
    ip(&["link", "set", &interface, "master", BRIDGE, "up"]).await?;
    let via = address(number).to_string();
    ip(&["route", "add", &pods(number), "via", &via]).await?;
    // Any node routes to every Service.
    if number == 1 {
        ip(&["route", "add", SERVICES, "via", &via]).await?;
    }
    Ok(())
}

async fn ip(args: &[&str]) -> anyhow::Result<()> {
    tools::run(Command::new("ip").args(args)).await?;
    Ok(())
}
