//! A server that does nothing but write what it is sent to a file: what an upload costs at least.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use crate::Problem;

/// Starts it on a free port; it lives as long as the program.
pub fn start(path: &Path) -> Result<SocketAddr, Problem> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, path) = (listener.local_addr()?, path.to_owned());
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let _ = take(socket, &path);
        }
    });
    Ok(address)
}

fn take(mut socket: TcpStream, path: &PathBuf) -> Result<(), Problem> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut head, mut file) = (Vec::new(), File::create(path)?);
    let end = loop {
        let read = socket.read(&mut buffer)?;
        head.extend_from_slice(&buffer[..read]);
        match memchr::memmem::find(&head, b"\r\n\r\n") {
            Some(end) => break end + 4,
            None if read == 0 => return Err("no head".into()),
            None => {}
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<u64>().ok());
    let mut left = length.ok_or("no length")? - (head.len() - end) as u64;
    if text.contains("expect: 100-continue") {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    file.write_all(&head[end..])?;
    while left > 0 {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Err("the producer was lost".into());
        }
        file.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?)
}
