//! Responses of a server of the JSON-lines protocol.

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

/// The timeout of one call of the client.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(300);

/// The timeout of all calls together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The `info` of a server with all capabilities.
const INFO: &[u8] =
    br#"{"id":1,"result":{"name":"any","capabilities":{"versions":true,"deadlines":true,"conditions":true,
"previous":true,"list":"native","touch":true,"counters":true,"transactions":"any","watch":"shared","watch_expiry":true,
"messages":"shared","shared":true,"durability":{"survives":"power","interval_ms":0},"may_evict":false},
"limits":{"max_value_bytes":16777216,"max_message_bytes":1048576}}}"#;

/// The response to `hello`.
const WELCOME: &[u8] = b"{\"id\":0,\"result\":{\"version\":1}}\n";

/// Sends the lines of the input as the responses of a server, one for each request. Checks that each call returns a
/// result or an error within its timeout. An empty line is replaced by `INFO` if the request is `info`.
pub fn lines_answers(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let lines = Mutex::new(data.split_inclusive(|byte| *byte == b'\n'));
        let server = async {
            let mut sessions = futures_util::stream::FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => sessions.push(serve(accepted.expect("a connection").0, &lines)),
                    Some(()) = sessions.next() => {}
                }
            }
        };
        let client = async {
            if let Ok(store) = LinesBuilder::new(address).operation_timeout(OPERATION_TIMEOUT).open().await {
                call_everything(&store).await;
            }
        };
        tokio::select! {
            () = server => {}
            finished = tokio::time::timeout(TOTAL_TIMEOUT, client) => finished.expect("all calls end in time"),
        }
    });
}

/// Responds to each request with the next line, and ends after the last line.
async fn serve<'d>(connection: TcpStream, lines: &Mutex<impl Iterator<Item = &'d [u8]>>) {
    let (reader, mut writer) = connection.into_split();
    let mut requests = BufReader::new(reader).split(b'\n');
    // The first line of each connection is `hello`.
    if !matches!(requests.next_segment().await, Ok(Some(_))) || writer.write_all(WELCOME).await.is_err() {
        return;
    }
    while let Ok(Some(request)) = requests.next_segment().await {
        let Some(line) = lines.lock().await.next() else { return };
        let asks_for_info = line == b"\n" && request.windows(6).any(|part| part == b"\"info\"");
        let info: Vec<u8> = INFO.iter().copied().filter(|byte| *byte != b'\n').chain([b'\n']).collect();
        let line = if asks_for_info { &info } else { line };
        if writer.write_all(line).await.is_err() || !line.ends_with(b"\n") {
            return;
        }
    }
}

async fn call_everything(store: &LinesStore) {
    let key = Key::new(["a"]).expect("a key");
    let keys = [key.clone(), key.clone()];
    let items = [SetItem::new(key.clone(), "v"), SetItem::new(key.clone(), "w")];
    let transaction = Transaction::new().check(key.clone(), When::Absent).set(key.clone(), "v", Expiry::Never);
    let options = SetOptions::default().with_previous();
    let check = |error: Error| {
        let has_context = !matches!(error.kind(), ErrorKind::Invalid) || error.operation().is_some();
        assert!(has_context, "an error does not name its operation: {error}");
    };
    let _ = store.get(&key).await.map_err(check);
    let _ = store.set(&key, "v".into(), &options).await.map_err(check);
    let _ = store.delete(&key, &DeleteOptions::default()).await.map_err(check);
    let _ = store.contains(&key).await.map_err(check);
    let _ = store.increment(&key, 1, &IncrementOptions::default()).await.map_err(check);
    let _ = store.touch(&key, NewExpiry::Never).await.map_err(check);
    let _ = store.commit(&transaction).await.map_err(check);
    assert_eq!(store.get_many(&keys).await.len(), keys.len());
    assert_eq!(store.set_many(&items).await.len(), items.len());
    assert_eq!(store.delete_many(&keys).await.len(), keys.len());
    let mut query = ListQuery::new(KeyPrefix::ALL);
    for _ in 0..4 {
        let Ok(page) = store.list(&query).await.map_err(check) else { break };
        let Some(next) = page.next else { break };
        assert!(query.after.as_ref().is_none_or(|after| *after < next), "the cursor of a list did not advance: {next}");
        query = query.resume(next);
    }
    if let Ok(events) = store.watch(&WatchQuery::prefix(KeyPrefix::ALL).with_snapshot()).await.map_err(check) {
        let _ = tokio::time::timeout(OPERATION_TIMEOUT, events.take(8).count()).await;
    }
    if let Ok(events) = store.subscribe(&KeyPrefix::ALL).await.map_err(check) {
        let _ = tokio::time::timeout(OPERATION_TIMEOUT, events.take(8).count()).await;
    }
    let _ = store.clear(&KeyPrefix::ALL).await.map_err(check);
    let _ = store.sweep().await.map_err(check);
    let _ = store.close().await.map_err(check);
}
