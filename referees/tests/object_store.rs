//! What `object_store` asks of its own stores.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod stores;

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use object_store::integration;
use referees::Objects;

use crate::stores::Grounds;

/// A function of the referee.
type Judge = for<'o> fn(&'o Objects) -> BoxFuture<'o, ()>;

const JUDGES: &[(&str, Judge)] = &[
    ("put_get_delete_list", |objects| Box::pin(integration::put_get_delete_list(objects))),
    ("put_get_attributes", |objects| Box::pin(integration::put_get_attributes(objects))),
    ("get_opts", |objects| Box::pin(integration::get_opts(objects))),
    ("put_opts", |objects| Box::pin(integration::put_opts(objects, true))),
    ("stream_get", |objects| Box::pin(integration::stream_get(objects))),
    ("list_uses_directories_correctly", |objects| Box::pin(integration::list_uses_directories_correctly(objects))),
    ("list_with_delimiter", |objects| Box::pin(integration::list_with_delimiter(objects))),
    ("list_with_offset_exclusivity", |objects| Box::pin(integration::list_with_offset_exclusivity(objects))),
    ("rename_and_copy", |objects| Box::pin(integration::rename_and_copy(objects))),
    ("copy_if_not_exists", |objects| Box::pin(integration::copy_if_not_exists(objects))),
    ("copy_rename_nonexistent_object", |objects| Box::pin(integration::copy_rename_nonexistent_object(objects))),
    ("multipart_race_condition", |objects| Box::pin(integration::multipart_race_condition(objects, true))),
    ("multipart_out_of_order", |objects| Box::pin(integration::multipart_out_of_order(objects))),
];

fn main() {
    let arguments = Arguments::from_args();
    let grounds: Arc<OnceLock<Grounds>> = Arc::default();
    let trials = stores::names().into_iter().enumerate().flat_map(|(place, store)| {
        let grounds = Arc::clone(&grounds);
        JUDGES.iter().map(move |(judge, run)| {
            let (grounds, run) = (Arc::clone(&grounds), *run);
            Trial::test(format!("{store}/{judge}"), move || {
                let (_, url) = grounds.get_or_init(Grounds::new).urls().swap_remove(place);
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(async { run(&Objects::new(stores::open(&url).await)).await });
                Ok(())
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The servers stop here, which `exit` would not wait for.
    drop(grounds);
    conclusion.exit();
}
