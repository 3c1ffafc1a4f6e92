//! Asks a running proxy's admin port for one page.
//!
//! Owns: one plain HTTP request over one connection, bounded in time and size.
//! Never: changes anything: it only sends GET.
//! Called by: `cli::routes`, `cli::certs`, `cli::explain`.
//!
//! Why by hand: the commands that use it are short and blocking, and the answer is ours.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For the connection, and for each read of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: a table of 100,000 hosts has some 50 million.
const MAX_ANSWER: u64 = 512 * 1024 * 1024;

/// Why a page could not be had. `Display` says which address, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error(
        "the admin address {address} cannot be used: {source}; write HOST:PORT, such as \
         127.0.0.1:15000"
    )]
    Address {
        /// As given.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// Nobody answers there.
    #[error(
        "no answer from the admin port {address}: {source}; is sortie running, and \
         with --admin {address}? --admin ADDR asks another one, --config PATH reads the files instead"
    )]
    Unreachable {
        /// As given.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// Something answers that is not sortie.
    #[error("{address} does not answer as sortie's admin port does; --admin ADDR asks another one")]
    NotSortie {
        /// As given.
        address: String,
    },
    /// The answer broke off.
    #[error(
        "the answer of the admin port {address} broke off after {got} of \
         {expected} bytes; ask again"
    )]
    CutOff {
        /// As given.
        address: String,
        /// Bytes of the body that came.
        got: usize,
        /// Bytes that were announced.
        expected: usize,
    },
    /// The page was refused.
    #[error("the admin port {address} answered {status}: {words}")]
    Refused {
        /// As given.
        address: String,
        /// HTTP status.
        status: u16,
        /// The first line of the answer.
        words: String,
    },
}

/// The body of `GET path` from the admin port at `address`.
pub fn fetch(address: &str, path: &str) -> Result<String, ClientError> {
    let answer = exchange(address, path)?;
    read_answer(address, &answer)
}

fn exchange(address: &str, path: &str) -> Result<Vec<u8>, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        address: address.to_owned(),
        source,
    };
    let candidates = address
        .to_socket_addrs()
        .map_err(|source| ClientError::Address {
            address: address.to_owned(),
            source,
        })?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => return converse(stream, address, path).map_err(unreachable),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn converse(mut stream: TcpStream, address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn read_answer(address: &str, answer: &[u8]) -> Result<String, ClientError> {
    let not_sortie = || ClientError::NotSortie {
        address: address.to_owned(),
    };
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or_else(not_sortie)?);
    let head = std::str::from_utf8(head).map_err(|_| not_sortie())?;
    let body = body.get(4..).unwrap_or_default();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
    let status = status.ok_or_else(not_sortie)?;
    let length = lines.filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let expected = length
        .next()
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if let Some(expected) = expected
        && body.len() < expected
    {
        return Err(ClientError::CutOff {
            address: address.to_owned(),
            got: body.len(),
            expected,
        });
    }
    let text = String::from_utf8_lossy(body).into_owned();
    if status == 200 {
        return Ok(text);
    }
    Err(ClientError::Refused {
        address: address.to_owned(),
        status,
        words: text.lines().next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        (address, server)
    }

    #[test]
    fn a_page_is_fetched_whole() {
        let (address, server) = answering("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}\n");
        assert_eq!(fetch(&address, "/routes").unwrap(), "{}\n");
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /routes HTTP/1.0\r\nHost: 127.0.0.1:")
        );
    }

    #[test]
    fn an_answer_that_is_not_whole_or_not_sorties_is_an_error_that_says_so() {
        for (answer, part) in [
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}",
                "broke off after 2 of 9 bytes",
            ),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not answer as sortie"),
            ("", "does not answer as sortie"),
            (
                "HTTP/1.0 404 Not Found\r\n\r\nThere is no page\nmore",
                "answered 404: There is no page",
            ),
        ] {
            let (address, server) = answering(answer);
            let error = fetch(&address, "/routes").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn an_admin_port_that_is_not_there_is_named_with_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = fetch(&address, "/routes").unwrap_err().to_string();
        assert!(
            error.contains(&address) && error.contains("--config PATH"),
            "{error}"
        );
        assert!(
            fetch("nonsense", "/")
                .unwrap_err()
                .to_string()
                .contains("HOST:PORT")
        );
    }
}
