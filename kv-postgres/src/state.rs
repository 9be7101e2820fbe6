//! What all handles of a store and its tasks share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Error, Result, StoreInfo};

use crate::batch::{Delete, Get, Set};
use crate::error::{Effect, Fault};
use crate::home::Home;
use crate::lane::Lane;
use crate::link::{Links, Params};
use crate::listen::Listener;
use crate::schema::Table;
use crate::statement::{Sql, Statements};

/// How long the values are that are read, by the last statement: as many keys go into the next one as an answer may have.
#[derive(Debug)]
pub(crate) struct Answers(AtomicUsize);

impl Answers {
    /// How many bytes an answer has, about, unless one value alone has more.
    pub(crate) const MAX_BYTES: usize = 4 << 20;
    /// What a value counts for at least, and before the first was read.
    const LEAST: usize = 256;
    const FIRST: usize = 16 << 10;
    /// After an answer that did not come, which may have been too long.
    const CAUTIOUS: usize = 1 << 20;

    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(Self::FIRST))
    }

    /// About how long the next value is.
    pub(crate) fn expected(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Keeps in mind what a statement gave: its longest value, or nothing.
    pub(crate) fn came(&self, longest: Option<usize>) {
        self.0.store(longest.map_or(Self::CAUTIOUS, |longest| longest.max(Self::LEAST)), Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) info: StoreInfo,
    pub(crate) table: Table,
    pub(crate) sql: Statements,
    pub(crate) links: Links,
    pub(crate) home: Home,
    pub(crate) gets: Lane<Get>,
    pub(crate) answers: Answers,
    pub(crate) sets: Lane<Set>,
    pub(crate) deletes: Lane<Delete>,
    pub(crate) changes: Hub<Changes>,
    pub(crate) letters: Hub<Messages>,
    pub(crate) listener: Option<Listener>,
    pub(crate) sweep_interval: Duration,
}

impl Core {
    /// A statement that changes nothing.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<tokio_postgres::Row>> {
        self.links.read(sql, params).await.map_err(|fault| fault.into_error(Effect::None))
    }

    /// A statement that changes something.
    pub(crate) async fn write(
        &self,
        sql: &Sql,
        params: Params<'_>,
        effect: Effect,
    ) -> Result<Vec<tokio_postgres::Row>> {
        self.links.call(sql, params).await.map_err(|fault| fault.into_error(effect))
    }
}

/// A column of a row that a statement of ours gave.
pub(crate) fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r tokio_postgres::Row,
    at: usize,
) -> Result<T, Error> {
    row.try_get(at).map_err(|_| Fault::Shape.into_error(Effect::None))
}
