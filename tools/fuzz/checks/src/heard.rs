//! What a watcher and a subscriber hear between what others send them.

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{ErrorKind, Key, KeyPrefix, KvStore, Message, SetOptions, WatchEvent, WatchQuery};
use kv_core::{MessageEvent, MessageStream, WatchStream};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A watcher and a subscriber to everything.
pub(crate) struct Heard {
    changes: WatchStream,
    messages: MessageStream,
    number: u64,
}

impl Heard {
    pub(crate) async fn start(store: &dyn KvStore) -> Self {
        let query = WatchQuery::prefix(KeyPrefix::ALL).with_keys_only();
        let changes = store.watch(&query).await.expect("a watcher");
        let messages = store.subscribe(&KeyPrefix::ALL).await.expect("a subscriber");
        Self { changes, messages, number: 0 }
    }

    /// Changes a key and sends a message, and hears of both behind whatever was sent before. What else is heard was `sent`.
    pub(crate) async fn goes_on(&mut self, store: &dyn KvStore, sent: impl Fn(&Message) -> bool + Send + Sync) {
        self.number += 1;
        let (key, text) = (Key::new(["heard"]).expect("a key"), self.number.to_string());
        store.publish(&key, text.clone().into()).await.expect("a message is sent");
        let _ = store.set(&key, text.clone().into(), &SetOptions::default()).await.expect("a set");
        let told = async {
            loop {
                match self.messages.next().await.expect("messages go on") {
                    Ok(MessageEvent::Message(message)) if message.channel == key && message.payload == text => break,
                    Ok(MessageEvent::Message(message)) => assert!(sent(&message), "{message:?} was not sent"),
                    Ok(_) => {}
                    Err(error) => panic!("messages end with {error}"),
                }
            }
            loop {
                match self.changes.next().await.expect("changes go on") {
                    Ok(WatchEvent::Set { key: changed, .. }) if changed == key => break,
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
                }
            }
        };
        tokio::time::timeout(TIMEOUT, told).await.expect("what is sent behind it is heard");
    }
}
