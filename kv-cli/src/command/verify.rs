//! `kv verify`

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anykv::{Entry, Error, Key, Verification};
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer::ExportWriter;

pub(crate) async fn run(url: &str, salvage: Option<PathBuf>, output: &mut Output) -> Result<Answer, Failure> {
    let progress = Progress::counter("checking");
    let rescue = Arc::new(Mutex::new(salvage.as_deref().map(Rescue::into).transpose()?));
    let take = {
        let (rescue, progress) = (Arc::clone(&rescue), progress.clone());
        Box::new(move |key: Key, entry: Entry| {
            progress.advance(1);
            match &mut *rescue.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(rescue) => rescue.take(&key, &entry),
                None => Ok(()),
            }
        })
    };
    let found = anykv::registry().verify(url, take).await;
    progress.finish();
    let rescue = rescue.lock().unwrap_or_else(PoisonError::into_inner).take();
    let saved = rescue.map(Rescue::end).transpose()?;
    tell(&found?, saved, output)
}

fn tell(found: &Verification, saved: Option<u64>, output: &mut Output) -> Result<Answer, Failure> {
    let is_sound = found.is_sound();
    if output.is_json() {
        let (entries, damaged) = (found.entries, found.damaged_entries);
        let problems = &found.problems;
        output.json(&json!({
            "sound": is_sound, "entries": entries, "damaged_entries": damaged, "problems": problems, "salvaged": saved,
        }))?;
    } else {
        output.line(&format!("{}: {} sound entries", if is_sound { "sound" } else { "damaged" }, found.entries))?;
        if found.damaged_entries > 0 {
            output.line(&format!("entries that do not match their checksums: {}", found.damaged_entries))?;
        }
        for problem in &found.problems {
            output.line(problem)?;
        }
    }
    if let Some(saved) = saved {
        output::message(&format!("salvaged {saved} entries; `kv import` reads the file"));
    }
    Ok(Answer::of(is_sound))
}

/// The file that sound entries are saved in.
struct Rescue {
    path: PathBuf,
    file: ExportWriter<BufWriter<File>>,
    /// Why no more could be written.
    failure: Option<Failure>,
}

impl Rescue {
    fn into(path: &Path) -> Result<Self, Failure> {
        // A file that is there may be the last export before the damage.
        let file = File::create_new(path).map_err(Failure::io(doing(path)))?;
        Ok(Self { path: path.to_owned(), file: ExportWriter::begin(BufWriter::new(file))?, failure: None })
    }

    fn take(&mut self, key: &Key, entry: &Entry) -> anykv::Result<()> {
        self.file.entry(key, entry).map_err(|failure| {
            let error = Error::unavailable("the salvaged entries cannot be written");
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
                written.and_then(|file| file.sync_all()).map_err(Failure::io(doing(&path)))?;
                Ok(entries)
            }),
        }
    }
}

fn doing(path: &Path) -> String {
    format!("writing `{}`", path.display())
}
