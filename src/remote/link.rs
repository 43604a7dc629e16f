//! A connection to a server: how to get there, and one deadline for everything.
//!
//! A name of a host is looked up by the system, which has deadlines of its own.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::replies::Reply;
use super::stream::{Stream, Timed, connect_unix, left};
use super::tls;

/// Holds the password if no file does, as for the server.
const PASSWORD_VARIABLE: &str = "POST_GRES_RS_PASSWORD";

/// The longest password file that is read, as for the server.
const MOST_PASSWORD: u64 = 1 << 20;

/// The flags that say where a server is, and who asks.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Door {
    /// Where the server listens
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    host: String,

    /// Its port
    #[arg(long, default_value_t = 4242, value_name = "PORT")]
    port: u16,

    /// Its Unix socket, in place of host and port
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    tls: tls::Flags,

    /// User to log in as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// File with the password in its first line; without it POST_GRES_RS_PASSWORD in the environment
    #[arg(long = "password-file", value_name = "PATH")]
    password_file: Option<PathBuf>,

    /// Seconds for everything, from the connection to the last reply
    #[arg(
        long,
        default_value_t = 5,
        value_name = "1-3600",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    timeout: u64,
}

impl Door {
    /// The server that it leads to.
    pub fn address(&self) -> String {
        match &self.socket {
            Some(path) => path.display().to_string(),
            None if self.host().contains(':') => format!("[{}]:{}", self.host(), self.port),
            None => format!("{}:{}", self.host(), self.port),
        }
    }

    /// A server that listens on all addresses is reached by that of this machine.
    fn host(&self) -> &str {
        match self.host.trim_matches(['[', ']']) {
            "0.0.0.0" | "*" => "127.0.0.1",
            "::" => "::1",
            host => host,
        }
    }

    fn password(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let text = match (&self.password_file, std::env::var_os(PASSWORD_VARIABLE)) {
            (Some(path), _) => file(path)?,
            (None, Some(text)) => text.into_encoded_bytes(),
            (None, None) => return Ok(None),
        };
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    }

    fn connect(&self, deadline: Instant) -> anyhow::Result<Box<dyn Stream>> {
        let plan = self.tls.plan()?;
        if let Some(path) = &self.socket {
            ensure!(plan.is_none(), "-tls is not for a Unix socket");
            return Ok(Box::new(Timed::new(connect_unix(path, deadline)?, deadline)));
        }
        let mut last = io::Error::from(ErrorKind::NotFound);
        for address in (self.host(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    let stream = Timed::new(stream, deadline);
                    return Ok(match &plan {
                        Some(plan) => tls::encrypt(stream, self.host(), plan)?,
                        None => Box::new(stream),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|it| it.take(MOST_PASSWORD + 1).read_to_end(&mut text));
    read.with_context(|| format!("{}: cannot read the password", path.display()))?;
    let is_short = text.len() as u64 <= MOST_PASSWORD;
    ensure!(is_short, "{}: more than {MOST_PASSWORD} bytes", path.display());
    Ok(text)
}

/// A connection, logged in where that is needed.
pub struct Link {
    stream: BufReader<Box<dyn Stream>>,
    address: String,
    time: Duration,
}

impl Link {
    /// Connects and logs in.
    pub fn open(door: &Door) -> anyhow::Result<Link> {
        Link::open_within(door, Duration::from_secs(door.timeout))
    }

    /// The same in no more than this time, which also the first replies have to come in.
    pub fn open_within(door: &Door, time: Duration) -> anyhow::Result<Link> {
        let password = door.password()?;
        let address = door.address();
        let deadline = Instant::now() + time;
        let stream = match door.connect(deadline) {
            Ok(stream) => stream,
            Err(error) => bail!("{address}: cannot connect: {error:#}"),
        };
        let stream = BufReader::new(stream);
        let mut link = Link { stream, address, time };
        link.log_in(door.user.as_deref(), password.as_deref())?;
        Ok(link)
    }

    /// The address of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Begins the time anew, for a connection that stays open.
    #[cfg(feature = "stats")]
    pub fn allow(&mut self, time: Duration) {
        self.time = time;
        self.stream.get_mut().set_deadline(Instant::now() + time);
    }

    fn log_in(&mut self, user: Option<&str>, password: Option<&[u8]>) -> anyhow::Result<()> {
        const MOST: u64 = 0;
        let Some(password) = password else {
            ensure!(
                user.is_none(),
                "-user has a password in the file at -password-file, or in {PASSWORD_VARIABLE}"
            );
            return Ok(());
        };
        let words: Vec<&[u8]> = [Some(&b"AUTH"[..]), user.map(str::as_bytes), Some(password)]
            .into_iter()
            .flatten()
            .collect();
        match self.ask_any(&words, MOST)? {
            Reply::Text(_) => Ok(()),
            // The environment has a password, and this server needs none.
            Reply::Refused(why) if user.is_none() && why.contains("without any password") => Ok(()),
            other => bail!("{}: the login was refused: {}", self.address, other.shown()),
        }
    }

    /// The reply to a command. That it is refused is an error.
    pub fn ask(&mut self, words: &[&[u8]], most: u64) -> anyhow::Result<Reply> {
        match self.ask_any(words, most)? {
            refused @ Reply::Refused(_) => bail!("{}: {}", self.address, refused.shown()),
            reply => Ok(reply),
        }
    }

    fn ask_any(&mut self, words: &[&[u8]], most: u64) -> anyhow::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        let sent = self.stream.get_mut().write_all(&request);
        // A server that refuses a client says why, and closes before the request is there.
        let reply = Reply::read(&mut self.stream, most);
        match (sent, reply) {
            (_, Ok(reply)) => Ok(reply),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(self.told(&error)),
        }
    }

    fn told(&self, error: &io::Error) -> anyhow::Error {
        let address = &self.address;
        match error.kind() {
            ErrorKind::TimedOut => anyhow::anyhow!(
                "{address}: no reply within {} s; it may be loading its log, or be stopped",
                self.time.as_secs()
            ),
            ErrorKind::UnexpectedEof => anyhow::anyhow!("{address}: it closed the connection"),
            _ => anyhow::anyhow!("{address}: {error}"),
        }
    }
}
