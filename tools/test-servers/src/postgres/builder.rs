use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::template::Template;
use super::{DATA, Postgres, find_programs};
use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Account, Launch, Process};
use crate::tls::{Certificate, Tls};

/// Builder of a [`Postgres`] server.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct PostgresBuilder {
    tls: Option<Certificate>,
    fsync: bool,
    tmpfs_bytes: Option<u64>,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// Enables TLS on the same port, with a certificate for `localhost` and `127.0.0.1`.
    pub fn tls(self) -> Self {
        self.tls_with(Certificate::Good)
    }

    /// Enables TLS on the same port, with a certificate of this kind.
    pub fn tls_with(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// Sets `fsync` and `full_page_writes`, which are on in production. Default: off.
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Sets an option of `postgresql.conf`. The option overrides the defaults of this builder.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the data on a tmpfs of `bytes` bytes, so that a test can fill the disk. An empty server takes about 32 MB.
    /// Mounting requires root.
    pub fn data_on_tmpfs(mut self, bytes: u64) -> Self {
        self.tmpfs_bytes = Some(bytes);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// The program is missing, the tmpfs could not be mounted, or the server did not start. The error contains the end
    /// of the server's log.
    pub fn start(self) -> io::Result<Postgres> {
        let programs = find_programs()?;
        let account = Account::unprivileged(&["postgres", "nobody"])?;
        let template = Template::get(&programs, account)?;
        let mut folder = Folder::create(account)?;
        let data = match self.tmpfs_bytes {
            Some(bytes) => folder.mount(DATA, bytes)?,
            None => folder.path().join(DATA),
        };
        template.copy_to(&data)?;
        let port = Port::reserve()?;
        let tls = self.tls.map(|kind| Tls::create(kind, &folder)).transpose()?;
        let launch = Launch {
            program: programs.join("postgres"),
            arguments: self.arguments(folder.path(), &data, &port, tls.as_ref()),
            account,
            folder: folder.path().to_owned(),
        };
        let process = Process::start(launch)?;
        let mut postgres = Postgres { process, port, tls, password: template.password, programs, folder };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    /// Returns the command line. The caller's settings come last and override the other settings.
    fn arguments(&self, folder: &Path, data: &Path, port: &Port, tls: Option<&Tls>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
        let mut set = |name: &str, value: &str| arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        let on = if self.fsync { "on" } else { "off" };
        set("listen_addresses", "127.0.0.1");
        set("port", &port.number().to_string());
        set("unix_socket_directories", &folder.to_string_lossy());
        set("max_connections", "200");
        set("fsync", on);
        set("full_page_writes", on);
        // Segments are files in the server's folder, so that a kill leaves no segment outside this folder.
        set("dynamic_shared_memory_type", "mmap");
        if self.tmpfs_bytes.is_none() {
            set("max_wal_size", "1GB");
        }
        if let Some(tls) = tls {
            set("ssl", "on");
            set("ssl_cert_file", &tls.certificate.to_string_lossy());
            set("ssl_key_file", &tls.key.to_string_lossy());
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        arguments
    }
}
