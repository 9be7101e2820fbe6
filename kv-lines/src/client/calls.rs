//! Calls: a request, and its answer on a connection that nobody else uses meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use kv_core::{Error, Key, Operation, Result, SetItem, StoreInfo};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use super::answer::{self, Answer, BRIEF_BYTES};
use super::connection::Connection;
use super::endpoint::{Broken, Endpoint, line};
use crate::line::MAX_LINE_BYTES;
use crate::request::Request;
use crate::shape::{Info, Many};

/// How many calls are under way at a time, each on a connection of its own; more wait.
const MAX_CALLS: usize = 64;
/// How many bytes of keys and values go into one request of a batch: their base64 is less than a request may have.
const BATCH_BYTES: usize = MAX_LINE_BYTES / 2;

#[derive(Debug)]
pub(super) struct Calls {
    info: StoreInfo,
    endpoint: Endpoint,
    /// Open as long as the handle is, by which the server knows that it is.
    first: Mutex<Option<Connection>>,
    idle: Mutex<VecDeque<Connection>>,
    room: Semaphore,
    is_closed: watch::Sender<bool>,
}

/// Whether a call may have changed something when no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// A write that takes as long as it needs.
    Long,
}

impl Kind {
    /// What the caller learns of an answer that came and cannot be understood: the write behind it may have happened.
    fn unread(self, error: &Error) -> Error {
        let message = format!("the answer of the served store cannot be read: {}", error.message());
        if self == Self::Read { Error::corrupt(message) } else { Error::indeterminate(None, message) }
    }
}

impl Calls {
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self> {
        let mut first = endpoint.connect().await?;
        let request = line(&Request::Info {})?;
        let asked = endpoint.within(async {
            first.send(&request).await?;
            first.receive(BRIEF_BYTES).await.map(<[u8]>::to_vec)
        });
        let answer = asked.await.map_err(|broken| broken.into_error(false))?;
        let info: Info = answer::read::<Answer<Info>>(&answer)?.into_result()?;
        Ok(Self {
            info: info.into(),
            endpoint,
            first: Mutex::new(Some(first)),
            idle: Mutex::default(),
            room: Semaphore::new(MAX_CALLS),
            is_closed: watch::Sender::new(false),
        })
    }

    pub(super) fn info(&self) -> &StoreInfo {
        &self.info
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Comes when the handle is closed, or dropped by all.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut is_closed = self.is_closed.subscribe();
        async move {
            let _ = is_closed.wait_for(|is_closed| *is_closed).await;
        }
    }

