//! Opens stores for commands that only read.

use anykv::{Error, Kv, Result, StoreUrl};

/// Opens a store that must exist: opening would create a missing file, and a mistyped path would be an empty store.
///
/// # Errors
/// `Invalid` if the file of an embedded store does not exist; the errors of opening.
pub(crate) async fn open_existing(url: &str) -> Result<Kv> {
    let missing = file(&url.parse()?)?.filter(|file| !std::fs::exists(file).unwrap_or(true));
    if let Some(file) = missing {
        return Err(Error::invalid(format!("there is no store: `{file}` does not exist")));
    }
    anykv::registry().open(url).await
}

/// Returns the file that exists if and only if the embedded store of a URL exists. `None` for other stores.
fn file(url: &StoreUrl) -> Result<Option<String>> {
    match url.scheme() {
        "sqlite" if url.rest() == ":memory:" => Ok(None),
        "sqlite" => url.path().map(Some),
        "sled" => url.path().map(|folder| Some(format!("{folder}/db"))),
        _ => Ok(None),
    }
}
