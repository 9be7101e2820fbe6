//! The connection that listens, and who keeps it: one task, which makes it anew where it is lost.
//!
//! It is made when somebody first watches or subscribes, and given up a while after the last has gone. While it is there the server's
//! notifications are always read, so that none pile up there; they go to hubs that are bounded. Where it was lost, everybody
//! is told of a gap, after it listens again: what is read then is followed by every later change.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Error, GapReason, Key, Result, SystemClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection};

use crate::address::Address;
use crate::error::{Cause, Effect, Fault};
use crate::home::until_stopped;
use crate::message::{self, Posted};
use crate::state::Core;
use crate::watch;

/// How often to ask the server whether it is there, and to see whether anybody listens.
const BEAT: Duration = Duration::from_secs(5);
/// After so many beats without anybody the connection is given up.
const IDLE_BEATS: u32 = 6;
/// How many messages wait for the one before them to be fetched.
const MAX_POSTED: usize = 10_000;
/// How long to wait before a lost connection is made again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// What is asked of the task.
#[derive(Debug)]
struct Wanted {
    /// Whether changes are to be told, and not messages alone.
    changes: bool,
    reply: oneshot::Sender<Result<()>>,
}

/// Asks the task to listen.
#[derive(Debug)]
pub(crate) struct Listener {
    wanted: mpsc::Sender<Wanted>,
}

/// The task's end of a [`Listener`].
#[derive(Debug)]
pub(crate) struct Requests(mpsc::Receiver<Wanted>);

impl Listener {
    pub(crate) fn new() -> (Self, Requests) {
        let (wanted, requests) = mpsc::channel(64);
        (Self { wanted }, Requests(requests))
    }

    /// Returns when the server's notifications come in; of changes, too, where they are wanted.
    pub(crate) async fn listen(&self, changes: bool, limit: Duration) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.wanted.send(Wanted { changes, reply }).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Some(listening)) => listening,
            Ok(None) => Err(Error::closed()),
            Err(_) => Err(Error::unavailable("the server did not answer in time")),
        }
    }
}

/// A connection that listens.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Ends with the connection.
    driver: JoinHandle<()>,
    postman: JoinHandle<()>,
    posted: mpsc::Sender<Post>,
    tells_changes: bool,
}

/// What goes to the postman.
#[derive(Debug)]
enum Post {
    Posted(Posted),
    /// Asks for a reply when everything before it was handed out.
    Mark(oneshot::Sender<Result<()>>),
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
        self.postman.abort();
    }
}

/// Keeps the connection until the store is closed or dropped.
pub(crate) async fn keep_listening(core: Arc<Core>, address: Address, requests: Requests) {
    let stopped = until_stopped(core.home.stopped());
    let keeper =
        Keeper { core: Arc::clone(&core), address, session: None, is_lost: false, idle_beats: 0, unwatched_beats: 0 };
    tokio::select! {
        () = stopped => {}
        () = keeper.run(requests) => {}
    }
}

struct Keeper {
    core: Arc<Core>,
    address: Address,
    session: Option<Session>,
    /// Whether there was a connection of which somebody still waits to hear.
    is_lost: bool,
    /// How often in a row nobody listened to anything, and nobody to changes.
    idle_beats: u32,
    unwatched_beats: u32,
}

