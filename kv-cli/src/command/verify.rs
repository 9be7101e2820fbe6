//! The command `kv verify`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anykv::{Entry, Error, Key, Verification};
use kv_lines::private_file;
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer::ExportWriter;

pub(crate) async fn run(url: &str, salvage: Option<PathBuf>, output: &mut Output) -> Result<Answer, Failure> {
    let progress = Progress::counter("checking");
    let salvage_file = Arc::new(Mutex::new(salvage.as_deref().map(Salvage::create).transpose()?));
    let on_entry = {
        let (salvage_file, progress) = (Arc::clone(&salvage_file), progress.clone());
        Box::new(move |key: Key, entry: Entry| {
            progress.advance(1);
            match &mut *salvage_file.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(salvage_file) => salvage_file.take(&key, &entry),
                None => Ok(()),
            }
        })
    };
    let verification = anykv::registry().verify(url, on_entry).await;
    progress.finish();
    let salvage_file = salvage_file.lock().unwrap_or_else(PoisonError::into_inner).take();
    let salvaged = salvage_file.map(Salvage::end).transpose()?;
    print(&verification?, salvaged, output)
}

fn print(verification: &Verification, salvaged: Option<u64>, output: &mut Output) -> Result<Answer, Failure> {
    let is_sound = verification.is_sound();
    if output.is_json() {
        let (entries, damaged) = (verification.entries, verification.damaged_entries);
        let problems = &verification.problems;
        output.json(&json!({
            "sound": is_sound,
            "entries": entries,
            "damaged_entries": damaged,
            "problems": problems,
            "salvaged": salvaged,
        }))?;
    } else {
        output.line(&format!(
            "{}: {} sound entries",
            if is_sound { "sound" } else { "damaged" },
            verification.entries
        ))?;
        if verification.damaged_entries > 0 {
            output.line(&format!("entries that do not match their checksums: {}", verification.damaged_entries))?;
        }
        for problem in &verification.problems {
            output.line(problem)?;
        }
    }
    if let Some(salvaged) = salvaged {
        output::message(&format!("salvaged {salvaged} entries; import the file with `kv import`"));
    }
    Ok(Answer::of(is_sound))
}

/// The export file of the undamaged entries.
struct Salvage {
    path: PathBuf,
    file: ExportWriter<BufWriter<File>>,
    /// The error that ended the writing of the file.
    failure: Option<Failure>,
}

impl Salvage {
    fn create(path: &Path) -> Result<Self, Failure> {
        // Never overwrite a file, because an existing file may be the last export before the damage.
        let file = private_file::create_new(path).map_err(Failure::io(activity(path)))?;
        Ok(Self { path: path.to_owned(), file: ExportWriter::begin(BufWriter::new(file))?, failure: None })
    }

    fn take(&mut self, key: &Key, entry: &Entry) -> anykv::Result<()> {
        self.file.entry(key, entry).map_err(|failure| {
            let error = Error::unavailable("cannot write to the salvage file");
            self.failure = Some(failure);
            error
        })
    }

    fn end(self) -> Result<u64, Failure> {
        let Self { path, file, failure } = self;
        match failure {
            Some(failure) => Err(failure),
            None => file.end().and_then(|(entries, out)| {
                let written = out.into_inner().map_err(std::io::IntoInnerError::into_error);
                written.and_then(|file| file.sync_all()).map_err(Failure::io(activity(&path)))?;
                Ok(entries)
            }),
        }
    }
}

fn activity(path: &Path) -> String {
    format!("writing `{}`", path.display())
}
