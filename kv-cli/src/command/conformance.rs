//! `kv conformance`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anykv::{KvStore, Namespace, Namespaced, StoreUrl, Survives};
use conformance_tests::{CaseReport, Fresh, Outcome, Report, Suite, matrix};

use crate::args::ConformanceArgs;
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::served::Served;

pub(crate) async fn run(default: String, args: ConformanceArgs, output: &mut Output) -> Result<Answer, Failure> {
    let ConformanceArgs { urls, filter, seed, matrix: wants_matrix, verbose, compare: wants_comparison } = args;
    let urls = if urls.is_empty() { vec![default] } else { urls };
    if wants_comparison {
        return compare(urls, seed, output).await;
    }
    let mut reports = Vec::new();
    for url in urls {
        let folders = Folders::default();
        let mut suite = suite(url, &folders).await?;
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
        folders.remove();
        let report = report?;
        told?;
        if report.cases.is_empty() {
            return Err(Failure::Usage(format!("no case has `{filter}` in its name")));
        }
        if wants_matrix {
            report.failures().for_each(|failure| output::message(&failure.to_string()));
        } else {
            show(output, &report, verbose)?;
        }
        reports.push(report);
    }
    if wants_matrix {
        output.line(matrix(&reports).trim_end())?;
    }
    Ok(Answer::of(reports.iter().all(Report::is_green)))
}

/// Plays the same scripts on all stores.
async fn compare(urls: Vec<String>, seed: Option<u32>, output: &mut Output) -> Result<Answer, Failure> {
    if urls.len() < 2 {
        return Err(Failure::Usage("`--compare` takes two stores or more".into()));
    }
    let (folders, mut suites) = (Folders::default(), Vec::new());
    for url in urls {
        let suite = suite(url, &folders).await?;
        suites.push(match seed {
            Some(seed) => suite.with_seed(seed.into()),
            None => suite,
        });
    }
    let compared = or_interrupted(async { Ok(Suite::compare(&suites).await) }).await;
    folders.remove();
    let compared = compared?;
    match &compared {
        Ok(()) => output.line(&format!("{} stores give the same answers", suites.len()))?,
        Err(failure) => output.line(&failure.to_string())?,
    }
    Ok(Answer::of(compared.is_ok()))
}

/// The suite for a URL. What processes share is opened by each case, for a namespace of its own, and once more in a second
/// process; what one handle owns alone is opened by each case in a folder of its own inside the URL's; what is not kept is
/// another store each time anyway.
async fn suite(url: String, folders: &Folders) -> Result<Suite, Failure> {
    let shown = url.parse::<StoreUrl>()?.to_string();
    let kv = anykv::registry().open(&url).await?;
    let capabilities = kv.info().capabilities;
    kv.close().await?;

    let keeps = capabilities.durability.survives >= Survives::Process;
    let is_owned = keeps && !capabilities.shared;
    let folders = is_owned.then(|| folders.clone());
    let address = url.clone();
    let suite = Suite::new(shown.clone(), capabilities, move |fresh| {
        let url = match &folders {
            Some(folders) => folders.inside(&address, fresh.name()),
            None => Ok(address.clone()),
        };
        async move { open(&url?, fresh.name()).await }
    })
    .with_rerun(format!("kv conformance '{shown}' --seed {{seed}} --filter {{case}}"));
    let suite = if keeps || capabilities.shared { suite.with_reopen() } else { suite };
    if !capabilities.shared {
        return Ok(suite);
    }
    let served = Served::new(url);
    let elsewhere = move |fresh: Fresh| {
        let served = served.clone();
        async move { Ok(Namespaced::new(Arc::new(served.open().await?), Namespace::new([fresh.name()])?)) }
    };
    Ok(suite.with_second_handle().with_second_process(elsewhere))
}

async fn open(url: &str, case: &str) -> anykv::Result<impl KvStore + use<>> {
    let kv = anykv::registry().open(url).await?;
    Ok(Namespaced::new(Arc::clone(kv.store()), Namespace::new([case])?))
}

/// The folders that cases made, which go when the run ends, however it ends.
#[derive(Debug, Clone, Default)]
struct Folders {
    made: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    /// The URL of a store in a folder of this name inside the URL's own.
    fn inside(&self, url: &str, name: &str) -> anykv::Result<String> {
        let folder = Path::new(&url.parse::<StoreUrl>()?.path()?).join(name);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
        let (address, options) = url.split_once('?').map_or((url, ""), |(address, options)| (address, options));
        Ok(format!("{address}/{name}?{options}"))
    }

    fn remove(&self) {
        for folder in std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A case that failed may still hold its files; what cannot be removed is found by its name.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
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
