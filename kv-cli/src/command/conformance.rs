//! The command `kv conformance`.

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
use crate::second_process::SecondProcess;

pub(crate) async fn run(default: String, args: ConformanceArgs, output: &mut Output) -> Result<Answer, Failure> {
    let ConformanceArgs { urls, filter, seed, matrix: is_matrix, verbose, compare: is_comparison } = args;
    let urls = if urls.is_empty() { vec![default] } else { urls };
    if is_comparison {
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
        let mut printed = Ok(());
        let running = suite.run_with(&filter, |case| {
            progress.advance(1);
            if printed.is_ok() && verbose && !is_matrix {
                progress.suspend(|| printed = print_case(output, case));
            }
        });
        let report = or_interrupted(async { Ok(running.await) }).await;
        progress.finish();
        folders.remove();
        let report = report?;
        printed?;
        if report.cases.is_empty() {
            return Err(Failure::Usage(format!("no case matches the filter `{filter}`")));
        }
        if is_matrix {
            report.failures().for_each(|failure| output::message(&failure.to_string()));
        } else {
            print_report(output, &report, verbose)?;
        }
        reports.push(report);
    }
    if is_matrix {
        output.line(matrix(&reports).trim_end())?;
    }
    Ok(Answer::of(reports.iter().all(Report::is_green)))
}

/// Runs the same random scripts on all stores and compares the results.
async fn compare(urls: Vec<String>, seed: Option<u32>, output: &mut Output) -> Result<Answer, Failure> {
    if urls.len() < 2 {
        return Err(Failure::Usage("`--compare` needs at least two stores".into()));
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
        Ok(()) => output.line(&format!("{} stores give the same results", suites.len()))?,
        Err(failure) => output.line(&failure.to_string())?,
    }
    Ok(Answer::of(compared.is_ok()))
}

/// Creates the suite for the store of a URL. The isolation of cases depends on the kind of store:
/// - Each case opens a shared store with its own namespace. A second process opens the same store.
/// - Each case opens a store that one handle owns exclusively in its own folder inside the path of the URL.
/// - A volatile store is empty each time it is opened.
async fn suite(url: String, folders: &Folders) -> Result<Suite, Failure> {
    let display_url = url.parse::<StoreUrl>()?.to_string();
    let kv = anykv::registry().open(&url).await?;
    let capabilities = kv.info().capabilities;
    kv.close().await?;

    let is_persistent = capabilities.durability.survives >= Survives::Process;
    let is_exclusive = is_persistent && !capabilities.shared;
    let folders = is_exclusive.then(|| folders.clone());
    let address = url.clone();
    let suite = Suite::new(display_url.clone(), capabilities, move |fresh| {
        let url = match &folders {
            Some(folders) => folders.inside(&address, fresh.name()),
            None => Ok(address.clone()),
        };
        async move { open(&url?, fresh.name()).await }
    })
    .in_namespaces()
    .with_rerun(format!("kv conformance '{display_url}' --seed {{seed}} --filter {{case}}"));
    let suite = if is_persistent || capabilities.shared { suite.with_reopen() } else { suite };
    if !capabilities.shared {
        return Ok(suite);
    }
    let process = SecondProcess::new(url);
    let open_there = move |fresh: Fresh| {
        let process = process.clone();
        async move { Ok(Namespaced::new(Arc::new(process.open().await?), Namespace::new([fresh.name()])?)) }
    };
    Ok(suite.with_second_handle().with_second_process(open_there))
}

async fn open(url: &str, case: &str) -> anykv::Result<impl KvStore + use<>> {
    let kv = anykv::registry().open(url).await?;
    Ok(Namespaced::new(Arc::clone(kv.store()), Namespace::new([case])?))
}

/// The folders that cases created. They are removed at the end of the run, even after a failure.
#[derive(Debug, Clone, Default)]
struct Folders {
    created: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    /// Returns the URL of a store in a folder `name` inside the path of `url`.
    fn inside(&self, url: &str, name: &str) -> anykv::Result<String> {
        let folder = Path::new(&url.parse::<StoreUrl>()?.path()?).join(name);
        self.created.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
        let (address, options) = url.split_once('?').map_or((url, ""), |(address, options)| (address, options));
        Ok(format!("{address}/{name}?{options}"))
    }

    fn remove(&self) {
        for folder in std::mem::take(&mut *self.created.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A failed case may still have files open. The user can find the remaining folder by the name of the case.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn print_case(output: &mut Output, case: &CaseReport) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(case);
    }
    match case.outcome {
        // The final report has the details of each failure.
        Outcome::Failed { .. } => output.line(&format!("FAIL  {}", case.id)),
        _ => output.line(&case.to_string()),
    }?;
    output.flush()
}

fn print_report(output: &mut Output, report: &Report, are_cases_printed: bool) -> Result<(), Failure> {
    match (output.is_json(), are_cases_printed) {
        (true, true) => Ok(()),
        (true, false) => output.json(report),
        (false, _) => output.line(&report.to_string()),
    }
}
