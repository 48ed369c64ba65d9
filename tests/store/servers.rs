//! Real servers, each a process of its own on a free port, gone when the test is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use redis::{Client, FromRedisValue};
use tempfile::TempDir;

/// Starts a server that can't outlive this process: it is killed when the standard input ends.
const KEEPER: &str = r#"
    "$@" >>log 2>&1 </dev/null &
    echo $!
    exec >&-
    read -r _
    kill -KILL $! 2>/dev/null
    wait
"#;

/// A process that is killed when it is dropped.
#[derive(Debug)]
struct Process {
    keeper: Child,
    /// Its end is the end of the process.
    life: Option<ChildStdin>,
    pid: u32,
}

impl Process {
    fn start(folder: &Path, command: &[String]) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let life = keeper.stdin.take();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { keeper, life, pid: pid.trim().parse().unwrap() }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid.to_string()]).status().unwrap();
        assert!(status.success(), "kill {name} {}", self.pid);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.life.take());
        let _ = self.keeper.wait();
    }
}

/// A Redis server.
#[derive(Debug)]
pub struct Server {
    pub port: u16,
    options: Vec<String>,
    process: Option<Process>,
    folder: TempDir,
}

impl Server {
    pub fn start(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let mut server =
                Self { port: free_port(), options: options.clone(), process: None, folder };
            if server.run() {
                return server;
            }
        }
        panic!("no port stayed free");
    }

    /// Starts it, or starts it again. `false` where somebody else has its port.
    pub fn run(&mut self) -> bool {
        let mut command: Vec<String> =
            ["redis-server", "--bind", "127.0.0.1", "--save", ""].map(str::to_owned).to_vec();
        command.extend(["--port".to_owned(), self.port.to_string()]);
        command.extend(self.options.iter().cloned());
        let process = Process::start(self.folder.path(), &command);
        let pid = format!("process_id:{}\r\n", process.pid);
        self.process = Some(process);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if self.try_command::<String>(&["INFO", "server"]).is_ok_and(|info| info.contains(&pid))
            {
                return true;
            }
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if log.contains("Address already in use") {
                return false;
            }
            yield_now();
        }
        panic!(
            "it does not start: {}",
            fs::read_to_string(self.folder.path().join("log")).unwrap()
        );
    }

    /// As a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// `-STOP` and `-CONT`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    pub fn url(&self) -> url::Url {
        format!("redis://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap()
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