impl Keeper {
    async fn run(mut self, mut requests: Requests) {
        let mut pause = PAUSES[0];
        loop {
            let wait = if self.is_lost { pause } else { BEAT };
            tokio::select! {
                request = requests.0.recv() => match request {
                    Some(wanted) => self.serve(wanted).await,
                    None => return,
                },
                () = ended(self.session.as_mut()) => self.lose(),
                () = SystemClock.sleep(wait) => {
                    if self.is_lost {
                        pause = if self.restore().await.is_ok() { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
                    } else {
                        self.beat().await;
                    }
                }
            }
        }
    }

    /// Replies to who asked, who may have given up.
    async fn serve(&mut self, Wanted { changes, reply }: Wanted) {
        self.idle_beats = 0;
        self.unwatched_beats = 0;
        let listening = async {
            self.connect().await?;
            if changes { self.tell_changes().await } else { self.catch_up().await }
        };
        match (listening.await, &self.session) {
            (Ok(()), Some(session)) if !changes => {
                // Behind what was published before.
                if let Err(mpsc::error::SendError(Post::Mark(reply))) = session.posted.send(Post::Mark(reply)).await {
                    let _ = reply.send(Err(Error::unavailable("the connection was lost")));
                }
            }
            (done, _) => drop(reply.send(done)),
        }
    }

    /// Returns when all that was published before has come in: the server sends it before it answers.
    async fn catch_up(&mut self) -> Result<()> {
        let Some(session) = &self.session else { return Err(Error::unavailable("the connection was lost")) };
        within(self.core.links.limit, session.client.batch_execute("")).await
    }

    /// Makes the connection where there is none.
    async fn connect(&mut self) -> Result<()> {
        if self.session.is_some() {
            return Ok(());
        }
        let session = connect(Arc::clone(&self.core), &self.address).await?;
        self.session = Some(session);
        if self.is_lost {
            // Others watch and were not asked.
            if self.core.changes.has_subscribers() {
                // A session that tells nothing would pass for one that does.
                let told = self.tell_changes().await;
                if told.is_err() {
                    self.lose();
                }
                told?;
            }
            self.is_lost = false;
            self.core.changes.gap(GapReason::Reconnected);
            self.core.letters.gap(GapReason::Reconnected);
        }
        Ok(())
    }

    async fn tell_changes(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Err(Error::unavailable("the connection was lost")) };
        if session.tells_changes {
            return Ok(());
        }
        let enabled = watch::enable(&session.client, &self.core).await;
        match &enabled {
            Ok(()) => session.tells_changes = true,
            Err(_) if session.client.is_closed() => self.lose(),
            Err(_) => {}
        }
        enabled
    }

    async fn restore(&mut self) -> Result<()> {
        if !self.has_subscribers() {
            self.is_lost = false;
            return Ok(());
        }
        self.connect().await
    }

    /// Asks the server whether it is there, and gives up what nobody needs any more.
    async fn beat(&mut self) {
        let Some(session) = &self.session else { return };
        self.idle_beats = if self.has_subscribers() { 0 } else { self.idle_beats + 1 };
        if self.idle_beats >= IDLE_BEATS {
            // The lock of watchers goes with it.
            self.session = None;
            return;
        }
        self.unwatched_beats = if self.core.changes.has_subscribers() { 0 } else { self.unwatched_beats + 1 };
        // Writers pay as long as the lock of watchers is held. It is the only one of this session.
        let is_unwatched = session.tells_changes && self.unwatched_beats >= IDLE_BEATS;
        let sql = if is_unwatched { "SELECT pg_advisory_unlock_all()" } else { "" };
        if within(self.core.links.limit, session.client.batch_execute(sql)).await.is_err() {
            self.lose();
        } else if let (true, Some(session)) = (is_unwatched, &mut self.session) {
            session.tells_changes = false;
        }
    }

    fn lose(&mut self) {
        self.session = None;
        self.is_lost = true;
    }

    fn has_subscribers(&self) -> bool {
        self.core.changes.has_subscribers() || self.core.letters.has_subscribers()
    }
}

/// Returns when the connection has ended.
async fn ended(session: Option<&mut Session>) {
    match session {
        // However it ended.
        Some(session) => drop((&mut session.driver).await),
        None => std::future::pending().await,
    }
}

