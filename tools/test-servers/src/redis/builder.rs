use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Redis, SOCKET, cli_program, server_program};
use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Launch, Process};
use crate::secret::Secret;
use crate::tls::{Certificate, Tls};
use crate::wait;

/// Where the certificate comes from.
#[derive(Debug, Clone)]
enum Source {
    /// It is made for this server, with an authority of its own.
    Own(Certificate),
    /// Several servers have it.
    Shared(Arc<Tls>),
}

/// What a [`Redis`] is started with.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisBuilder {
    password: Option<Secret>,
    users: Vec<(String, Secret, String)>,
    tls: Option<Source>,
    replica: bool,
    settings: Vec<(String, String)>,
}

impl RedisBuilder {
    /// The password of the default user, and the one that a replica gives to its master.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// One more user, such as `("tenant", "secret", "~tenant:* &tenant:* +@all")`.
    pub fn acl_user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users.push((name.to_owned(), password.into(), rules.to_owned()));
        self
    }

    /// Speaks TLS too, on a port of its own, as `localhost` and `127.0.0.1`.
    pub fn tls(self) -> Self {
        self.tls_with(Certificate::Good)
    }

    /// Speaks TLS too, with a certificate of this kind.
    pub fn tls_with(mut self, certificate: Certificate) -> Self {
        self.tls = Some(Source::Own(certificate));
        self
    }

    /// As [`tls`](Self::tls), with a certificate that others have too, by which they trust each other.
    pub(crate) fn tls_shared(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(Source::Shared(tls));
        self
    }

    /// How much it may hold, and what it does then.
    pub fn max_memory(self, size: &str, policy: &str) -> Self {
        self.setting("maxmemory", size).setting("maxmemory-policy", policy)
    }

    /// Follows the server on this port. [`start`](Self::start) waits for the first copy.
    pub fn replica_of(mut self, port: u16) -> Self {
        self.replica = true;
        self.setting("replicaof", &format!("127.0.0.1 {port}"))
    }

    /// Keeps what it has acknowledged over a kill.
    pub fn append_only(self) -> Self {
        self.setting("appendonly", "yes").setting("appendfsync", "always")
    }

    /// A line of `redis.conf`, with the value as it is written there.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and returns when it answers.
    ///
    /// # Errors
    /// The program is missing or did not start; its log is shown.
    pub fn start(self) -> io::Result<Redis> {
        let folder = Folder::create(None)?;
        let port = Port::reserve()?;
        let tls = match &self.tls {
            Some(Source::Own(kind)) => Some((Arc::new(Tls::create(*kind, &folder)?), Port::reserve()?)),
            Some(Source::Shared(tls)) => Some((Arc::clone(tls), Port::reserve()?)),
            None => None,
        };
        let file = folder.write("redis.conf", &self.configuration(folder.path(), &port, tls.as_ref()))?;
        let launch = Launch {
            program: server_program()?,
            arguments: vec![file.into()],
            account: None,
            folder: folder.path().to_owned(),
        };
        let process = Process::start(launch)?;
        let mut redis = Redis { process, port, tls, password: self.password, cli: cli_program()?, folder };
        redis.ready()?;
        if self.replica {
            wait::until(wait::START, || {
                let state = redis.cli(&["INFO", "replication"])?;
                Ok(if state.contains("master_link_status:up") { Ok(()) } else { Err(state) })
            })?;
        }
        Ok(redis)
    }

    /// Settings of the caller come last, and so win.
    fn configuration(&self, folder: &Path, port: &Port, tls: Option<&(Arc<Tls>, Port)>) -> String {
        let mut text = format!(
            "bind 127.0.0.1\nport {}\nprotected-mode no\nunixsocket {SOCKET}\nunixsocketperm 700\ndir {}\n\
             save \"\"\nappendonly no\nenable-debug-command yes\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n",
            port.number(),
            folder.display(),
        );
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name} {}", if value.is_empty() { "\"\"" } else { value });
        };
        if let Some(password) = &self.password {
            line("requirepass", &quoted(password));
            line("masterauth", &quoted(password));
        }
        for (name, password, rules) in &self.users {
            line("user", &format!("{} on {} {rules}", quoted(name), quoted(&format!(">{}", &**password))));
        }
        if let Some((tls, port)) = tls {
            line("tls-port", &port.number().to_string());
            line("tls-cert-file", &tls.certificate.to_string_lossy());
            line("tls-key-file", &tls.key.to_string_lossy());
            line("tls-ca-cert-file", &tls.authority.to_string_lossy());
            line("tls-auth-clients", "no");
        }
        for (name, value) in &self.settings {
            line(name, value);
        }
        text
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
