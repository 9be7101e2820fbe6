//! A macro for wrappers that forwards the methods of [`KvStore`](crate::KvStore) to an inner store.

/// Forwards every method of [`KvStore`](crate::KvStore) to an inner store, except the methods that are listed after
/// `except`.
///
/// Use this macro inside an `#[async_trait] impl KvStore`. The wrapper returns the inner store's futures without boxing
/// them again. A method that the trait gains later is forwarded too, so that a wrapper never falls back to a default
/// body.
///
/// # Examples
/// ```
/// use async_trait::async_trait;
/// use kv_core::{Entry, Key, KvStore, Result, delegate_store};
///
/// #[derive(Debug)]
/// struct Audited<S> {
///     inner: S,
/// }
///
/// #[async_trait]
/// impl<S: KvStore> KvStore for Audited<S> {
///     delegate_store!(self.inner, except get);
///
///     async fn get(&self, key: &Key) -> Result<Option<Entry>> {
///         println!("get {key}");
///         self.inner.get(key).await
///     }
/// }
/// ```
#[macro_export]
macro_rules! delegate_store {
    ($self:ident . $inner:tt $(($($argument:tt)*))? $(, except $($skip:ident)+)?) => {
        $crate::delegate_store! { @methods $self [$self.$inner $(($($argument)*))?] [$($($skip)+)?] }
    };

    // `async_trait` does not expand macros inside an impl, so the methods have the signatures that `async_trait` would
    // generate.
    (@methods $self:ident [$($inner:tt)+] $skip:tt) => {
        $crate::delegate_store! { @unless info $skip
            fn info(&$self) -> &$crate::StoreInfo {
                $($inner)+.info()
            }
        }
        $crate::delegate_store! { @unless get $skip
            fn get<'life0, 'life1, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key) -> $crate::BoxFuture<'async_trait, $crate::Result<::std::option::Option<$crate::Entry>>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.get(key)
            }
        }
        $crate::delegate_store! { @unless set $skip
            fn set<'life0, 'life1, 'life2, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key, value: $crate::Bytes, options: &'life2 $crate::SetOptions) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::SetOutcome>>
            where 'life0: 'async_trait, 'life1: 'async_trait, 'life2: 'async_trait, Self: 'async_trait
            {
                $($inner)+.set(key, value, options)
            }
        }
        $crate::delegate_store! { @unless delete $skip
            fn delete<'life0, 'life1, 'life2, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key, options: &'life2 $crate::DeleteOptions) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::DeleteOutcome>>
            where 'life0: 'async_trait, 'life1: 'async_trait, 'life2: 'async_trait, Self: 'async_trait
            {
                $($inner)+.delete(key, options)
            }
        }
        $crate::delegate_store! { @unless contains $skip
            fn contains<'life0, 'life1, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key) -> $crate::BoxFuture<'async_trait, $crate::Result<bool>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.contains(key)
            }
        }
        $crate::delegate_store! { @unless get_with $skip
            fn get_with<'life0, 'life1, 'life2, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key, options: &'life2 $crate::GetOptions) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::GetOutcome>>
            where 'life0: 'async_trait, 'life1: 'async_trait, 'life2: 'async_trait, Self: 'async_trait
            {
                $($inner)+.get_with(key, options)
            }
        }
        $crate::delegate_store! { @unless time $skip
            fn time<'life0, 'async_trait>(&'life0 $self) -> $crate::BoxFuture<'async_trait, $crate::Result<::std::time::SystemTime>>
            where 'life0: 'async_trait, Self: 'async_trait
            {
                $($inner)+.time()
            }
        }
        $crate::delegate_store! { @unless get_many $skip
            fn get_many<'life0, 'life1, 'async_trait>(&'life0 $self, keys: &'life1 [$crate::Key]) -> $crate::BoxFuture<'async_trait, ::std::vec::Vec<$crate::Result<::std::option::Option<$crate::Entry>>>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.get_many(keys)
            }
        }
        $crate::delegate_store! { @unless set_many $skip
            fn set_many<'life0, 'life1, 'async_trait>(&'life0 $self, items: &'life1 [$crate::SetItem]) -> $crate::BoxFuture<'async_trait, ::std::vec::Vec<$crate::Result<$crate::SetOutcome>>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.set_many(items)
            }
        }
        $crate::delegate_store! { @unless delete_many $skip
            fn delete_many<'life0, 'life1, 'async_trait>(&'life0 $self, keys: &'life1 [$crate::Key]) -> $crate::BoxFuture<'async_trait, ::std::vec::Vec<$crate::Result<$crate::DeleteOutcome>>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.delete_many(keys)
            }
        }
        $crate::delegate_store! { @unless list $skip
            fn list<'life0, 'life1, 'async_trait>(&'life0 $self, query: &'life1 $crate::ListQuery) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::ListPage>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.list(query)
            }
        }
        $crate::delegate_store! { @unless clear $skip
            fn clear<'life0, 'life1, 'async_trait>(&'life0 $self, prefix: &'life1 $crate::KeyPrefix) -> $crate::BoxFuture<'async_trait, $crate::Result<u64>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.clear(prefix)
            }
        }
        $crate::delegate_store! { @unless touch $skip
            fn touch<'life0, 'life1, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key, expiry: $crate::NewExpiry) -> $crate::BoxFuture<'async_trait, $crate::Result<bool>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.touch(key, expiry)
            }
        }
        $crate::delegate_store! { @unless increment $skip
            fn increment<'life0, 'life1, 'life2, 'async_trait>(&'life0 $self, key: &'life1 $crate::Key, by: i64, options: &'life2 $crate::IncrementOptions) -> $crate::BoxFuture<'async_trait, $crate::Result<i64>>
            where 'life0: 'async_trait, 'life1: 'async_trait, 'life2: 'async_trait, Self: 'async_trait
            {
                $($inner)+.increment(key, by, options)
            }
        }
        $crate::delegate_store! { @unless commit $skip
            fn commit<'life0, 'life1, 'async_trait>(&'life0 $self, transaction: &'life1 $crate::Transaction) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::CommitOutcome>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.commit(transaction)
            }
        }
        $crate::delegate_store! { @unless watch $skip
            fn watch<'life0, 'life1, 'async_trait>(&'life0 $self, query: &'life1 $crate::WatchQuery) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::WatchStream>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.watch(query)
            }
        }
        $crate::delegate_store! { @unless watch_into $skip
            fn watch_into<'life0, 'life1, 'async_trait>(&'life0 $self, target: &'life1 $crate::WatchTarget, sink: ::std::sync::Arc<dyn $crate::ChangeSink>) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::Registration>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.watch_into(target, sink)
            }
        }
        $crate::delegate_store! { @unless publish $skip
            fn publish<'life0, 'life1, 'async_trait>(&'life0 $self, channel: &'life1 $crate::Key, message: $crate::Bytes) -> $crate::BoxFuture<'async_trait, $crate::Result<()>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.publish(channel, message)
            }
        }
        $crate::delegate_store! { @unless subscribe $skip
            fn subscribe<'life0, 'life1, 'async_trait>(&'life0 $self, channels: &'life1 $crate::KeyPrefix) -> $crate::BoxFuture<'async_trait, $crate::Result<$crate::MessageStream>>
            where 'life0: 'async_trait, 'life1: 'async_trait, Self: 'async_trait
            {
                $($inner)+.subscribe(channels)
            }
        }
        $crate::delegate_store! { @unless ping $skip
            fn ping<'life0, 'async_trait>(&'life0 $self) -> $crate::BoxFuture<'async_trait, $crate::Result<()>>
            where 'life0: 'async_trait, Self: 'async_trait
            {
                $($inner)+.ping()
            }
        }
        $crate::delegate_store! { @unless flush $skip
            fn flush<'life0, 'async_trait>(&'life0 $self) -> $crate::BoxFuture<'async_trait, $crate::Result<()>>
            where 'life0: 'async_trait, Self: 'async_trait
            {
                $($inner)+.flush()
            }
        }
        $crate::delegate_store! { @unless sweep $skip
            fn sweep<'life0, 'async_trait>(&'life0 $self) -> $crate::BoxFuture<'async_trait, $crate::Result<u64>>
            where 'life0: 'async_trait, Self: 'async_trait
            {
                $($inner)+.sweep()
            }
        }
        $crate::delegate_store! { @unless close $skip
            fn close<'life0, 'async_trait>(&'life0 $self) -> $crate::BoxFuture<'async_trait, $crate::Result<()>>
            where 'life0: 'async_trait, Self: 'async_trait
            {
                $($inner)+.close()
            }
        }
    };

    (@unless info [info $($skip:ident)*] $($method:tt)*) => {};
    (@unless get [get $($skip:ident)*] $($method:tt)*) => {};
    (@unless set [set $($skip:ident)*] $($method:tt)*) => {};
    (@unless delete [delete $($skip:ident)*] $($method:tt)*) => {};
    (@unless contains [contains $($skip:ident)*] $($method:tt)*) => {};
    (@unless get_with [get_with $($skip:ident)*] $($method:tt)*) => {};
    (@unless time [time $($skip:ident)*] $($method:tt)*) => {};
    (@unless get_many [get_many $($skip:ident)*] $($method:tt)*) => {};
    (@unless set_many [set_many $($skip:ident)*] $($method:tt)*) => {};
    (@unless delete_many [delete_many $($skip:ident)*] $($method:tt)*) => {};
    (@unless list [list $($skip:ident)*] $($method:tt)*) => {};
    (@unless clear [clear $($skip:ident)*] $($method:tt)*) => {};
    (@unless touch [touch $($skip:ident)*] $($method:tt)*) => {};
    (@unless increment [increment $($skip:ident)*] $($method:tt)*) => {};
    (@unless commit [commit $($skip:ident)*] $($method:tt)*) => {};
    (@unless watch [watch $($skip:ident)*] $($method:tt)*) => {};
    (@unless watch_into [watch_into $($skip:ident)*] $($method:tt)*) => {};
    (@unless publish [publish $($skip:ident)*] $($method:tt)*) => {};
    (@unless subscribe [subscribe $($skip:ident)*] $($method:tt)*) => {};
    (@unless ping [ping $($skip:ident)*] $($method:tt)*) => {};
    (@unless flush [flush $($skip:ident)*] $($method:tt)*) => {};
    (@unless sweep [sweep $($skip:ident)*] $($method:tt)*) => {};
    (@unless close [close $($skip:ident)*] $($method:tt)*) => {};
    (@unless $name:ident [$other:ident $($skip:ident)*] $($method:tt)*) => {
        $crate::delegate_store! { @unless $name [$($skip)*] $($method)* }
    };
    (@unless $name:ident [] $($method:tt)*) => { $($method)* };
}
