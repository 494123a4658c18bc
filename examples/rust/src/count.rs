//! Counts one event, and sends it again after a failure: it is counted once. `ping-count URL [EVENT_ID]`

use std::time::Duration;

use tonic::{Code, Request, transport::Endpoint};
use uuid::Uuid;

use pb::{PingCountRequest, PingRequest, ping_service_client::PingServiceClient};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod pb {
    tonic::include_proto!("ping.v1");
}

const RETRYABLE: [Code; 4] = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Unknown];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("name the server: http://host:port")?;
    let mut pings = PingServiceClient::new(Endpoint::from_shared(url)?.connect_lazy());
    // Without an id of its own, an event that is sent twice is two events.
    let event_id = arguments.next().unwrap_or_else(|| Uuid::now_v7().to_string());
    let event = PingRequest { event_id, source: "shop-7".into(), kind: "sale".into(), ..PingRequest::default() };
    for attempt in 0.. {
        let mut request = Request::new(event.clone());
        request.set_timeout(Duration::from_secs(5));
        match pings.ping(request).await {
            Ok(_) => break,
            Err(status) if attempt == 9 || !RETRYABLE.contains(&status.code()) => return Err(status.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100 << attempt).min(Duration::from_secs(2))).await,
        }
    }
    let strong = PingCountRequest { strong: true, ..PingCountRequest::default() };
    println!("{}", pings.ping_count(strong).await?.into_inner().ping_count);
    Ok(())
}