/// Connects and listens.
async fn connect(core: Arc<Core>, address: &Address) -> Result<Session> {
    let limit = core.links.limit;
    let (posted, post) = mpsc::channel(MAX_POSTED);
    let channel = core.table.channel();
    let postman = tokio::spawn(deliver(Arc::clone(&core), post));
    let telling = posted.clone();
    let opened = open(address, limit, move |payload| tell(&core, payload, &telling)).await;
    let (client, driver) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            postman.abort();
            return Err(error);
        }
    };
    let session = Session { client, driver, postman, posted, tells_changes: false };
    within(limit, session.client.batch_execute(&format!("LISTEN {channel}"))).await?;
    Ok(session)
}

/// Connects, and gives each notification's payload away.
pub(crate) async fn open(
    address: &Address,
    limit: Duration,
    tell: impl FnMut(&str) + Send + 'static,
) -> Result<(Client, JoinHandle<()>)> {
    let connecting = tokio::time::timeout(limit, address.config.connect(address.tls.clone()));
    let (client, connection) = match connecting.await {
        Ok(connected) => connected.map_err(|error| Fault::connecting(error).into_error(Effect::None))?,
        Err(_) => return Err(Fault::Before(Cause::Timeout).into_error(Effect::None)),
    };
    Ok((client, tokio::spawn(drive(connection, tell))))
}

/// A round trip on the connection that listens.
pub(crate) async fn within<T>(
    limit: Duration,
    trip: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
) -> Result<T> {
    match tokio::time::timeout(limit, trip).await {
        Ok(done) => done.map_err(|error| Fault::sent(error).into_error(Effect::None)),
        Err(_) => Err(Fault::Unanswered(Cause::Timeout).into_error(Effect::None)),
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, mut tell: impl FnMut(&str) + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            tell(notification.payload());
        }
    }
}

/// Tells the hubs what a notification says. It never waits.
fn tell(core: &Core, payload: &str, posted: &mpsc::Sender<Post>) {
    let (kind, rest) = payload.split_once(' ').unwrap_or((payload, ""));
    match kind.as_bytes() {
        [b's', ..] | b"d" => {
            if let Ok(key) = Key::parse_stored(rest) {
                core.changes.notify(&key);
            }
        }
        b"f" => core.changes.gap(GapReason::Flushed),
        _ => {
            let Some(message) = Posted::parse(kind, rest) else { return };
            if core.letters.has_subscribers() && posted.try_send(Post::Posted(message)).is_err() {
                core.letters.gap(GapReason::Lagged);
            }
        }
    }
}

/// Hands out messages in their order, and fetches those that lie in the table.
async fn deliver(core: Arc<Core>, mut post: mpsc::Receiver<Post>) {
    while let Some(post) = post.recv().await {
        let posted = match post {
            Post::Posted(posted) => posted,
            Post::Mark(reply) => {
                let _ = reply.send(Ok(()));
                continue;
            }
        };
        match posted {
            Posted::Message(message) => core.letters.notify(&message),
            Posted::Letter { channel, id } => match message::fetch(&core, &id).await {
                Ok(Some(payload)) => core.letters.notify(&kv_core::Message { channel, payload }),
                Ok(None) => core.letters.gap(GapReason::Lagged),
                Err(_) => core.letters.gap(GapReason::Reconnected),
            },
        }
    }
}

/// Listens to a channel, and says when this payload has come in. Through a pooler of transactions it never does: there, `LISTEN`
/// is accepted, and nothing is ever heard.
pub(crate) async fn expect(
    channel: &str,
    payload: String,
    address: &Address,
    limit: Duration,
) -> Result<(Client, oneshot::Receiver<()>)> {
    let (sender, heard) = oneshot::channel();
    let mut sender = Some(sender);
    // The connection ends with its client.
    let (client, _) = open(address, limit, move |heard| {
        if heard == payload
            && let Some(sender) = sender.take()
        {
            // Nobody waits any more where it came too late.
            let _ = sender.send(());
        }
    })
    .await?;
    within(limit, client.batch_execute(&format!("LISTEN {channel}"))).await?;
    Ok((client, heard))
}
