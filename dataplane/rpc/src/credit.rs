//! Compressed streams: the handler gives credit for one message at a time, and only then is that message decompressed.
//!
//! The protocol library decompresses up to two messages of a stream before the handler asks for them. They can take 16 MiB that arrived as
//! a few bytes and that the budget does not know.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use connectrpc::{CompressionRegistry, ConnectError, Protocol, dispatcher::RequestStream, envelope};
use futures::{Stream, future::BoxFuture, stream};
use http::{Method, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use ping_transport::{Account, BUDGET_TIMEOUT, BodyError, Charge};

/// The credit of one stream, owned by its handler: without a handler, nothing is decompressed, and the body needs no credit.
#[derive(Default)]
pub(super) struct Credit(Mutex<State>);

#[derive(Default)]
struct State {
    balance: Balance,
    /// The body, which waits for credit.
    body: Option<Waker>,
}

#[derive(Default)]
enum Balance {
    /// The handler does not wait for a message.
    #[default]
    None,
    /// The handler waits for a message.
    One,
    /// A message is being decompressed.
    Used(Arrival),
}

/// A message that the body has passed on.
pub(super) struct Arrival {
    /// What it may cost at most.
    pub(super) charge: Charge,
    /// Its bytes in the body, with the prefix.
    pub(super) bytes: usize,
}

impl Credit {
    fn grant(&self) {
        let mut state = self.0.lock();
        if matches!(state.balance, Balance::None) {
            state.balance = Balance::One;
            if let Some(body) = state.body.take() {
                body.wake();
            }
        }
    }

    fn poll_granted(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if matches!(state.balance, Balance::One) {
            return Poll::Ready(());
        }
        state.body = Some(context.waker().clone());
        Poll::Pending
    }

    fn spend(&self, arrival: Arrival) {
        self.0.lock().balance = Balance::Used(arrival);
    }

    fn take(&self) -> Option<Arrival> {
        match std::mem::take(&mut self.0.lock().balance) {
            Balance::Used(arrival) => Some(arrival),
            Balance::None | Balance::One => None,
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(body) = self.0.get_mut().body.take() {
            body.wake();
        }
    }
}

/// The messages of a stream, with what is known of those that needed credit.
pub(super) fn arrivals(
    mut requests: RequestStream,
    credit: Option<Arc<Credit>>,
) -> impl Stream<Item = (Result<Bytes, ConnectError>, Option<Arrival>)> {
    stream::poll_fn(move |context| {
        let next = requests.as_mut().poll_next(context);
        if let (Poll::Pending, Some(credit)) = (&next, &credit) {
            credit.grant();
        }
        next.map(|next| next.map(|message| (message, credit.as_ref().and_then(|credit| credit.take()))))
    })
}

/// The body of a stream; if its messages may be compressed, it passes them on one by one, for credit.
pub(super) struct StreamBody<B> {
    body: B,
    gate: Option<Gate>,
}

impl<B> StreamBody<B> {
    /// A body without compressed messages.
    pub(super) fn plain(body: B) -> Self {
        Self { body, gate: None }
    }

    /// The same request, to a method whose messages cost at most `max_cost`. It needs credit if the library decompresses its messages; the
    /// handler finds the credit in the extensions.
    pub(super) fn of_stream(mut request: Request<B>, account: Arc<Account>, max_cost: usize) -> Request<Self> {
        if !may_be_compressed(&request) {
            return request.map(Self::plain);
        }
        let credit = Arc::new(Credit::default());
        let gate = Gate {
            credit: Arc::downgrade(&credit),
            account,
            max_cost,
            framing: Framing::default(),
            unread: Bytes::new(),
            message: None,
            charging: None,
        };
        request.extensions_mut().insert(credit);
        request.map(|body| Self { body, gate: Some(gate) })
    }
}

/// Whether the library reads the request as a stream whose messages it decompresses. For others there would be no credit.
fn may_be_compressed<B>(request: &Request<B>) -> bool {
    let Some(found) = Protocol::detect(request.headers()) else { return false };
    let encoding =
        request.headers().get(found.protocol.content_encoding_header()).and_then(|value| value.to_str().ok());
    let is_stream = found.is_streaming && !found.is_text_mode && request.method() == Method::POST;
    is_stream && encoding.is_some_and(|encoding| CompressionRegistry::default().supports(encoding))
}

/// Holds the end of each message back until there is credit and the budget has room.
struct Gate {
    credit: Weak<Credit>,
    account: Arc<Account>,
    max_cost: usize,
    framing: Framing,
    /// What has arrived after the end that is held back.
    unread: Bytes,
    /// The end of a message, and the size of the message.
    message: Option<(Bytes, usize)>,
    charging: Option<BoxFuture<'static, Option<Charge>>>,
}

impl Gate {
    /// The next part of what has arrived that may be passed on; none if nothing is left.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.message.is_none() && !self.unread.is_empty() {
            let (length, size) = self.framing.read(&self.unread);
            let part = self.unread.split_to(length);
            let Some(size) = size else { return Poll::Ready(Some(Ok(part))) };
            self.message = Some((part, size));
        }
        let Some((_, size)) = self.message else { return Poll::Ready(None) };
        if !ready!(self.poll_admitted(size, context)) {
            return Poll::Ready(Some(Err(BodyError::Exhausted)));
        }
        Poll::Ready(self.message.take().map(|(part, _)| Ok(part)))
    }

    /// Whether the budget has what a message costs, once there is credit for it.
    fn poll_admitted(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<bool> {
        let Some(credit) = self.credit.upgrade() else { return Poll::Ready(true) };
        if self.charging.is_none() {
            ready!(credit.poll_granted(context));
        }
        let (account, max_cost) = (&self.account, self.max_cost);
        let charging = self.charging.get_or_insert_with(|| {
            let account = Arc::clone(account);
            Box::pin(async move { account.charge(max_cost, BUDGET_TIMEOUT).await })
        });
        let charge = ready!(charging.as_mut().poll(context));
        self.charging = None;
        let Some(charge) = charge else { return Poll::Ready(false) };
        credit.spend(Arrival { charge, bytes });
        Poll::Ready(true)
    }
}

impl<B> HttpBody for StreamBody<B>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, gate } = &mut *self;
        let Some(gate) = gate else { return Pin::new(body).poll_frame(context) };
        loop {
            if let Some(part) = ready!(gate.poll_part(context)) {
                return Poll::Ready(Some(part.map(Frame::data)));
            }
            match ready!(Pin::new(&mut *body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => gate.unread = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_passed_on = self.gate.as_ref().is_none_or(|gate| gate.message.is_none() && gate.unread.is_empty());
        is_passed_on && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.gate.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
}

/// Finds the ends of messages: each has a prefix of a byte with flags and four bytes with its length.
#[derive(Default)]
struct Framing {
    prefix: [u8; envelope::HEADER_SIZE],
    /// Bytes of the current message that were read, with its prefix.
    read: usize,
}

impl Framing {
    /// How many of these bytes belong to the current message; its size, with the prefix, if it ends with them.
    fn read(&mut self, bytes: &[u8]) -> (usize, Option<usize>) {
        let missing = self.prefix.len().saturating_sub(self.read).min(bytes.len());
        self.prefix.iter_mut().skip(self.read).zip(&bytes[..missing]).for_each(|(prefix, byte)| *prefix = *byte);
        self.read += missing;
        if self.read < self.prefix.len() {
            return (missing, None);
        }
        let [flags, length @ ..] = self.prefix;
        let size = self.prefix.len().saturating_add(u32::from_be_bytes(length) as usize);
        let rest = (size - self.read).min(bytes.len() - missing);
        self.read += rest;
        if self.read < size {
            return (missing + rest, None);
        }
        self.read = 0;
        // The end of a stream is not passed to the handler.
        let is_message = flags & envelope::flags::END_STREAM == 0;
        (missing + rest, is_message.then_some(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two messages and the end of the stream, in parts of every size.
    #[test]
    fn the_ends_of_messages_are_found_wherever_the_body_is_split() {
        let body = [0, 0, 0, 0, 3, 7, 7, 7, 1, 0, 0, 0, 0, 2, 0, 0, 0, 2, b'{', b'}'];
        for part in 1..=body.len() {
            let (mut framing, mut at, mut ends) = (Framing::default(), 0, Vec::new());
            for mut bytes in body.chunks(part) {
                while !bytes.is_empty() {
                    let (length, size) = framing.read(bytes);
                    (at, bytes) = (at + length, &bytes[length..]);
                    ends.extend(size.map(|size| (at, size)));
                }
            }
            assert_eq!((ends, at), (vec![(8, 8), (13, 5)], body.len()), "parts of {part}");
        }
    }

    #[test]
    fn a_credit_is_for_one_message() {
        let credit = Credit::default();
        let context = Context::from_waker(Waker::noop());
        assert!(credit.poll_granted(&context).is_pending());
        credit.grant();
        assert!(credit.poll_granted(&context).is_ready());
        assert!(credit.take().is_none(), "nothing has arrived");
    }
}
