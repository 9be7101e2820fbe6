//! The command `kv export`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anykv::{Key, KeyPrefix, Kv};
use kv_lines::private_file;
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer::{self, Exported};

pub(crate) async fn run(
    kv: &Kv,
    prefix: Option<Key>,
    out: Option<PathBuf>,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let prefix = prefix.map_or(KeyPrefix::ALL, KeyPrefix::from);
    let progress = Progress::counter("exporting");
    let is_file = out.is_some();
    let exported = match out {
        None => transfer::export(kv.store(), prefix, output.stream(), &progress).await,
        Some(path) => to_file(kv, prefix, &path, &progress).await,
    };
    progress.finish();
    let Exported { entries, damaged, .. } = exported?;
    if is_file && output.is_json() {
        output.json(&json!({"exported": entries}))?;
    } else {
        output::message(&format!("exported {entries} entries"));
    }
    Failure::check_damaged(damaged)?;
    Ok(Answer::Yes)
}

async fn to_file(kv: &Kv, prefix: KeyPrefix, path: &Path, progress: &Progress) -> Result<Exported, Failure> {
    let activity = format!("writing `{}`", path.display());
    let mut file = BufWriter::new(private_file::create(path).map_err(Failure::io(&activity))?);
    let exported = transfer::export(kv.store(), prefix, &mut file, progress).await?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(Failure::io(activity))?;
    Ok(exported)
}
