//! What the server and the suite's runner say to each other through standard input and output: messages, each behind its length.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use anyhow::Context;
use buffa::Message;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::unix::pipe,
};

use crate::proto::{ServerCompatRequest, ServerCompatResponse};

/// Reads what kind of server the runner wants. It closes the input afterwards.
///
/// # Errors
/// If standard input ends early or contains something else.
pub(crate) fn read_request() -> anyhow::Result<ServerCompatRequest> {
    let mut input = io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length).context("cannot read the length of the runner's request")?;
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut request).context("cannot read the runner's request")?;
    ServerCompatRequest::decode_from_slice(&request).context("cannot decode the runner's request")
}

/// Standard output, which the runner reads.
pub(crate) struct Output(pipe::Sender);

impl Output {
    /// # Errors
    /// If standard output is not a pipe.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let sender = pipe::Sender::from_owned_fd(output);
        Ok(Self(sender.context("standard output is not a pipe: this program is started by connectconformance")?))
    }

    /// # Errors
    /// If the runner does not read.
    pub(crate) async fn write(&mut self, response: &ServerCompatResponse) -> anyhow::Result<()> {
        let message = response.encode_to_vec();
        self.0.write_u32(u32::try_from(message.len())?).await?;
        Ok(self.0.write_all(&message).await?)
    }

    /// Waits until the runner has closed its end. Otherwise a runner that was killed would leave its servers behind.
    pub(crate) async fn closed(&self) {
        let _ = self.0.ready(Interest::ERROR).await;
    }
}
