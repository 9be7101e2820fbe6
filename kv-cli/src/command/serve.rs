//! The command `kv serve`.

use std::io::ErrorKind;

use anykv::Kv;
use kv_lines::{ServeConfig, Token};

use crate::args::ServeArgs;
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output;

/// Serves until the input ends or the program gets SIGINT or SIGTERM. A signal is the usual end of a server, so a
/// signal is not a failure. The socket file is removed before this function returns.
pub(crate) async fn run(kv: &Kv, args: &ServeArgs) -> Result<Answer, Failure> {
    match or_interrupted(serve(kv, args)).await {
        Err(Failure::Interrupted) => Ok(Answer::Yes),
        ended => ended,
    }
}

async fn serve(kv: &Kv, args: &ServeArgs) -> Result<Answer, Failure> {
    let Some(address) = &args.listen else {
        let result = kv_lines::session(kv, tokio::io::stdin(), tokio::io::stdout()).await;
        return result.map(|()| Answer::Yes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("serving on stdin and stdout")(error),
        });
    };
    let token = match &args.token_file {
        Some(path) => {
            Token::read_or_create(path).map_err(Failure::io(format!("reading the token file `{}`", path.display())))?
        }
        None => Token::random(),
    };
    let bound = address.bind(token.clone()).await;
    let (listener, bound) = bound.map_err(Failure::io(format!("listening on {address}")))?;
    output::message(&format!("listening on {bound}"));
    if bound.needs_token() && args.token_file.is_none() {
        output::message(&format!("token: {}", token.reveal()));
    }
    let mut config = ServeConfig::default().with_max_connections(args.max_connections.into());
    config.idle_timeout = args.idle_timeout;
    let listening = kv_lines::listen(kv, listener, &config);
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
