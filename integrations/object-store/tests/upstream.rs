//! The integration functions that `object_store` runs against its own stores.

use std::sync::Arc;

use kv_core::KvStore;
use kv_object_store::KvObjectStore;
use object_store::integration;
use referees::{Referee, Runtime};

/// A test that runs a published function. The function panics if a check fails.
macro_rules! referee {
    ($function:ident $(, $argument:expr)*) => {
        Referee::new(stringify!($function), |store: Arc<dyn KvStore>, runtime: Runtime| {
            runtime.block_on(integration::$function(&KvObjectStore::new(store) $(, $argument)*));
            Ok(())
        })
    };
}

fn main() {
    referees::main(&[
        referee!(put_get_delete_list),
        referee!(put_get_attributes),
        referee!(get_opts),
        referee!(put_opts, true),
        referee!(stream_get),
        referee!(list_uses_directories_correctly),
        referee!(list_with_delimiter),
        referee!(list_with_offset_exclusivity),
        referee!(rename_and_copy),
        referee!(copy_if_not_exists),
        referee!(copy_rename_nonexistent_object),
        referee!(multipart_race_condition, true),
        referee!(multipart_out_of_order),
    ]);
}
