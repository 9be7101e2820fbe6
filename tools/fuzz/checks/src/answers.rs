//! What a server of the JSON-lines protocol answers.

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    DeleteOptions, Error, ErrorKind, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry, SetItem,
    SetOptions, Transaction, WatchQuery, When,
};
use kv_lines::{LinesBuilder, LinesStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// How long the store waits for an answer, and how long all that is done here may take.
const TIMEOUT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server says of itself that can do everything.
const INFO: &[u8] =
    br#"{"id":1,"result":{"name":"any","capabilities":{"versions":true,"deadlines":true,"conditions":true,
"previous":true,"list":"native","touch":true,"counters":true,"transactions":"any","watch":"shared","watch_expiry":true,
"messages":"shared","shared":true,"durability":{"survives":"power","interval_ms":0},"may_evict":false},
"limits":{"max_value_bytes":16777216,"max_message_bytes":1048576}}}"#;

/// Any lines, as answers of a server to one call after the other, give results or errors within the deadline. A first line that
/// is empty stands for a server that says of itself what one would expect.
pub fn lines_answers(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let said = Mutex::new(data.split_inclusive(|byte| *byte == b'\n'));
        let server = async {
            let mut sessions = futures_util::stream::FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => sessions.push(answer(accepted.expect("a connection").0, &said)),
                    Some(()) = sessions.next() => {}
                }
            }
        };
        let client = async {
            if let Ok(store) = LinesBuilder::new(address).operation_timeout(TIMEOUT).open().await {
                ask_everything(&store).await;
            }
        };
        tokio::select! {
            () = server => {}
            asked = tokio::time::timeout(PATIENCE, client) => asked.expect("no call takes longer than it may"),
        }
    });
}

/// Answers each line by the next that there is, until there is none.
async fn answer<'d>(connection: TcpStream, said: &Mutex<impl Iterator<Item = &'d [u8]>>) {
    let (reader, mut writer) = connection.into_split();
    let mut requests = BufReader::new(reader).split(b'\n');
    while let Ok(Some(request)) = requests.next_segment().await {
        let Some(line) = said.lock().await.next() else { return };
        let is_plain = line == b"\n" && request.windows(6).any(|part| part == b"\"info\"");
        let info: Vec<u8> = INFO.iter().copied().filter(|byte| *byte != b'\n').chain([b'\n']).collect();
        let line = if is_plain { &info } else { line };
        if writer.write_all(line).await.is_err() || !line.ends_with(b"\n") {
            return;
        }
    }
}

async fn ask_everything(store: &LinesStore) {
    let key = Key::new(["a"]).expect("a key");
    let keys = [key.clone(), key.clone()];
    let items = [SetItem::new(key.clone(), "v"), SetItem::new(key.clone(), "w")];
    let transaction = Transaction::new().check(key.clone(), When::Absent).set(key.clone(), "v", Expiry::Never);
    let options = SetOptions::default().with_previous();
    let told = |error: Error| {
        let is_known = !matches!(error.kind(), ErrorKind::Invalid) || error.operation().is_some();
        assert!(is_known, "an error does not say what was done: {error}");
    };
    let _ = store.get(&key).await.map_err(told);
    let _ = store.set(&key, "v".into(), &options).await.map_err(told);
    let _ = store.delete(&key, &DeleteOptions::default()).await.map_err(told);
    let _ = store.contains(&key).await.map_err(told);
    let _ = store.increment(&key, 1, &IncrementOptions::default()).await.map_err(told);
    let _ = store.touch(&key, NewExpiry::Never).await.map_err(told);
    let _ = store.commit(&transaction).await.map_err(told);
    assert_eq!(store.get_many(&keys).await.len(), keys.len());
    assert_eq!(store.set_many(&items).await.len(), items.len());
    assert_eq!(store.delete_many(&keys).await.len(), keys.len());
    let mut query = ListQuery::new(KeyPrefix::ALL);
    for _ in 0..4 {
        let Ok(page) = store.list(&query).await.map_err(told) else { break };
        let Some(next) = page.next else { break };
        assert!(query.after.as_ref().is_none_or(|after| *after < next), "a listing goes back to {next}");
        query = query.resume(next);
    }
    if let Ok(events) = store.watch(&WatchQuery::prefix(KeyPrefix::ALL).with_snapshot()).await.map_err(told) {
        let _ = tokio::time::timeout(TIMEOUT, events.take(8).count()).await;
    }
    if let Ok(events) = store.subscribe(&KeyPrefix::ALL).await.map_err(told) {
        let _ = tokio::time::timeout(TIMEOUT, events.take(8).count()).await;
    }
    let _ = store.clear(&KeyPrefix::ALL).await.map_err(told);
    let _ = store.sweep().await.map_err(told);
    let _ = store.close().await.map_err(told);
}
