//! Network namespaces: how a test connects from where a pod or a node is.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use futures::future::join_all;
use procfs::process::{Process, all_processes};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::{net::TcpStream, runtime, time::timeout};

use crate::at;

/// Time for a connection on two busy cores. Blocked connections often end by it, because the kernel sends few rejections per second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The oldest process of a pod. Younger ones may be those of a probe, which end soon.
pub(crate) fn process_of(pod: &Value) -> i32 {
    let uid = at(pod, "/metadata/uid").as_str().unwrap();
    // In the name of its control group.
    let names = [uid.to_owned(), uid.replace('-', "_")];
    let is_of_pod = |process: &Process| {
        let mut groups = process.cgroups().into_iter().flat_map(|groups| groups.0);
        groups.any(|group| names.iter().any(|name| group.pathname.contains(name)))
    };
    let processes = all_processes().unwrap().filter_map(Result::ok).filter(is_of_pod);
    let started = processes.filter_map(|process| Some((process.stat().ok()?.starttime, process.pid)));
    started.min().unwrap_or_else(|| panic!("no process of pod {uid}")).1
}

/// Runs `work` on a thread in the network namespace of `process`; none: in that of this test.
fn inside<T: Send + 'static>(process: Option<i32>, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        if let Some(process) = process {
            let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
        work()
    })
}

/// Listens where `process` is on each port on which nothing listens yet.
pub(crate) fn listen(process: i32, ports: &'static [u16]) -> Vec<TcpListener> {
    let listen = move || {
        let bound = ports.iter().filter_map(|port| TcpListener::bind(("0.0.0.0", *port)).ok());
        bound.inspect(|listener| listener.set_nonblocking(true).unwrap()).collect()
    };
    inside(Some(process), listen).join().unwrap()
}

/// Closes the connections that wait to be accepted, so that there is room for others.
pub(crate) fn drain(listeners: &[TcpListener]) {
    for listener in listeners {
        while listener.accept().is_ok() {}
    }
}

/// Connects to all addresses at once from where `process` is; returns whether each connection was established.
pub(crate) fn connect(process: Option<i32>, addresses: Vec<(IpAddr, u16)>) -> thread::JoinHandle<Vec<bool>> {
    inside(process, move || {
        let connect = |address: (IpAddr, u16)| timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::from(address)));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Timers need the runtime when they are created.
        let connected = runtime.block_on(async { join_all(addresses.into_iter().map(connect)).await });
        connected.into_iter().map(|connected| matches!(connected, Ok(Ok(_)))).collect()
    })
}

#[test]
fn a_connection_is_established_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [open, closed].map(|address| (address.ip(), address.port()));
    assert_eq!(connect(None, addresses.to_vec()).join().unwrap(), [true, false]);
}
