//! Reads of a single key.
//!
//! While few gets are in flight, each get is sent at once as a separate command. If many gets are in flight, the gets
//! that become ready within one round of the scheduler are sent as one `MGET`. Therefore the server, and both ends of
//! the connection, process one command instead of a hundred. No get waits for the reply to another get, so the gets do
//! not queue up behind each other on a slow network. No get joins a command that was already sent, so the value that a
//! get returns is never older than the call.

use std::sync::Arc;

use kv_core::{Entry, Error, GetOutcome, Key, Result, Version};
use redis::{Cmd, Value};
use tokio::sync::oneshot;

use crate::codec::{known_expiry, version_field};
use crate::error::{Failure, read_error};
use crate::get_queue::PendingGet;
use crate::server::router::Request;
use crate::state::State;

impl State {
    pub(crate) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Entry>> {
        let (_in_flight, has_many_others) = self.get_queue.begin();
        if has_many_others
            && !self.is_plain()
            && !self.router.is_cluster()
            && self.get_queue.keys_per_command() > 1
            && let Ok(result) = Box::pin(self.get_with_others(key)).await
        {
            return result;
        }
        // This line is also reached if the task that should send the queue has ended with its runtime.
        let result = self.get_alone(key).await;
        self.get_queue.observe(&result);
        result
    }

    async fn get_alone(&self, key: &Key) -> Result<Option<Entry>> {
        let reply = self.call(&self.get_request(key)).await.map_err(read_error)?;
        self.format.decode(key, reply)
    }

    /// Queues a get and waits for its result. Fails if the task that should send the queue ends with its runtime.
    async fn get_with_others(self: &Arc<Self>, key: &Key) -> Result<Result<Option<Entry>>, oneshot::error::RecvError> {
        let (reply, result) = oneshot::channel();
        if self.get_queue.push(PendingGet { key: key.clone(), reply }) {
            // A task sends the queue, because the future of the first caller may be dropped while other callers wait.
            tokio::spawn(send_queue(QueueSender { state: Arc::clone(self), has_taken: false }));
        }
        result.await
    }

    /// The request that reads a single entry.
    pub(crate) fn get_request(&self, key: &Key) -> Request {
        let place = self.layout.place(key);
        let cmd = if self.is_plain() {
            self.scripts.get.call([place.physical.as_slice()])
        } else {
            let mut cmd = Cmd::with_capacity(2, place.physical.len() + 3);
            cmd.arg("GET").arg(&place.physical);
            cmd
        };
        Request::new(place.slot, cmd)
    }

    /// Reads an entry. If the entry has this version, its value stays on the server.
    pub(crate) async fn get_unless(&self, key: &Key, version: &Version) -> Result<GetOutcome> {
        let place = self.layout.place(key);
        let mut cmd = self.scripts.get_unless.call([place.physical.as_slice()]);
        let field = version_field(version);
        cmd.arg(&field);
        let reply = self.call(&Request::new(place.slot, cmd)).await.map_err(read_error)?;
        if let Value::BulkString(stored) = &reply
            && let Some(expires) = known_expiry(key, &field, stored)?
        {
            return Ok(GetOutcome::NotModified { expires });
        }
        Ok(self.format.decode(key, reply)?.map_or(GetOutcome::Absent, GetOutcome::Found))
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        let place = self.layout.place(key);
        // In plain format a foreign value of another type may be stored under the key, which `EXISTS` would not report.
        let mut cmd = redis::cmd(if self.is_plain() { "TYPE" } else { "EXISTS" });
        cmd.arg(&place.physical);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(read_error)? {
            Value::Int(count) => Ok(count == 1),
            Value::SimpleString(kind) if kind == "none" => Ok(false),
            Value::SimpleString(kind) if kind == "string" => Ok(true),
            Value::SimpleString(_) => Err(Error::corrupt("a foreign value of another type is stored under the key")),
            _ => Err(read_error(Failure::UnexpectedReply)),
        }
    }
}

/// The task's obligation to send the queue. If the task ends with its runtime before it has taken the queue, the drop
/// discards the queued gets, and each caller of a discarded get sends its get alone.
struct QueueSender {
    state: Arc<State>,
    has_taken: bool,
}

impl QueueSender {
    fn take(&mut self) -> Vec<PendingGet> {
        self.has_taken = true;
        self.state.get_queue.take()
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        if !self.has_taken {
            drop(self.take());
        }
    }
}

/// Takes the queue at the end of this round of the scheduler, and sends the gets in batches.
async fn send_queue(mut sender: QueueSender) {
    tokio::task::yield_now().await;
    let mut pending = sender.take();
    let state = Arc::clone(&sender.state);
    // Skip gets whose future was dropped by the caller.
    pending.retain(|get| !get.reply.is_closed());
    let mut batches = Vec::new();
    while !pending.is_empty() {
        let rest = pending.split_off(state.get_queue.keys_per_command().clamp(1, pending.len()));
        batches.push(std::mem::replace(&mut pending, rest));
    }
    let Some(last) = batches.pop() else { return };
    for batch in batches {
        tokio::spawn(send_batch(Arc::clone(&state), batch));
    }
    send_batch(state, last).await;
}

async fn send_batch(state: Arc<State>, batch: Vec<PendingGet>) {
    let (keys, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|PendingGet { key, reply }| (key, reply)).unzip();
    for (result, reply) in state.get_many(&keys).await.into_iter().zip(replies) {
        state.get_queue.observe(&result);
        let _ = reply.send(result);
    }
}
