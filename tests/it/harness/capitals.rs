//! An application that speaks no HTTP: it may greet first, hears its client out, and answers in
//! capitals.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// What a client says last who cannot close its half.
const LAST: &[u8] = b"over\n";

/// Starts one; it lives as long as the tests.
pub fn capitals(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.write_all(greeting.as_bytes());
                let mut heard = Vec::new();
                let mut chunk = [0; 1024];
                while !heard.ends_with(LAST) {
                    match stream.read(&mut chunk) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => heard.extend_from_slice(&chunk[..read]),
                    }
                }
                let _ = stream.write_all(&heard.to_ascii_uppercase());
            });
        }
    });
    at
}
