//! Hearing of changes and messages: one connection to each master, for as long as somebody in this process wants to hear.
//!
//! The server reports the names of changed keys (`CLIENT TRACKING … BCAST`) at no cost to who writes, and messages of the
//! namespace. What it pushes goes into bounded hubs at once, so that nothing waits in the server. A connection that is lost, a
//! master that is another, and a flush of the database are gaps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Clock, GapReason, Key, Message, SystemClock};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::Failure;
use crate::layout::{Layout, globbed, slot_of};
use crate::node::{self, Node};
use crate::store::Shared;

/// How long to wait at most before a connection that was lost is made again, however seldom servers are asked whether they
/// are there.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What there is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Changes,
    Messages,
}

/// What is heard without a gap from now on.
#[derive(Debug, Clone, Default)]
struct State {
    changes: bool,
    letters: bool,
    /// The last call that was answered by a round which began after it.
    answered: u64,
    /// How many attempts have failed, and how the last one did.
    failures: u64,
    last: Option<Failure>,
}

impl State {
    fn hears(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.changes,
            Kind::Messages => self.letters,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) changes: Hub<Changes>,
    pub(crate) letters: Hub<Messages>,
    layout: Arc<Layout>,
    /// What the names of channels begin with.
    channels: String,
    /// The slot whose master passes messages on: publishers and subscribers meet there, so that none goes over the bus of a
    /// cluster, which may lose some without a word.
    home: u16,
    state: watch::Sender<State>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// How many calls there were.
    called: AtomicU64,
    /// Rung when a connection is lost, or when somebody wants to hear.
    bell: Arc<Notify>,
}

impl Ears {
    pub(crate) fn new(layout: Arc<Layout>, channels: String) -> Self {
        let home = slot_of(channels.as_bytes());
        Self {
            changes: Hub::new(),
            letters: Hub::new(),
            layout,
            channels,
            home,
            state: watch::Sender::default(),
            task: Mutex::new(None),
            called: AtomicU64::new(0),
            bell: Arc::default(),
        }
    }

    /// The name of a channel on the server, and the slot whose master passes its messages on.
    pub(crate) fn channel(&self, channel: &Key) -> (String, u16) {
        (format!("{}{}", self.channels, channel.as_str()), self.home)
    }

    /// Returns when everything of this kind is heard, and when everything from before the call has been told. The caller has
    /// subscribed to the hub before.
    pub(crate) async fn listen(shared: &Arc<Shared>, kind: Kind) -> Result<(), Failure> {
        let ears = &shared.ears;
        let mut state = {
            let mut task = ears.task.lock();
            if task.as_ref().is_none_or(JoinHandle::is_finished) {
                // One whose runtime has ended has left its state behind.
                let was_heard = {
                    let state = ears.state.borrow();
                    (state.changes, state.letters)
                };
                ears.state.send_modify(|state| (state.changes, state.letters) = (false, false));
                *task = Some(tokio::spawn(keep_listening(Arc::downgrade(shared), was_heard)));
            }
            ears.state.subscribe()
        };
        let failures = state.borrow().failures;
        let call = ears.called.fetch_add(1, Ordering::AcqRel) + 1;
        ears.bell.notify_one();
        let limit = shared.link.timing().connect + shared.link.timing().operation;
        let is_heard = |state: &State| state.hears(kind) && state.answered >= call;
        let heard = state.wait_for(|state| is_heard(state) || state.failures > failures);
        match timeout(limit, heard).await {
            Ok(Ok(state)) if is_heard(&state) => Ok(()),
            Ok(Ok(state)) => Err(state.last.clone().unwrap_or(Failure::NotInTime)),
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::NotInTime),
        }
    }

    pub(crate) fn close(&self) {
        self.changes.close();
        self.letters.close();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    fn is_wanted(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.changes.has_subscribers(),
            Kind::Messages => self.letters.has_subscribers(),
        }
    }

    /// Says that a kind is not heard any more, unless somebody has come to want it.
    fn retire(&self, kind: Kind) -> bool {
        // Who wants to hear subscribes to the hub first and looks at the state under this lock.
        let _task = self.task.lock();
        if self.is_wanted(kind) {
            return false;
        }
        self.state.send_modify(|state| match kind {
            Kind::Changes => state.changes = false,
            Kind::Messages => state.letters = false,
        });
        true
    }

    fn told(&self) -> Teller {
        Teller {
            changes: self.changes.clone(),
            letters: self.letters.clone(),
            layout: Arc::clone(&self.layout),
            channels: self.channels.clone(),
        }
    }

    fn track(&self) -> Cmd {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("TRACKING").arg("ON").arg("BCAST");
        if !self.layout.data.is_empty() {
            cmd.arg("PREFIX").arg(&self.layout.data);
        }
        cmd
    }

    fn pattern(&self) -> String {
        format!("{}*", globbed(&self.channels))
    }
}

