//! Asks a running proxy's admin or status port for one page.
//!
//! Owns: one plain HTTP request over one connection, bounded in time and size.
//! Never: asks twice.
//! Called by: `cli::routes`, `cli::certs`, `cli::explain`, `cli::readiness`, `cli::exec`.
//!
//! Why by hand: the commands that use it are short and blocking, and the answer is ours.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// For the connection, and for each read of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: a table of 100,000 hosts has some 50 million.
const MAX_ANSWER: u64 = 512 * 1024 * 1024;
/// Bytes of a short answer.
const MAX_SHORT: usize = 64 * 1024;

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
    let ask = Ask {
        method: "GET",
        address,
        path,
    };
    let answer = exchange(&ask, TIMEOUT, |stream| {
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    })?;
    let reply = read_answer(address, &answer)?;
    if reply.status == 200 {
        return Ok(reply.body);
    }
    Err(ClientError::Refused {
        address: address.to_owned(),
        status: reply.status,
        words: reply.body.lines().next().unwrap_or_default().to_owned(),
    })
}

/// A request without a body.
pub(super) struct Ask<'a> {
    /// `GET` or `POST`.
    pub(super) method: &'a str,
    /// `HOST:PORT`.
    pub(super) address: &'a str,
    pub(super) path: &'a str,
}

/// What came back, whatever the status is.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

/// The answer to a request, if the whole of it comes within `patience`. For short answers: the
/// rest of one beyond 64 KiB is not read.
pub(super) fn ask(ask: &Ask<'_>, patience: Duration) -> Result<Reply, ClientError> {
    let deadline = Instant::now() + patience;
    let answer = exchange(ask, patience, |stream| {
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while answer.len() < MAX_SHORT {
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let count = stream.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            answer.extend(chunk.iter().take(count));
            if left.is_zero() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
        }
        Ok(answer)
    })?;
    read_answer(ask.address, &answer)
}

fn exchange(
    ask: &Ask<'_>,
    patience: Duration,
    read: impl Fn(&mut TcpStream) -> std::io::Result<Vec<u8>>,
) -> Result<Vec<u8>, ClientError> {
    let address = ask.address;
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
        match TcpStream::connect_timeout(&candidate, patience) {
            Ok(mut stream) => {
                send(&mut stream, ask, patience).map_err(unreachable)?;
                return read(&mut stream).map_err(unreachable);
            }
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn send(stream: &mut TcpStream, ask: &Ask<'_>, patience: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let Ask {
        method,
        address,
        path,
    } = ask;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes())
}

fn read_answer(address: &str, answer: &[u8]) -> Result<Reply, ClientError> {
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
    Ok(Reply {
        status,
        body: String::from_utf8_lossy(body).into_owned(),
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
