//! `kv conformance`

use std::sync::Arc;

use anykv::{Kv, KvStore, Namespace, Namespaced, Result, StoreUrl, Survives};
use conformance_tests::{CaseReport, Outcome, Report, Suite, matrix};

use crate::args::ConformanceArgs;
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output::Output;
use crate::progress::Progress;

pub(crate) async fn run(default: String, args: ConformanceArgs, output: &mut Output) -> Result<Answer, Failure> {
    let ConformanceArgs { urls, filter, seed, matrix: wants_matrix, verbose } = args;
    let urls = if urls.is_empty() { vec![default] } else { urls };
    let mut reports = Vec::new();
    for url in urls {
        let mut suite = suite(url).await?;
        if let Some(seed) = seed {
            suite = suite.with_seed(seed.into());
        }
        let progress = Progress::counter("cases");
        let mut told = Ok(());
        let running = suite.run_with(&filter, |case| {
            progress.advance(1);
            if told.is_ok() && verbose && !wants_matrix {
                progress.suspend(|| told = tell(output, case));
            }
        });
        let report = or_interrupted(async { Ok(running.await) }).await;
        progress.finish();
        let report = report?;
        told?;
        if report.cases.is_empty() {
            return Err(Failure::Usage(format!("no case has `{filter}` in its name")));
        }
        if !wants_matrix {
            show(output, &report, verbose)?;
        }
        reports.push(report);
    }
    if wants_matrix {
        output.line(matrix(&reports).trim_end())?;
    }
    Ok(Answer::of(reports.iter().all(Report::is_green)))
}

/// The suite for a URL: each case opens it and works in a namespace of its own.
async fn suite(url: String) -> Result<Suite, Failure> {
    let shown = url.parse::<StoreUrl>()?.to_string();
    let kv = anykv::registry().open(&url).await?;
    let capabilities = kv.info().capabilities;
    kv.store().close().await?;

    let keeps = capabilities.durability.survives >= Survives::Process;
    let suite = Suite::new(shown.clone(), capabilities, move |fresh| {
        let url = url.clone();
        async move { open(&url, fresh.name()).await }
    })
    .with_rerun(format!("kv conformance '{shown}' --seed {{seed}} --filter {{case}}"));
    Ok(match (keeps, capabilities.shared) {
        // What processes share can be opened again, and twice at a time.
        (_, true) => suite.with_reopen().with_second_handle(),
        // What is kept by one process alone is opened by one case after another.
        (true, false) => suite.with_reopen().with_cases_at_once(1),
        // What is not kept is another store each time.
        (false, false) => suite,
    })
}

async fn open(url: &str, case: &str) -> Result<impl KvStore + use<>> {
    let kv: Kv = anykv::registry().open(url).await?;
    Ok(Namespaced::new(Arc::clone(kv.store()), Namespace::new([case])?))
}

fn tell(output: &mut Output, case: &CaseReport) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(case);
    }
    match case.outcome {
        // The report below tells it once, with the others that failed.
        Outcome::Failed { .. } => output.line(&format!("FAIL  {}", case.id)),
        _ => output.line(&case.to_string()),
    }?;
    output.flush()
}

fn show(output: &mut Output, report: &Report, told_cases: bool) -> Result<(), Failure> {
    match (output.is_json(), told_cases) {
        (true, true) => Ok(()),
        (true, false) => output.json(report),
        (false, _) => output.line(&report.to_string()),
    }
}
