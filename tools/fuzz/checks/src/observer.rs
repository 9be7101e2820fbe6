//! A watcher and a subscriber that also receive foreign notifications.

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{ErrorKind, Key, KeyPrefix, KvStore, Message, SetOptions, WatchEvent, WatchQuery};
use kv_core::{MessageEvent, MessageStream, WatchStream};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A watcher of all keys and a subscriber to all channels.
pub(crate) struct Observer {
    changes: WatchStream,
    messages: MessageStream,
    number: u64,
}

impl Observer {
    pub(crate) async fn start(store: &dyn KvStore) -> Self {
        let query = WatchQuery::prefix(KeyPrefix::ALL).with_keys_only();
        let changes = store.watch(&query).await.expect("a watcher");
        let messages = store.subscribe(&KeyPrefix::ALL).await.expect("a subscriber");
        Self { changes, messages, number: 0 }
    }

    /// Changes a key and publishes a message, and checks that the observer receives both after all earlier
    /// notifications. For every other received message, `was_published` must return true.
    pub(crate) async fn check(&mut self, store: &dyn KvStore, was_published: impl Fn(&Message) -> bool + Send + Sync) {
        self.number += 1;
        let (key, text) = (Key::new(["observed"]).expect("a key"), self.number.to_string());
        store.publish(&key, text.clone().into()).await.expect("a message is published");
        let _ = store.set(&key, text.clone().into(), &SetOptions::default()).await.expect("a set");
        let received = async {
            loop {
                match self.messages.next().await.expect("the messages continue") {
                    Ok(MessageEvent::Message(message)) if message.channel == key && message.payload == text => break,
                    Ok(MessageEvent::Message(message)) => {
                        assert!(was_published(&message), "{message:?} was not published");
                    }
                    Ok(_) => {}
                    Err(error) => panic!("the subscription failed with {error}"),
                }
            }
            loop {
                match self.changes.next().await.expect("the changes continue") {
                    Ok(WatchEvent::Set { key: changed, .. }) if changed == key => break,
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
                }
            }
        };
        tokio::time::timeout(TIMEOUT, received)
            .await
            .expect("the change and the message are received within the timeout");
    }
}
