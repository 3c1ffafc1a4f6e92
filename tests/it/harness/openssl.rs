//! `openssl s_client`: a client that shares no code with sortie, and says which alert it got.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use super::needs::needs;

/// What `openssl s_client` had to say.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    /// Standard output and error.
    pub text: String,
}

impl Told {
    /// The number of the TLS alert that ended it (RFC 8446 section 6), if one did.
    pub fn alert(&self) -> Option<u8> {
        let (_, behind) = self.text.split_once("SSL alert number ")?;
        let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    /// The protocol that the server chose by ALPN.
    pub fn alpn(&self) -> Option<&str> {
        let (_, behind) = self.text.split_once("ALPN protocol: ")?;
        behind.lines().next()
    }

    /// The subject of the certificate that the server showed.
    pub fn subject(&self) -> Option<&str> {
        let line = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix("subject="))?;
        Some(line.trim())
    }

    /// Fails unless the text has this.
    #[track_caller]
    pub fn says(&self, word: &str) -> &Told {
        assert!(self.text.contains(word), "\"{word}\" in {self:?}");
        self
    }
}

/// A request that asks for the connection's end.
pub fn closing(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Connects, sends `input` inside, and reads until the server ends it. `None` where openssl is
/// missing and may be.
pub fn s_client(to: SocketAddr, arguments: &[&str], input: &str) -> Option<Told> {
    needs("openssl")?;
    Some(talk(
        Command::new("timeout"),
        &to.to_string(),
        arguments,
        input,
    ))
}

/// The same by that `timeout`. Nothing here takes long: what is not closed within the time is a
/// hang, and shows as code 124.
pub(super) fn talk(mut timeout: Command, to: &str, arguments: &[&str], input: &str) -> Told {
    timeout
        .args(["20", "openssl", "s_client", "-ign_eof", "-connect", to])
        .args(arguments);
    told(&fed(timeout, input))
}

fn told(output: &Output) -> Told {
    Told {
        code: output.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr),
    }
}

fn fed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already: then its words say why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
