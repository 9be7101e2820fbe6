//! Runs a command beside servers of its own: `with-servers COMMAND [ARGUMENT…]`.
//!
//! In the arguments `{redis}`, `{redis-cluster}` and `{postgres}` stand for the URL of a server, which is started for it. All are
//! stopped at the end, and the exit code is that of the command.

use std::error::Error;
use std::process::{Command, ExitCode};

use test_servers::cluster::RedisCluster;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// The servers that were asked for, by what stands for them.
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
        return Err("give a command; `{redis}`, `{redis-cluster}` and `{postgres}` in it become URLs".into());
    };
    let status = Command::new(program).args(arguments).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

impl Servers {
    /// Puts URLs into an argument, of servers that are started when they are first asked for.
    fn fill(&mut self, word: String) -> Result<String, Box<dyn Error>> {
        let mut word = word;
        if word.contains("{redis}") {
            let server = started(&mut self.redis, Redis::start)?;
            word = word.replace("{redis}", &server.url());
        }
        if word.contains("{redis-cluster}") {
            let server = started(&mut self.cluster, RedisCluster::start)?;
            word = word.replace("{redis-cluster}", &server.url());
        }
        if word.contains("{postgres}") {
            let server = started(&mut self.postgres, Postgres::start)?;
            word = word.replace("{postgres}", &server.url());
        }
        Ok(word)
    }
}

fn started<S>(server: &mut Option<S>, start: impl FnOnce() -> std::io::Result<S>) -> std::io::Result<&S> {
    Ok(match server {
        Some(server) => server,
        None => server.insert(start()?),
    })
}
