//! A connection pooler in front of a PostgreSQL server.

use std::io;
use std::net::SocketAddr;

use crate::folder::Folder;
use crate::port::Port;
use crate::postgres::{NAME, Postgres};
use crate::process::{Account, Launch, Process, client, program, run};
use crate::secret::{Secret, encoded};

/// `PgBouncer` in transaction mode: a client holds a connection to the server only for one transaction.
///
/// Dropping the value stops the pooler and removes its folder.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: Port,
    password: Secret,
    folder: Folder,
}

impl PgBouncer {
    /// Starts a pooler for all databases of the server.
    ///
    /// # Errors
    /// The program is missing or did not start. The error contains the end of its log.
    pub fn start(server: &Postgres) -> io::Result<Self> {
        let account = Account::unprivileged(&["postgres", "nobody"])?;
        let folder = Folder::create(account)?;
        let port = Port::reserve()?;
        let password = Secret::from(server.password());
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {folder}\n\
             auth_type = scram-sha-256\nauth_file = {folder}/userlist.txt\nadmin_users = {NAME}\n\
             pool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 20\n\
             ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n",
            server_port = server.port(),
            port = port.number(),
            folder = folder.path().display(),
        );
        folder.write("pgbouncer.ini", &configuration)?;
        folder.write("userlist.txt", &format!("\"{NAME}\" \"{}\"\n", &*password))?;
        let launch = Launch {
            program: program(&["pgbouncer"])?,
            arguments: vec!["pgbouncer.ini".into()],
            account,
            folder: folder.path().to_owned(),
        };
        let process = Process::start(launch)?;
        let mut bouncer = Self { process, port, password, folder };
        bouncer.wait_until_ready()?;
        Ok(bouncer)
    }

    /// Returns `postgres://kv:PASSWORD@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@{}/{}", encoded(&self.password), self.address(), encoded(database))
    }

    /// Returns the pooler's own port, not the server's.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the pooler's own address, not the server's.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills the pooler as a crash would. The server keeps running.
    ///
    /// # Errors
    /// The process could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts the pooler again on the same port. If the pooler is running, it is killed first.
    ///
    /// # Errors
    /// The pooler did not start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// Pauses the process with `SIGSTOP`.
    ///
    /// # Errors
    /// The pooler is not running.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()
    }

    /// Resumes a paused process.
    ///
    /// # Errors
    /// The pooler is not running.
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()
    }

    /// Waits until the admin console answers. The admin console answers even without the PostgreSQL server.
    fn wait_until_ready(&mut self) -> io::Result<()> {
        let Self { process, port, password, folder } = self;
        let psql = program(&["psql"])?;
        process.wait_until_ready(|| {
            let mut command = client(&psql);
            command.args(["-X", "-A", "-t", "-q", "-U", NAME, "-d", "pgbouncer", "-c", "show version"]);
            command.arg("-h").arg(folder.path()).arg("-p").arg(port.number().to_string());
            run(command.env("PGPASSWORD", &**password)).map(drop)
        })
    }
}
