//! Callers that wait until an event is counted. One poll asks for all of them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_core::Token;
use ping_ports::CounterCache;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::QueryError;

/// Pause between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Callers that may wait at once. One poll reads two fields for each.
const MAX_WAITING: usize = 1_000;

/// Waiting callers. Cheap to clone; clones share the poll.
#[derive(Clone)]
pub(super) struct Waiters {
    cache: Arc<dyn CounterCache>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    callers: Vec<(Token, oneshot::Sender<()>)>,
    /// Whether a task polls for them.
    polled: bool,
}

impl Waiters {
    pub(super) fn new(cache: Arc<dyn CounterCache>) -> Self {
        Self { cache, waiting: Arc::default() }
    }

    /// Waits until the event of `token` is counted, or the deadline.
    pub(super) async fn wait(&self, token: Token, deadline: Instant) -> Result<(), QueryError> {
        // Usually it is counted already. An unavailable cache may be back before the deadline.
        if self.cache.have_counted(&[token]).await.is_ok_and(|counted| counted == [true]) {
            return Ok(());
        }
        let counted = self.join(token)?;
        match timeout_at(deadline, counted).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(QueryError::NotCountedYet),
        }
    }

    /// Adds a caller, and starts the poll if there is none.
    fn join(&self, token: Token) -> Result<oneshot::Receiver<()>, QueryError> {
        let mut waiting = self.waiting.lock();
        waiting.callers.retain(|(_, caller)| !caller.is_closed());
        if waiting.callers.len() >= MAX_WAITING {
            return Err(QueryError::TooManyWaiting(MAX_WAITING));
        }
        let (caller, counted) = oneshot::channel();
        waiting.callers.push((token, caller));
        if !waiting.polled {
            waiting.polled = true;
            tokio::spawn(self.clone().poll());
        }
        Ok(counted)
    }

    /// Answers callers until none is left.
    async fn poll(self) {
        while let Some(tokens) = self.tokens() {
            sleep(POLL_INTERVAL).await;
            if let Ok(counted) = self.cache.have_counted(&tokens).await {
                self.answer(&tokens, &counted);
            }
        }
    }

    /// What callers wait for; none ends the poll.
    fn tokens(&self) -> Option<Vec<Token>> {
        let mut waiting = self.waiting.lock();
        waiting.callers.retain(|(_, caller)| !caller.is_closed());
        waiting.polled = !waiting.callers.is_empty();
        waiting.polled.then(|| waiting.callers.iter().map(|(token, _)| *token).collect())
    }

    fn answer(&self, tokens: &[Token], counted: &[bool]) {
        let counted: Vec<_> =
            tokens.iter().zip(counted).filter(|(_, counted)| **counted).map(|(token, _)| token).collect();
        let answered =
            self.waiting.lock().callers.extract_if(.., |(token, _)| counted.contains(&&*token)).collect::<Vec<_>>();
        for (_, caller) in answered {
            // A caller that has gone away needs no answer.
            let _ = caller.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use ping_core::WriterId;
    use ping_memory::MemoryCache;

    use super::*;

    fn token(seq: i64) -> Token {
        Token { writer: WriterId(1), partition: 0, seq }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_beyond_the_limit_are_refused_and_their_places_are_free_again() {
        let waiters = Waiters::new(Arc::new(MemoryCache::default()));
        let deadline = Instant::now() + Duration::from_secs(1);
        let waiting: Vec<_> = (0..MAX_WAITING as i64)
            .map(|seq| {
                let waiters = waiters.clone();
                tokio::spawn(async move { waiters.wait(token(seq + 1), deadline).await })
            })
            .collect();
        sleep(Duration::from_millis(1)).await;
        let refused = waiters.wait(token(1), deadline).await;
        assert!(matches!(refused, Err(QueryError::TooManyWaiting(MAX_WAITING))), "{refused:?}");
        for waiter in waiting {
            assert!(matches!(waiter.await.unwrap(), Err(QueryError::NotCountedYet)));
        }
        let again = waiters.wait(token(1), Instant::now() + Duration::from_secs(1)).await;
        assert!(matches!(again, Err(QueryError::NotCountedYet)), "{again:?}");
        tokio::time::sleep(POLL_INTERVAL * 3).await;
        assert!(!waiters.waiting.lock().polled, "the poll ends with its callers");
    }
}
