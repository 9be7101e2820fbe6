//! The process that is killed: its tasks work on one store, and log each call before and after the call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anykv::{Clock, Kv, SystemClock};
use tokio::task::JoinSet;

use crate::args::Work;
use crate::choose::{Chooser, group_name};
use crate::error::Result;
use crate::log::{Log, What, now_micros};
use crate::perform::perform;
use crate::store;

/// The number of tasks. Each task has its own keys.
pub(crate) const TASKS: usize = 6;

/// The time after which a worker ends by itself, for the case that its parent was killed.
const LIFETIME: Duration = Duration::from_secs(60);

/// Works until this process or the server is killed. Returns when each task has had a failed call.
pub(crate) async fn work(work: Work) -> Result<()> {
    let start = now_micros();
    let kv = store::open(&work.url, &work.namespace).await?;
    let log = Arc::new(Log::create(&work.log)?);
    log.write(0, What::Opened(now_micros().saturating_sub(start)))?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (kv, log) = (kv.clone(), Arc::clone(&log));
        let chooser = Chooser::new(work.seed, work.round, task);
        tasks.spawn(run(kv, log, task, chooser));
    }
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::select! {
        ended = ended => ended,
        () = SystemClock.sleep(LIFETIME) => Ok(()),
    }
}

async fn run(kv: Kv, log: Arc<Log>, task: usize, mut chooser: Chooser) -> Result<()> {
    let group = group_name(task);
    loop {
        let operation = chooser.next();
        log.write(task, What::Intent(operation.clone()))?;
        let answer = perform(&kv, &group, &operation).await;
        chooser.learn(&operation, &answer);
        let has_failed = answer.failures().next().is_some();
        log.write(task, What::Answer(answer))?;
        if has_failed {
            return Ok(());
        }
    }
}

/// The path of the log of a round.
pub(crate) fn log_path(folder: &std::path::Path, round: u64) -> PathBuf {
    folder.join(format!("round{round}.log"))
}
