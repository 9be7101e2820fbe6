//! Opens stores for commands that only read.

use anykv::{Error, Kv, Result, StoreUrl};

/// Opens a store that must exist. Without this check, opening would create a missing file, and a mistyped path would
/// give an empty store.
///
/// # Errors
/// `Invalid` if the file of an embedded store does not exist, and the errors of opening.
pub(crate) async fn open(url: &str) -> Result<Kv> {
    // If the check itself fails, opening the store reports the error.
    let missing = store_file(&url.parse()?)?.filter(|file| !std::fs::exists(file).unwrap_or(true));
    if let Some(file) = missing {
        return Err(Error::invalid(format!("there is no store: `{file}` does not exist")));
    }
    anykv::registry().open(url).await
}

/// Returns the file of an embedded store, or `None` for other stores. The store exists if and only if the file exists.
fn store_file(url: &StoreUrl) -> Result<Option<String>> {
    match url.scheme() {
        "sqlite" if url.rest() == ":memory:" => Ok(None),
        "sqlite" => url.path().map(Some),
        "sled" => url.path().map(|folder| Some(format!("{folder}/db"))),
        _ => Ok(None),
    }
}