    /// Closes the handle.
    pub(super) async fn close(&self) -> Result<()> {
        if self.check_open().is_err() {
            return Ok(());
        }
        let flushed = self.ask(Kind::Long, &Request::Flush {}).await;
        self.is_closed.send_replace(true);
        drop(self.first.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        flushed
    }

    /// Refuses what comes behind `close`.
    pub(super) fn check_open(&self) -> Result<()> {
        if *self.is_closed.borrow() { Err(Error::closed()) } else { Ok(()) }
    }

    /// Asks, and reads the answer. The connection of a call that failed or was dropped is not used again.
    async fn ask<T: DeserializeOwned>(&self, kind: Kind, request: &Request) -> Result<T> {
        let most = self.longest_answer(request);
        let request = line(request)?;
        // The semaphore is never closed.
        let _permit = self.room.acquire().await.map_err(|_| Error::closed())?;
        let mut connection = match self.idle() {
            Some(connection) => connection,
            None => self.endpoint.connect().await?,
        };
        let work = async {
            connection.send(&request).await?;
            connection.receive(most).await.map(answer::read::<Answer<T>>)
        };
        let answer = match kind {
            Kind::Long => work.await.map_err(Broken::Connection),
            Kind::Read | Kind::Write => self.endpoint.within(work).await,
        };
        let answer = answer.map_err(|broken| broken.into_error(kind != Kind::Read))?;
        let answer = answer.map_err(|error| kind.unread(&error))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_front(connection);
        answer.into_result()
    }

    /// How long an answer can be, in bytes, so that a server cannot use up the memory here.
    fn longest_answer(&self, request: &Request) -> usize {
        match request {
            Request::Get { .. } | Request::Set(_) | Request::Delete(_) => {
                answer::bytes_with(self.info.limits.max_value_bytes)
            }
            Request::GetMany { .. } | Request::SetMany { .. } | Request::DeleteMany { .. } | Request::List(_) => {
                answer::MAX_BYTES
            }
            // A version for each mutation, in hex.
            Request::Commit(commit) => BRIEF_BYTES + 64 * commit.mutations(),
            _ => BRIEF_BYTES,
        }
    }

    /// A connection of an earlier call that is still good.
    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop_front()).find(Connection::is_idle)
    }

    /// Asks, and says of an error what was asked.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        kind: Kind,
        request: Result<Request>,
    ) -> Result<T> {
        let asked = async {
            self.check_open()?;
            self.ask(kind, &request?).await
        };
        asked.await.map_err(|error| self.explained(error, operation, key))
    }

    /// What an answer says, and what was asked where that cannot be understood.
    pub(super) fn understood<T>(
        &self,
        read: Result<T>,
        operation: Operation,
        key: Option<&Key>,
        kind: Kind,
    ) -> Result<T> {
        read.map_err(|error| self.explained(kind.unread(&error), operation, key))
    }

    pub(super) fn explained(&self, error: Error, operation: Operation, key: Option<&Key>) -> Error {
        let error = error.with_operation(operation).with_backend(self.info.name.clone());
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }

    /// Sends a batch in as many requests as its size needs, and gives each element its answer.
    pub(super) async fn batch<I, T: DeserializeOwned, O>(
        &self,
        operation: Operation,
        kind: Kind,
        items: &[I],
        request: impl Fn(&[I]) -> Result<Request> + Send + Sync,
        read: impl Fn(T) -> Result<O> + Send + Sync,
    ) -> Vec<Result<O>>
    where
        I: Element,
        O: Send,
    {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |item: &&I| {
                bytes += item.bytes();
                bytes <= BATCH_BYTES
            };
            let count = rest.iter().take(Many::<I>::MAX).take_while(fits).count();
            let (part, later) = rest.split_at(count.max(1));
            rest = later;
            let answers: Result<Vec<Answer<T>>> = self.call(operation, None, kind, request(part)).await;
            match answers {
                Ok(answers) if answers.len() == part.len() => {
                    outcomes.extend(part.iter().zip(answers).map(|(item, answer)| {
                        let outcome =
                            answer.into_result().and_then(|each| read(each).map_err(|error| kind.unread(&error)));
                        outcome.map_err(|error| self.explained(error, operation, Some(item.key())))
                    }));
                }
                other => {
                    let error = other.map_or_else(|error| error, |_| miscounted(kind));
                    outcomes.extend(part.iter().map(|item| {
                        let each = Error::new(error.kind(), error.message().to_owned());
                        Err(self.explained(each, operation, Some(item.key())))
                    }));
                }
            }
        }
        outcomes
    }
}

/// One of a batch.
pub(super) trait Element: Sync {
    fn key(&self) -> &Key;
    /// How much it adds to a request, without what the encoding adds.
    fn bytes(&self) -> usize;
}

impl Element for Key {
    fn key(&self) -> &Key {
        self
    }

    fn bytes(&self) -> usize {
        self.as_str().len()
    }
}

impl Element for SetItem {
    fn key(&self) -> &Key {
        &self.key
    }

    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.value.len()
    }
}

/// A batch came back with more or fewer answers than it had questions.
fn miscounted(kind: Kind) -> Error {
    let message = "the served store gave another number of answers than it was asked";
    if kind == Kind::Read { Error::corrupt(message) } else { Error::indeterminate(None, message) }
}
