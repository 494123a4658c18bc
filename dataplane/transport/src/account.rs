//! What one request holds of the budget.

use std::{
    collections::VecDeque,
    error::Error,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body as HttpBody;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{Budget, Charge};

/// The rest of a body.
pub type UnreadBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send>>;

/// Bytes charged to each request for its headers and its bookkeeping. They also cover a body of up to this size.
const REQUEST_BYTES: usize = 1024;

/// What one request holds of the budget. The body charges to it; the decoder may charge more, or release.
pub struct Account {
    budget: Budget,
    /// What every request costs.
    _request: Charge,
    charges: Mutex<Charges>,
    exhausted: AtomicBool,
    /// The rest of a body that was dropped before its end.
    unread: Mutex<Option<UnreadBody>>,
}

#[derive(Default)]
struct Charges {
    /// Until the request ends.
    held: SmallVec<[Charge; 1]>,
    /// For the frames of the body, in order, each with its bytes that are not released.
    body: VecDeque<(Charge, usize)>,
    /// Bytes of the body that are paid for and have not arrived.
    prepaid: usize,
    /// Bytes at the start of the body that were prepaid and are not released.
    start: usize,
}

impl Account {
    /// Charges what every request costs; none if the budget does not have it.
    #[must_use]
    pub fn open(budget: Budget) -> Option<Self> {
        let request = budget.try_charge(REQUEST_BYTES)?;
        let charges = Mutex::new(Charges { prepaid: REQUEST_BYTES, ..Charges::default() });
        Some(Self { budget, _request: request, charges, exhausted: AtomicBool::new(false), unread: Mutex::default() })
    }

    /// Charges `bytes` until the request ends. False if the budget does not have them now.
    #[must_use]
    pub fn try_hold(&self, bytes: usize) -> bool {
        let charge = self.budget.try_charge(bytes);
        let charged = charge.is_some();
        self.charges.lock().held.extend(charge);
        charged || self.refuse()
    }

    /// Charges the `bytes` that the message of a unary call costs, less what its body has paid, until the call ends. False if the budget
    /// does not have them now.
    ///
    /// A body that is compressed has paid for few of the bytes of its message.
    #[must_use]
    pub fn try_hold_message(&self, bytes: usize) -> bool {
        let paid = {
            let charges = self.charges.lock();
            charges.start + charges.body.iter().map(|(_, bytes)| bytes).sum::<usize>()
        };
        self.try_hold(bytes.saturating_sub(paid))
    }

    /// Charges a complete answer of `bytes` until it is sent, instead of the request, which it ends. False if the budget does not have
    /// them now.
    #[must_use]
    pub fn hold_answer(&self, bytes: usize) -> bool {
        let mut missing = bytes.saturating_sub(REQUEST_BYTES);
        {
            let mut charges = self.charges.lock();
            let Charges { held, body, .. } = std::mem::take(&mut *charges);
            // What the request has is kept as far as it is needed: an answer to what is recorded must not fail for lack of memory.
            for mut charge in held.into_iter().chain(body.into_iter().map(|(charge, _)| charge)) {
                charge.shrink(missing);
                missing -= charge.bytes().min(missing);
                if charge.bytes() > 0 {
                    charges.held.push(charge);
                }
            }
        }
        missing == 0 || self.try_hold(missing)
    }

    /// Charges `bytes`, waiting at most `wait_timeout`; the caller holds the charge. None if the budget does not have them in time.
    pub async fn charge(&self, bytes: usize, wait_timeout: Duration) -> Option<Charge> {
        let charge = self.budget.charge(bytes, wait_timeout).await;
        if charge.is_none() {
            self.refuse();
        }
        charge
    }

    /// Returns what the body has charged for its next `bytes`: a message is complete, and its owner has charged for it.
    pub fn release_body(&self, bytes: usize) {
        let mut charges = self.charges.lock();
        let of_start = bytes.min(charges.start);
        charges.start -= of_start;
        let mut bytes = bytes - of_start;
        while let Some((charge, left)) = charges.body.front_mut() {
            if *left > bytes {
                *left -= bytes;
                charge.shrink(*left);
                return;
            }
            bytes -= *left;
            charges.body.pop_front();
        }
    }

    /// `bytes` of the body have arrived, and are paid for with `charge`.
    pub(crate) fn add_frame(&self, charge: Charge, bytes: usize) {
        self.charges.lock().body.push_back((charge, bytes));
    }

    /// A body was dropped before its end; this is what is left of it.
    pub(crate) fn keep_unread(&self, body: UnreadBody) {
        *self.unread.lock() = Some(body);
    }

    /// What is left of a body that was dropped before its end. By HTTP/1.1, the connection can be used again only once it is read.
    #[must_use]
    pub fn take_unread(&self) -> Option<UnreadBody> {
        self.unread.lock().take()
    }

    /// Whether the budget did not have what this request needed.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    fn refuse(&self) -> bool {
        self.exhausted.store(true, Ordering::Relaxed);
        false
    }

    /// Whether `bytes` of the body are paid for; if so, takes them from what is prepaid.
    pub(crate) fn take_prepaid(&self, bytes: usize) -> bool {
        let mut charges = self.charges.lock();
        let covered = charges.prepaid >= bytes;
        charges.prepaid = charges.prepaid.saturating_sub(bytes);
        if covered {
            charges.start += bytes;
        }
        covered
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::TransportMetrics;

    /// An account over a budget of 1 MiB, and a function that says what is charged to it beyond what every request costs.
    fn account() -> (Account, impl Fn() -> i64) {
        let metrics = Arc::new(TransportMetrics::register(&mut Default::default()));
        let account = Account::open(Budget::new(1 << 20, Arc::clone(&metrics))).unwrap();
        (account, move || metrics.budget_used.get() - 1024)
    }

    /// A frame of the body arrives.
    async fn arrive(account: &Account, bytes: usize) {
        if !account.take_prepaid(bytes) {
            account.add_frame(account.charge(bytes, Duration::ZERO).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn a_message_pays_what_its_body_has_not_paid() {
        let (account, used) = account();
        arrive(&account, 1024).await;
        arrive(&account, 4096).await;
        assert!(account.try_hold_message(6144));
        assert_eq!(used(), 4096 + 1024);
        // It was compressed.
        assert!(account.try_hold_message(512 << 10));
        assert_eq!(used(), 4096 + 1024 + (512 << 10) - 5120);
        assert!(!account.try_hold_message(512 << 10));
        assert!(account.is_exhausted());
    }

    #[tokio::test]
    async fn a_message_of_a_stream_returns_what_its_own_bytes_have_charged() {
        let (account, used) = account();
        arrive(&account, 1000).await;
        arrive(&account, 4096).await;
        arrive(&account, 8192).await;
        account.release_body(900);
        assert_eq!(used(), 4096 + 8192);
        account.release_body(100 + 3072);
        assert_eq!(used(), 1024 + 8192, "the rest of a frame belongs to the next message");
        account.release_body(1024 + 8192);
        assert_eq!(used(), 0);
    }

    #[tokio::test]
    async fn an_answer_is_charged_instead_of_its_request() {
        let (account, used) = account();
        arrive(&account, 400 << 10).await;
        assert!(account.try_hold(400 << 10));
        // More than the budget has left, but not more than the request holds.
        assert!(account.hold_answer((600 << 10) + 1024));
        assert_eq!(used(), 600 << 10);
        assert!(account.hold_answer((700 << 10) + 1024), "it grows if there is room");
        assert_eq!(used(), 700 << 10);
        assert!(account.hold_answer(1000), "what every request pays covers a small one");
        assert_eq!(used(), 0);
        assert!(!account.hold_answer(1 << 20));
    }
}
