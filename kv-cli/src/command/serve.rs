//! The command `kv serve`.

use std::io::ErrorKind;

use anykv::Kv;

use crate::args::ServeArgs;
use crate::exit::{Answer, Failure};
use crate::output;

pub(crate) async fn run(kv: &Kv, args: &ServeArgs) -> Result<Answer, Failure> {
    let Some(address) = args.listen else {
        let result = kv_lines::session(kv, tokio::io::stdin(), tokio::io::stdout()).await;
        return result.map(|()| Answer::Yes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("serving on stdin and stdout")(error),
        });
    };
    if !address.ip().is_loopback() {
        let message =
            format!("`{address}` is not a loopback address: any process that can connect can read and write the store");
        return Err(Failure::Usage(message));
    }
    let listener =
        tokio::net::TcpListener::bind(address).await.map_err(Failure::io(format!("listening on {address}")))?;
    let address = listener.local_addr().map_err(Failure::io("listening"))?;
    output::message(&format!("listening on {address}"));
    let listening = kv_lines::listen(kv, listener);
    if args.until_eof {
        let (mut stdin, mut sink) = (tokio::io::stdin(), tokio::io::sink());
        tokio::select! {
            result = listening => result,
            read = tokio::io::copy(&mut stdin, &mut sink) => read.map(drop),
        }
    } else {
        listening.await
    }
    .map_err(Failure::io("listening"))?;
    Ok(Answer::Yes)
}
