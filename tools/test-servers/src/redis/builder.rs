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

/// The source of the TLS certificate.
#[derive(Debug, Clone)]
enum CertificateSource {
    /// A new certificate for this server, signed by its own authority.
    Own(Certificate),
    /// A certificate that several servers share.
    Shared(Arc<Tls>),
}

/// Builder of a [`Redis`] server.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisBuilder {
    password: Option<Secret>,
    users: Vec<(String, Secret, String)>,
    tls: Option<CertificateSource>,
    replica: bool,
    settings: Vec<(String, String)>,
}

impl RedisBuilder {
    /// Sets the password of the default user. A replica also sends this password to its master.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a user, such as `("tenant", "secret", "~tenant:* &tenant:* +@all")`.
    pub fn acl_user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users.push((name.to_owned(), password.into(), rules.to_owned()));
        self
    }

    /// Enables TLS on a separate port, with a certificate for `localhost` and `127.0.0.1`.
    pub fn tls(self) -> Self {
        self.tls_with(Certificate::Good)
    }

    /// Enables TLS on a separate port, with a certificate of this kind.
    pub fn tls_with(mut self, certificate: Certificate) -> Self {
        self.tls = Some(CertificateSource::Own(certificate));
        self
    }

    /// Enables TLS as [`tls`](Self::tls) does, with a certificate that several servers share, so that the servers trust
    /// each other.
    pub(crate) fn tls_shared(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(CertificateSource::Shared(tls));
        self
    }

    /// Sets the memory limit, such as `4mb`, and the eviction policy at the limit.
    pub fn max_memory(self, size: &str, policy: &str) -> Self {
        self.setting("maxmemory", size).setting("maxmemory-policy", policy)
    }

    /// Makes the server a replica of the server on this port. [`start`](Self::start) waits for the initial sync.
    pub fn replica_of(mut self, port: u16) -> Self {
        self.replica = true;
        self.setting("replicaof", &format!("127.0.0.1 {port}"))
    }

    /// Makes acknowledged writes survive a kill (`appendonly yes`, `appendfsync always`).
    pub fn append_only(self) -> Self {
        self.setting("appendonly", "yes").setting("appendfsync", "always")
    }

    /// Adds a line to `redis.conf`, with the value in the syntax of that file. The line overrides earlier lines.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// The program is missing or did not start. The error contains the end of its log.
    pub fn start(self) -> io::Result<Redis> {
        let folder = Folder::create(None)?;
        let port = Port::reserve()?;
        let tls = match &self.tls {
            Some(CertificateSource::Own(kind)) => Some((Arc::new(Tls::create(*kind, &folder)?), Port::reserve()?)),
            Some(CertificateSource::Shared(tls)) => Some((Arc::clone(tls), Port::reserve()?)),
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
        redis.wait_until_ready()?;
        if self.replica {
            wait::until(wait::TIMEOUT, || {
                let state = redis.cli(&["INFO", "replication"])?;
                Ok(if state.contains("master_link_status:up") { Ok(()) } else { Err(state) })
            })?;
        }
        Ok(redis)
    }

    /// Returns the text of `redis.conf`. The caller's settings come last and override the other settings.
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
