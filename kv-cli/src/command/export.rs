//! The command `kv export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anykv::{Key, KeyPrefix, Kv};
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer;

pub(crate) async fn run(
    kv: &Kv,
    prefix: Option<Key>,
    out: Option<PathBuf>,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let prefix = prefix.map_or(KeyPrefix::ALL, KeyPrefix::from);
    let progress = Progress::counter("exporting");
    let Some(path) = out else {
        let exported = transfer::export(kv.store(), prefix, output.stream(), &progress).await;
        progress.finish();
        output::message(&format!("exported {} entries", exported?));
        return Ok(Answer::Yes);
    };
    let activity = format!("writing `{}`", path.display());
    let mut file = BufWriter::new(File::create(&path).map_err(Failure::io(&activity))?);
    let exported = transfer::export(kv.store(), prefix, &mut file, &progress).await;
    progress.finish();
    let exported = exported?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(Failure::io(activity))?;
    if output.is_json() {
        output.json(&json!({"exported": exported}))?;
    } else {
        output::message(&format!("exported {exported} entries"));
    }
    Ok(Answer::Yes)
}
