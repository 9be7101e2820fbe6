//! Opening: the connection, and the threads around it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use kv_core::{Clock, Error, Result, StoreInfo, Version};
use tokio::sync::{oneshot, watch};

use crate::board::Letterbox;
use crate::builder::Location;
use crate::config::SqliteConfig;
use crate::keeper::{Keeper, Timer};
use crate::queue::Queue;
use crate::reader::{Pool, Readers};
use crate::relied::Relied;
use crate::schema::{self, Place};
use crate::statement::{Statements, Table};
use crate::store::{MEMORY_CAPABILITIES, Shared, SqliteStore};
use crate::sweep;
use crate::watch::{Watchers, keep_polling};
use crate::writer::Writer;

/// What the writer's thread has opened.
#[derive(Debug)]
struct Opened {
    readers: Arc<Readers>,
    letters: Arc<Letterbox>,
    place: Option<Place>,
}

/// Opens the store. The connection is made on the writer's own thread, where a disk that does not answer keeps nobody else.
pub(crate) async fn open(
    location: Location,
    table: Table,
    config: SqliteConfig,
    clock: Arc<dyn Clock>,
) -> Result<SqliteStore> {
    let capabilities = match &location {
        Location::File(_) => config.sync.capabilities(),
        Location::Memory => MEMORY_CAPABILITIES,
    };
    let info = StoreInfo::new(SqliteStore::NAME, capabilities).with_limits(config.limits()?);
    let keeper = Arc::new(Keeper::start()?);
    let timer = keeper.timer().clone();
    let (queue, jobs) = Queue::new(timer.clone(), config.operation_timeout);
    let sql = Arc::new(Statements::new(table));
    let watchers = Watchers::new(random(), location != Location::Memory);
    let relied = Arc::new(Relied::new());
    let is_closed = Arc::new(AtomicBool::new(false));
    let (ended, end) = watch::channel(false);
    let (reply, opened) = oneshot::channel();

    let limit = config.operation_timeout;
    let interval = config.sweep_interval;
    let writer = {
        let (keeper, sql, clock, watchers) =
            (Arc::clone(&keeper), Arc::clone(&sql), Arc::clone(&clock), watchers.clone());
        let (relied, is_closed) = (Arc::clone(&relied), Arc::clone(&is_closed));
        move || {
            let (connection, opened) = match connect(&location, &sql.table, &config, keeper.timer(), watchers.handle) {
                Ok((connection, opened)) => (connection, opened),
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return;
                }
            };
            let (readers, letters) = (Arc::clone(&opened.readers), Arc::clone(&opened.letters));
            let writer = Writer {
                connection,
                jobs,
                sql,
                clock,
                keeper,
                watchers,
                letters,
                relied,
                readers,
                place: opened.place.clone(),
                sync: config.sync,
                is_closed,
                last_batch: 0,
                ended,
            };
            // Whoever opened may have given up.
            if reply.send(Ok(opened)).is_ok() {
                writer.run();
            }
        }
    };
    std::thread::Builder::new()
        .name("kv-sqlite-writer".into())
        .spawn(writer)
        .map_err(|error| Error::capacity("no thread could be started").with_source(error))?;

    let Opened { readers, letters, place } = match timer.limit(limit, opened).await {
        Some(opened) => opened.unwrap_or_else(|_| Err(Error::unavailable("the writer ended while it was opening")))?,
        None => return Err(Error::unavailable(format!("the database did not open within {limit:?}"))),
    };
    let sweeping = sweep::keep_sweeping(
        Arc::clone(&clock),
        interval,
        Arc::downgrade(&readers),
        queue.downgrade(),
        Arc::clone(&sql),
    );
    timer.spawn(sweeping);
    if let Some(place) = place {
        timer.spawn(keep_polling(watchers.clone(), place, queue.downgrade(), Arc::clone(&sql)));
    }
    Ok(SqliteStore::from_shared(Shared {
        info,
        queue,
        readers,
        sql,
        clock,
        watchers,
        letters,
        relied,
        is_closed,
        ended: end,
        keeper,
    }))
}

fn connect(
    location: &Location,
    table: &Table,
    config: &SqliteConfig,
    timer: &Timer,
    handle: i64,
) -> Result<(crate::reader::SharedConnection, Opened)> {
    match location {
        Location::File(path) => {
            let (place, connection) = Place::open_writer(path, table, config, timer)?;
            let pool = Pool::new(place.clone(), config.readers, config.operation_timeout);
            let name = (place.canonical(), table.as_str().to_owned());
            let letters = Arc::new(Letterbox::new(handle, Some(name)));
            let opened = Opened { readers: Arc::new(Readers::Pool(pool)), letters, place: Some(place) };
            Ok((Arc::new(Mutex::new(connection)), opened))
        }
        Location::Memory => {
            let connection = Arc::new(Mutex::new(schema::open_in_memory(table)?));
            let letters = Arc::new(Letterbox::new(handle, None));
            let opened = Opened { readers: Arc::new(Readers::One(Arc::clone(&connection))), letters, place: None };
            Ok((connection, opened))
        }
    }
}

/// A number that no other handle has.
fn random() -> i64 {
    let version = Version::random();
    version.as_bytes().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}
