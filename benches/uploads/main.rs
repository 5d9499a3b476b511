//! Figures of uploads: Weir beside plain tools that move the same bytes, in the same run. Prints; asserts nothing.
//!
//! ```text
//!   cargo bench --bench uploads -- [--megabytes 512] [--producers 2000] [--readers 200]
//! ```
//!
//! One upload with `curl -T` to Weir and to a server that does nothing but write a file; the same bytes read by one and by a
//! hundred, beside `cat` of a file, and `curl` from nginx where it is installed; then many small producers with many readers. For each the memory of Weir's process.

#![allow(clippy::disallowed_methods, reason = "threads and tasks end with the program")]
#![allow(clippy::print_stdout, clippy::disallowed_macros, reason = "it prints its figures")]

mod nginx;
mod plain;
mod serving;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use nginx::Nginx;
use serving::Serving;

/// Whatever goes wrong.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of each small upload, and of each of its pieces.
const SMALL: (usize, usize) = (64 * 1024, 1024);

/// What is measured, from the command line.
struct Wish {
    megabytes: u64,
    producers: usize,
    readers: usize,
}

impl Wish {
    fn read() -> Result<Self, Problem> {
        let mut wish = Self { megabytes: 512, producers: 2000, readers: 200 };
        let mut arguments = std::env::args().skip(1).filter(|one| one != "--bench");
        while let Some(name) = arguments.next() {
            let value: u64 = arguments.next().ok_or("an option has no value")?.parse()?;
            match name.as_str() {
                "--megabytes" => wish.megabytes = value,
                "--producers" => wish.producers = usize::try_from(value)?,
                "--readers" => wish.readers = usize::try_from(value)?,
                _ => return Err(format!("there is no option {name}").into()),
            }
        }
        Ok(wish)
    }
}

fn main() -> Result<(), Problem> {
    let wish = Wish::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let home = tempfile::tempdir()?;
        let file = noise(home.path(), wish.megabytes)?;
        let serving = Serving::start(home.path(), wish.producers).await?;
        println!("{} MB, {} cores; Weir at rest: {}", wish.megabytes, cores(), serving.memory());
        one_upload(&serving, &file, home.path())?;
        reading(&serving, &file, wish.megabytes)?;
        many(&serving, &wish).await?;
        serving.stop()
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A file of bytes that nothing compresses.
fn noise(folder: &Path, megabytes: u64) -> Result<PathBuf, Problem> {
    use rand::Rng as _;
    let path = folder.join("noise");
    let mut file = std::fs::File::create(&path)?;
    let mut random = rand::rng();
    let mut piece = vec![0; 1024 * 1024];
    for _ in 0..megabytes {
        random.fill_bytes(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(path)
}

/// How long a command takes.
fn timed(command: &mut Command) -> Result<Duration, Problem> {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(began.elapsed())
}

fn rate(bytes: u64, time: Duration) -> String {
    format!("{:6.2} GB/s in {:.2} s", bytes as f64 / 1e9 / time.as_secs_f64(), time.as_secs_f64())
}

fn one_upload(serving: &Serving, file: &Path, folder: &Path) -> Result<(), Problem> {
    let bytes = std::fs::metadata(file)?.len();
    let plain = plain::start(&folder.join("plain"))?;
    for round in 1..=3 {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-f", "-X", "POST", "-T"]).arg(file).arg(format!("http://{plain}/"));
        println!("upload {round}: plain file writer  {}", rate(bytes, timed(&mut curl)?));
        for stream in ["memory", "disk"] {
            let mut curl = serving.curl();
            curl.args(["-f", "-X", "POST", "-T"]).arg(file).arg(serving.url(&format!("/stream/{stream}?force=true")));
            let took = timed(&mut curl)?;
            println!("upload {round}: Weir, {stream:<12} {}   {}", rate(bytes, took), serving.memory());
        }
    }
    Ok(())
}

fn reading(serving: &Serving, file: &Path, megabytes: u64) -> Result<(), Problem> {
    let bytes = megabytes * 1024 * 1024;
    let nginx = Nginx::start(file.parent().ok_or("no folder")?)?;
    for readers in [1, 100] {
        let mut commands: Vec<(&str, Vec<Command>)> = Vec::new();
        let cat = || {
            let mut cat = Command::new("cat");
            cat.arg(file);
            cat
        };
        let curl = |url: String| {
            let mut curl = serving.curl();
            curl.args(["-f", "-o", "/dev/null"]).arg(url);
            curl
        };
        commands.push(("cat of the file", (0..readers).map(|_| cat()).collect()));
        let local = format!("file://{}", file.display());
        commands.push(("curl file://", (0..readers).map(|_| curl(local.clone())).collect()));
        if let Some(nginx) = &nginx {
            let url = format!("http://{}/noise", nginx.address);
            commands.push(("curl from nginx", (0..readers).map(|_| curl(url.clone())).collect()));
        }
        commands.push(("curl from Weir, disk", (0..readers).map(|_| curl(serving.url("/stream/disk"))).collect()));
        for (what, commands) in commands {
            let began = Instant::now();
            let mut children = Vec::new();
            for mut command in commands {
                children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
            }
            for mut child in children {
                if !child.wait()?.success() {
                    return Err(format!("{what}: one failed").into());
                }
            }
            let all = rate(bytes * readers, began.elapsed());
            println!("{readers:>3} readers: {what:<22} {all} in all   {}", serving.memory());
        }
    }
    Ok(())
}

/// Many producers, each with a small upload in small pieces, while readers follow some of them.
async fn many(serving: &Serving, wish: &Wish) -> Result<(), Problem> {
    let began = Instant::now();
    let mut producers = JoinSet::new();
    for number in 0..wish.producers {
        let (address, token) = (serving.address, serving.token.clone());
        producers.spawn(async move { produce(address, &token, number).await });
    }
    let mut readers = JoinSet::new();
    for number in 0..wish.readers {
        let (address, token) = (serving.address, serving.token.clone());
        let number = number * wish.producers / wish.readers.max(1);
        readers.spawn(async move { consume(address, &token, number).await });
    }
    let (mut whole, mut broken) = (0, 0);
    while let Some(done) = producers.join_next().await {
        if done?.is_ok() { whole += 1 } else { broken += 1 }
    }
    let took = began.elapsed();
    let mut read = 0;
    while let Some(done) = readers.join_next().await {
        read += done?.unwrap_or(0);
    }
    println!(
        "{} producers of {} kB with {} readers: {whole} whole, {broken} not, in {:.2} s; {} MB were read   {}",
        wish.producers,
        SMALL.0 / 1024,
        wish.readers,
        took.as_secs_f64(),
        read / 1_000_000,
        serving.memory()
    );
    Ok(())
}

async fn produce(address: std::net::SocketAddr, token: &str, number: usize) -> Result<(), Problem> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!(
        "POST /stream/p{number}?force=true HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        SMALL.0
    );
    socket.write_all(head.as_bytes()).await?;
    for _ in 0..SMALL.0 / SMALL.1 {
        socket.write_all(&[b'x'; SMALL.1]).await?;
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    // The last chunk says that it is stored.
    if answer.starts_with(b"HTTP/1.1 201") && answer.ends_with(b"0\r\n\r\n") {
        Ok(())
    } else {
        Err("not stored".into())
    }
}

async fn consume(address: std::net::SocketAddr, token: &str, number: usize) -> Result<u64, Problem> {
    let request = format!(
        "GET /stream/p{number} HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    loop {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 404") {
            return Ok(answer.len() as u64);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