/// What takes the server's pushes to the hubs.
struct Teller {
    changes: Hub<Changes>,
    letters: Hub<Messages>,
    layout: Arc<Layout>,
    channels: String,
}

impl Teller {
    fn tell(&self, PushInfo { kind, data }: PushInfo) {
        match kind {
            PushKind::Invalidate => match data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(physical) = key
                            && let Some(key) = self.layout.key_at(&physical)
                        {
                            self.changes.notify(&key);
                        }
                    }
                }
                _ => self.changes.gap(GapReason::Flushed),
            },
            PushKind::PMessage => {
                if let Some(message) = self.message(data) {
                    self.letters.notify(&message);
                }
            }
            _ => {}
        }
    }

    fn message(&self, data: Vec<Value>) -> Option<Message> {
        let mut parts = data.into_iter().skip(1);
        let (Value::BulkString(channel), Value::BulkString(payload)) = (parts.next()?, parts.next()?) else {
            return None;
        };
        let channel = std::str::from_utf8(&channel).ok()?.strip_prefix(&self.channels)?;
        Some(Message { channel: Key::parse_stored(channel).ok()?, payload: payload.into() })
    }
}

/// One connection that hears.
struct Ear {
    node: Arc<Node>,
    connection: MultiplexedConnection,
    is_dead: Arc<AtomicBool>,
    tracks: bool,
    subscribes: bool,
}

