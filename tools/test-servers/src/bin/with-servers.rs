//! Runs a command with private servers: `with-servers COMMAND [ARGUMENT…]`.
//!
//! `{redis}`, `{redis-cluster}` and `{postgres}` in the command and its arguments are replaced by the URL of a server.
//! The server is started on first use. All servers stop when the command ends. The exit code is the exit code of the
//! command.

use std::error::Error;
use std::process::{Command, ExitCode};

use test_servers::cluster::RedisCluster;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// The servers that the command line names, one of each kind.
#[derive(Default)]
struct Servers {
    redis: Option<Redis>,
    cluster: Option<RedisCluster>,
    postgres: Option<Postgres>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut servers = Servers::default();
    let mut words = Vec::new();
    for word in std::env::args().skip(1) {
        words.push(servers.fill(word)?);
    }
    let Some((program, arguments)) = words.split_first() else {
        return Err(
            "a command is missing; `{redis}`, `{redis-cluster}` and `{postgres}` in it are replaced by URLs".into()
        );
    };
    let status = Command::new(program).args(arguments).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

impl Servers {
    /// Replaces the placeholders of an argument by URLs, and starts servers on first use.
    fn fill(&mut self, word: String) -> Result<String, Box<dyn Error>> {
        let mut word = word;
        if word.contains("{redis}") {
            let server = get_or_start(&mut self.redis, Redis::start)?;
            word = word.replace("{redis}", &server.url());
        }
        if word.contains("{redis-cluster}") {
            let server = get_or_start(&mut self.cluster, RedisCluster::start)?;
            word = word.replace("{redis-cluster}", &server.url());
        }
        if word.contains("{postgres}") {
            let server = get_or_start(&mut self.postgres, Postgres::start)?;
            word = word.replace("{postgres}", &server.url());
        }
        Ok(word)
    }
}

fn get_or_start<S>(server: &mut Option<S>, start: impl FnOnce() -> std::io::Result<S>) -> std::io::Result<&S> {
    Ok(match server {
        Some(server) => server,
        None => server.insert(start()?),
    })
}
