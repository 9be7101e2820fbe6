//! The command `kv bench`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anykv::{Kv, Namespace, StoreUrl, Version};

use crate::args::BenchArgs;
use crate::bench::{self, Dataset, Operation, Report, Settings, Side, StoreSubject, Subject, charts};
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output::{self, Output};
use crate::progress::Progress;

pub(crate) async fn run(default: String, args: BenchArgs, output: &mut Output) -> Result<Answer, Failure> {
    let BenchArgs { urls, operations, tasks, rate, duration, rounds, entries, value_bytes, seed, report } = args;
    let urls = if urls.is_empty() { vec![default] } else { urls };
    let settings = Settings {
        operations: if operations.is_empty() { Operation::ALL.to_vec() } else { operations },
        tasks: tasks.into_iter().map(Into::into).collect(),
        rates: rate.into_iter().filter(|rate| *rate > 0).map(Into::into).collect(),
        rounds: rounds.into(),
        duration,
    };
    if let Some(folder) = &report {
        fs::create_dir_all(folder).map_err(writing(folder))?;
    }
    let stores = Stores::open(&urls).await?;
    let progress = Progress::stages();
    let mut combined = Report::default();
    let mut result = Ok(());
    for entries in entries {
        let dataset = Arc::new(Dataset::new(entries, value_bytes, seed)?);
        let sides = stores.sides(&dataset);
        let measured = or_interrupted(async { Ok(bench::run(&sides, &settings, &progress).await?) }).await;
        let cleared = stores.clear(&dataset).await;
        result = measured.map(|measured| combined.extend(measured)).and(cleared);
        if result.is_err() {
            break;
        }
    }
    progress.finish();
    let closed = stores.close().await;
    result?;
    closed?;
    if output.is_json() {
        output.json(&combined)?;
    } else {
        output.line(combined.to_string().trim_end())?;
    }
    if let Some(folder) = &report {
        write(folder, &combined)?;
    }
    Ok(Answer::Yes)
}

/// The measured stores, each in its own temporary namespace.
struct Stores {
    opened: Vec<Kv>,
    subjects: Vec<Arc<StoreSubject>>,
}

impl Stores {
    async fn open(urls: &[String]) -> Result<Self, Failure> {
        let mut stores = Self { opened: Vec::new(), subjects: Vec::new() };
        for (index, url) in urls.iter().enumerate() {
            // The text of a parsed URL omits the password.
            let mut name = url.parse::<StoreUrl>()?.to_string();
            if urls.iter().take(index).any(|earlier| earlier == url) {
                name = format!("{name} ({})", index + 1);
            }
            let kv = anykv::registry().open(url).await?;
            let namespace = Namespace::new(["kv-bench", &Version::random().to_string()])?;
            let store = Arc::clone(kv.in_namespace(&namespace)?.store());
            output::message(&format!("measuring {name} in the namespace `{namespace}`"));
            stores.opened.push(kv);
            stores.subjects.push(Arc::new(StoreSubject::new(name, store)));
        }
        Ok(stores)
    }

    fn sides(&self, dataset: &Arc<Dataset>) -> Vec<Side> {
        let side =
            |subject: &Arc<StoreSubject>| Side::new(Arc::clone(subject) as Arc<dyn Subject>, Arc::clone(dataset));
        self.subjects.iter().map(side).collect()
    }

    /// Clears every store, even if one fails. Returns the first error.
    async fn clear(&self, dataset: &Dataset) -> Result<(), Failure> {
        let mut result = Ok(());
        for subject in &self.subjects {
            result = result.and(subject.clear(dataset).await.map_err(Failure::from));
        }
        result
    }

    /// Closes every store, even if one fails. Returns the first error.
    async fn close(&self) -> Result<(), Failure> {
        let mut result = Ok(());
        for kv in &self.opened {
            result = result.and(kv.close().await.map_err(Failure::from));
        }
        result
    }
}

fn write(folder: &Path, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string(report).map_err(|error| Failure::output(error.into()))?;
    let texts = [("report.json", format!("{json}\n")), ("report.md", report.to_string())];
    let plots = charts(report);
    let files =
        texts.iter().map(|(file, text)| (*file, text)).chain(plots.iter().map(|chart| (chart.file, &chart.svg)));
    for (file, text) in files {
        let path = folder.join(file);
        fs::write(&path, text).map_err(writing(&path))?;
    }
    Ok(())
}

fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    Failure::io(format!("writing `{}`", path.display()))
}
