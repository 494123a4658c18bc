//! The wire format.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Reads one request or reply, with everything that is nested in it. `None` at the end of the connection.
pub(crate) async fn read_frame(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut frame = Vec::new();
    let mut missing = 1;
    while missing > 0 {
        let start = frame.len();
        if reader.read_until(b'\n', &mut frame).await? == 0 {
            return Ok(None);
        }
        let line = std::str::from_utf8(&frame[start..]).unwrap().trim_end();
        let length = line[1..].parse::<i64>().unwrap_or(-1);
        missing -= 1;
        match line.as_bytes()[0] {
            b'*' => missing += length.max(0),
            b'$' if length >= 0 => {
                let start = frame.len();
                frame.resize(start + usize::try_from(length).unwrap() + 2, 0);
                reader.read_exact(&mut frame[start..]).await?;
            }
            _ => {}
        }
    }
    Ok(Some(frame))
}

/// The words of a request.
pub(crate) fn words(frame: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(frame).unwrap();
    let (_, mut rest) = text.split_once("\r\n").unwrap();
    let mut words = Vec::new();
    while let Some((header, after)) = rest.split_once("\r\n") {
        let length = header[1..].parse::<usize>().unwrap();
        words.push(after[..length].to_owned());
        rest = &after[length + 2..];
    }
    words
}
