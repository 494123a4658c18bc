//! A tenant decides what answers the operator's requests for the count. Whatever it is, the operator's memory stays small, and the
//! request ends soon with an error that says what is wrong.
#![cfg(test)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ping_operator::{
    error::chain,
    server_connection::{ConnectionSettings, Count, ServerConnection, StatsError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the server of issue 22 answered with.
const HUGE: usize = 600 * 1024 * 1024;

/// How a hostile server answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// With `HUGE` bytes, announced in `Content-Length`.
    Announced,
    /// With `HUGE` bytes in chunks, unannounced.
    Chunked,
    /// With a redirect to this address.
    Redirect(SocketAddr),
    /// With a byte of the header at a time.
    SlowHeader,
    /// With a byte of the body at a time.
    SlowBody,
    /// With a header that never ends.
    EndlessHeader,
    /// Not at all.
    Silence,
}

/// Starts a server; the counter has the bytes that its clients took.
async fn serve(answer: Answer) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = sent.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond(stream, answer, counter.clone()));
        }
    });
    (address, sent)
}

/// Ends when the client closes the connection.
async fn respond(mut stream: TcpStream, answer: Answer, sent: Arc<AtomicUsize>) {
    let _ = stream.read(&mut [0; 4096]).await;
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let (head, unit, pause) = match answer {
        Answer::Announced => (format!("{json}Content-Length: {HUGE}\r\n\r\n"), " ".repeat(16 * 1024), Duration::ZERO),
        Answer::Chunked => {
            let chunk = format!("4000\r\n{}\r\n", " ".repeat(16 * 1024));
            (format!("{json}Transfer-Encoding: chunked\r\n\r\n"), chunk, Duration::ZERO)
        }
        Answer::Redirect(to) => {
            let head =
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n");
            (head, String::new(), Duration::ZERO)
        }
        Answer::SlowHeader => (String::new(), "H".into(), Duration::from_millis(100)),
        Answer::SlowBody => (format!("{json}Content-Length: 500\r\n\r\n"), " ".into(), Duration::from_millis(100)),
        Answer::EndlessHeader => ("HTTP/1.1 200 OK\r\n".into(), format!("A: {}\r\n", "a".repeat(1000)), Duration::ZERO),
        Answer::Silence => (String::new(), String::new(), Duration::from_secs(60)),
    };
    let mut result = stream.write_all(head.as_bytes()).await;
    while result.is_ok() && sent.load(Ordering::SeqCst) < HUGE && !matches!(answer, Answer::Redirect(_)) {
        result = stream.write_all(unit.as_bytes()).await;
        sent.fetch_add(unit.len(), Ordering::SeqCst);
        tokio::time::sleep(pause).await;
    }
}

async fn count(address: SocketAddr) -> Result<Count, StatsError> {
    let settings = ConnectionSettings { address: format!("http://{address}"), tls: None, token: None };
    ServerConnection::new(&settings).unwrap().count().await
}

/// Highest resident memory of this process so far, in KiB.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_answer_costs_memory_or_time() {
    let (elsewhere, taken_elsewhere) = serve(Answer::Announced).await;
    let answers = [
        (Answer::Announced, "is longer than 65536 bytes"),
        (Answer::Chunked, "is longer than 65536 bytes"),
        (Answer::Redirect(elsewhere), "307, a redirect, which is not followed"),
        (Answer::SlowHeader, "no server responded"),
        (Answer::SlowBody, "no server responded"),
        (Answer::EndlessHeader, "no server responded"),
        (Answer::Silence, "no server responded"),
    ];
    // The first request of a process allocates what all share.
    count(serve(Answer::Redirect(elsewhere)).await.0).await.unwrap_err();
    let before = peak_memory();
    for (answer, words) in answers {
        let (address, taken) = serve(answer).await;
        let started = Instant::now();
        let error = chain(&count(address).await.unwrap_err());
        assert!(error.contains(words), "{answer:?}: {error}");
        assert!(started.elapsed() < Duration::from_secs(3), "{answer:?} took {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let taken = taken.load(Ordering::SeqCst);
        assert!(taken < 16 * 1024 * 1024, "{answer:?}: {taken} bytes were taken");
    }
    assert_eq!(taken_elsewhere.load(Ordering::SeqCst), 0, "a redirect was followed");
    // The kernel rounds: its figure can fall a little.
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 16 * 1024, "the operator grew by {grown} KiB");
}
