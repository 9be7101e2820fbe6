//! Commits of an engine, and the hub that they notify.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::super::commit_error::CommitError;
use super::super::records::Records;
use super::super::writer::Committer;
use super::batch::Batch;
use super::visible::Visible;
use super::{Engine, Writes};
use crate::clock::Clock;
use crate::error::Result;
use crate::hub::{Changes, Hub, Messages};
use crate::watch::GapReason;

/// The engine on the writer's thread.
pub(super) struct EngineCommitter<E> {
    pub(super) engine: Arc<E>,
    pub(super) visible: Arc<Visible<E>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) changes: Hub<Changes>,
    pub(super) messages: Hub<Messages>,
}

impl<E: Engine> Committer for EngineCommitter<E> {
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Records) -> Result<()>) -> Result<bool, CommitError> {
        let transaction = self.engine.begin().map_err(CommitError::NotApplied)?;
        let mut batch = Batch::new(transaction, &*self.clock);
        work(&mut batch).map_err(CommitError::NotApplied)?;
        let (Some(transaction), changed) = batch.finish() else { return Ok(false) };
        let section = self.visible.exclusive();
        let committed = catch_unwind(AssertUnwindSafe(|| transaction.commit())).unwrap_or_else(|panic| {
            // The changes may be visible. The sinks learn of it before any read.
            self.changes.gap(GapReason::NotReported);
            resume_unwind(panic)
        });
        if !matches!(committed, Err(CommitError::NotApplied(_))) {
            for key in &changed {
                self.changes.notify(key);
            }
        }
        drop(section);
        committed.map(|()| true)
    }

    fn sync(&mut self) -> Result<()> {
        self.engine.sync()
    }

    fn suspend(&mut self) {
        self.changes.gap(GapReason::NotReported);
    }

    fn close(self) -> Result<()> {
        self.changes.close();
        self.messages.close();
        self.visible.close();
        // The last owner: reads had the engine only under the lock that `close` took.
        drop(self.engine);
        Ok(())
    }
}
