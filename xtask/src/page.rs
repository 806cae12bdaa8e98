//! A page for guests that reach this machine through QEMU's user network: as its address 10.0.2.2.

use crate::Failure;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// The lines of the page: the numbers from 1.
const LINES: u32 = 50_000;

/// Serves the page on this machine's own address until this process ends; the port.
pub fn serve() -> Result<u16, Failure> {
    let failed = |why: std::io::Error| Failure::new(format!("cannot serve a page on this machine: {why}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who breaks off sees it.
            let _ = answer(stream);
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut asked = Vec::new();
    let mut buffer = [0; 1024];
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.len() < 1 << 16 {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => asked.extend_from_slice(&buffer[..length]),
        }
    }
    let page: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    let head =
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", page.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(page.as_bytes())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn serves_its_page() {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, serve().unwrap())).unwrap();
        stream.write_all(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, page) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"));
        assert!(page.starts_with("1\n2\n") && page.ends_with("\n50000\n"));
    }
}
