//! The command `kv import`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anykv::Kv;
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer;

pub(crate) async fn run(kv: &Kv, file: &Path, output: &mut Output) -> Result<Answer, Failure> {
    let mut reader: Box<dyn BufRead + Send> = if file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let opened = File::open(file).map_err(Failure::io(format!("opening `{}`", file.display())))?;
        Box::new(BufReader::new(opened))
    };
    let progress = Progress::counter("importing");
    let result = transfer::import(kv.store(), &mut reader, &progress).await;
    progress.finish();
    let imported = result.inspect_err(|_| {
        output::message(&format!("imported {} entries before the failure", progress.position()));
    })?;
    if output.is_json() {
        output.json(&json!({"imported": imported}))?;
    } else {
        output::message(&format!("imported {imported} entries"));
    }
    Ok(Answer::Yes)
}
