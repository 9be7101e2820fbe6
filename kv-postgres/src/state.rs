//! What all handles of a store and its tasks share.

use std::time::Duration;

use kv_core::hub::{Changes, Hub, Letters};
use kv_core::{Error, Result, StoreInfo};

use crate::batch::{Delete, Get, Set};
use crate::error::{Effect, Fault};
use crate::home::Home;
use crate::lane::Lane;
use crate::link::{Links, Params};
use crate::listen::Listener;
use crate::schema::Table;
use crate::statement::{Sql, Statements};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) info: StoreInfo,
    pub(crate) table: Table,
    pub(crate) sql: Statements,
    pub(crate) links: Links,
    pub(crate) home: Home,
    pub(crate) gets: Lane<Get>,
    pub(crate) sets: Lane<Set>,
    pub(crate) deletes: Lane<Delete>,
    pub(crate) changes: Hub<Changes>,
    pub(crate) letters: Hub<Letters>,
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
