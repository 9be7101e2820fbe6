//! The command `kv replay`.

use std::fs::File;

use anykv::Kv;

use crate::args::{ReplayArgs, Speed};
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::replay::{Prefill, Replay, Settings, Workload};

pub(crate) async fn run(kv: &Kv, args: ReplayArgs, output: &mut Output) -> Result<Answer, Failure> {
    let ReplayArgs { file, clients, rounds, prefill, prefill_scale, seed, speed: Speed::Max, keep } = args;
    let source = File::open(&file).map_err(Failure::io(format!("opening `{}`", file.display())))?;
    let workload = Workload::read(source, None)?;
    let prefill = prefill.then(|| Prefill::production(seed).scaled(prefill_scale));
    let replay = Replay::new(kv, workload, Settings { clients: clients.into(), rounds, prefill })?;

    let progress = Progress::stages();
    let result = or_interrupted(async {
        output::message(&format!("replaying in the namespace `{}`", replay.namespace()));
        Ok(replay.run(&progress).await?)
    })
    .await;
    progress.finish();
    let cleared = if keep { Ok(()) } else { replay.clear().await };
    let report = result?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        output.line(&report.to_string())?;
    }
    cleared?;
    Ok(Answer::of(report.is_clean()))
}