impl Ear {
    async fn open(shared: &Shared, node: Arc<Node>) -> Result<Self, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let (teller, bell, flag) = (shared.ears.told(), Arc::clone(&shared.ears.bell), Arc::clone(&is_dead));
        let hear = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                flag.store(true, Ordering::Release);
                bell.notify_one();
            } else {
                teller.tell(push);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let connecting = timeout(shared.link.timing().connect, node::connect(node.client(), hear));
        let connection = connecting.await.map_err(|_| Failure::NotInTime)??;
        Ok(Self { node, connection, is_dead, tracks: false, subscribes: false })
    }

    async fn ask(&mut self, shared: &Shared, cmd: &Cmd) -> Result<(), Failure> {
        let answer = timeout(shared.link.timing().operation, self.connection.send_packed_command(cmd)).await;
        match answer.map_err(|_| Failure::Late)?.map_err(Failure::Lost)? {
            Value::ServerError(error) => Err(Failure::Refused(error)),
            _ => Ok(()),
        }
    }

    /// Hears what is wanted of this server.
    async fn tune(&mut self, shared: &Shared, wants: Wants) -> Result<(), Failure> {
        let Wants { changes, letters } = wants;
        if changes != self.tracks {
            let off = || {
                let mut cmd = redis::cmd("CLIENT");
                cmd.arg("TRACKING").arg("OFF");
                cmd
            };
            let cmd = if changes { shared.ears.track() } else { off() };
            self.ask(shared, &cmd).await?;
            self.tracks = changes;
        }
        if letters != self.subscribes {
            let pattern = shared.ears.pattern();
            let limit = shared.link.timing().operation;
            let asked = async {
                if letters {
                    self.connection.psubscribe(&pattern).await
                } else {
                    self.connection.punsubscribe(&pattern).await
                }
            };
            timeout(limit, asked).await.map_err(|_| Failure::Late)?.map_err(Failure::of)?;
            self.subscribes = letters;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Wants {
    changes: bool,
    letters: bool,
}

/// Listens for as long as somebody wants to hear; `was_heard` says what somebody before had heard.
async fn keep_listening(shared: Weak<Shared>, was_heard: (bool, bool)) {
    let mut ears: Vec<Ear> = Vec::new();
    // Whose reports have a hole since the last round that was whole.
    let (mut missed_changes, mut missed_letters) = was_heard;
    let mut is_first = true;
    loop {
        let Some(store) = shared.upgrade() else { return };
        let hub = &store.ears;
        let wants = Wants {
            changes: hub.is_wanted(Kind::Changes) || !hub.retire(Kind::Changes),
            letters: hub.is_wanted(Kind::Messages) || !hub.retire(Kind::Messages),
        };
        if !wants.changes && !wants.letters && !is_first {
            let mut task = hub.task.lock();
            if !hub.is_wanted(Kind::Changes) && !hub.is_wanted(Kind::Messages) {
                *task = None;
                return;
            }
            continue;
        }
        is_first = false;
        let called = hub.called.load(Ordering::Acquire);
        let lost = round(&store, &mut ears, wants).await;
        let now = hub.state.borrow().clone();
        match lost {
            Ok(lost) => {
                if (lost && now.changes) || missed_changes {
                    hub.changes.gap(GapReason::Reconnected);
                }
                if (lost && now.letters) || missed_letters {
                    hub.letters.gap(GapReason::Reconnected);
                }
                (missed_changes, missed_letters) = (false, false);
                hub.state.send_modify(|state| {
                    (state.changes, state.letters) = (wants.changes, wants.letters);
                    state.answered = called;
                });
            }
            Err(failure) => {
                missed_changes |= now.changes;
                missed_letters |= now.letters;
                hub.state.send_modify(|state| {
                    (state.changes, state.letters) = (false, false);
                    state.failures += 1;
                    state.last = Some(failure);
                });
            }
        }
        let (bell, rest) = (Arc::clone(&hub.bell), store.link.timing().heartbeat);
        let is_well = ears.iter().all(|ear| !ear.is_dead.load(Ordering::Acquire));
        drop(store);
        if is_well {
            let _ = timeout(rest, bell.notified()).await;
        } else {
            // A server that is down is not asked without a pause; a connection that was lost within the round is missed by somebody.
            SystemClock.sleep((rest / 10).min(LONGEST_PAUSE)).await;
        }
    }
}

/// Makes sure that every master is heard, and tells whether there was a hole since the last round.
async fn round(store: &Shared, ears: &mut Vec<Ear>, wants: Wants) -> Result<bool, Failure> {
    store.link.refresh().await?;
    let masters = store.link.masters();
    let home = store.link.master(store.ears.home);
    let is_home = |node: &Arc<Node>| home.as_ref().is_some_and(|home| Arc::ptr_eq(home, node));
    let before = ears.len();
    let mut lost = false;
    for mut ear in std::mem::take(ears) {
        let is_wrong = ear.is_dead.load(Ordering::Acquire)
            || !masters.iter().any(|node| Arc::ptr_eq(node, &ear.node))
            || (ear.subscribes && !is_home(&ear.node));
        if !is_wrong && ear.ask(store, &redis::cmd("PING")).await.is_ok() {
            ears.push(ear);
        } else {
            lost = true;
        }
    }
    for node in masters {
        if !ears.iter().any(|ear| Arc::ptr_eq(&ear.node, &node)) {
            // One more master than before may have changed something before it was heard.
            lost |= before > 0;
            ears.push(Ear::open(store, node).await?);
        }
    }
    for ear in ears.iter_mut() {
        let letters = wants.letters && is_home(&ear.node);
        if let Err(failure) = ear.tune(store, Wants { letters, ..wants }).await {
            ear.is_dead.store(true, Ordering::Release);
            return Err(failure);
        }
    }
    Ok(lost)
}
