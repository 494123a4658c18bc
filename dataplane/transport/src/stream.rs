//! A connection's bytes, encrypted or not.

use std::{pin::Pin, time::Duration};

use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// A connection whose peer must accept data in time.
pub(crate) type WriteTimeout = Pin<Box<TimeoutStream<TcpStream>>>;

/// `stream`, which fails if its peer accepts nothing for `timeout`.
pub(crate) fn with_write_timeout(stream: TcpStream, timeout: Duration) -> WriteTimeout {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    Box::pin(stream)
}
