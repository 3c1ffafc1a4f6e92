//! What the demo prints: each leg of a request, aligned, in colour only on a terminal.
//!
//! Owns: the layout.
//! Never: does anything but print.
//! Called by: `cli::demo`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::pki::{CA, SERVICE};
use super::service::{Saw, SawClient};

/// Width of the left column.
const LEFT: usize = 24;

/// Prints to standard output.
pub(super) struct Story {
    colour: bool,
}

/// What the story of one request is made of.
pub(super) struct Told<'a> {
    pub(super) proxy: SocketAddr,
    pub(super) service: SocketAddr,
    pub(super) folder: &'a Path,
    pub(super) saw: &'a Saw,
    pub(super) status: u16,
    pub(super) took: Duration,
}

impl Story {
    /// Colour on a terminal, unless `NO_COLOR` says something (no-color.org).
    pub(super) fn new() -> Story {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Story {
            colour: std::io::stdout().is_terminal() && !unwanted,
        }
    }

    /// Every leg of one request.
    pub(super) fn request(&self, told: &Told<'_>) {
        self.print(&self.legs(told));
    }

    fn legs(&self, told: &Told<'_>) -> String {
        let Told {
            proxy,
            service,
            folder,
            saw,
            ..
        } = told;
        let tls = &saw.tls;
        let folder = folder.display();
        let mut text = String::new();
        let title = "sortie demo: plain HTTP in, mutual TLS out";
        let _ = writeln!(text, "{}\n", self.bold(title));
        self.leg(
            &mut text,
            "1  application > sortie",
            "plain HTTP/1.1, no TLS",
        );
        self.row(&mut text, "listener", &proxy.to_string());
        self.row(&mut text, "request", &format!("GET http://{SERVICE}/hello"));
        let agreed = format!("{}, {}", tls.version, tls.cipher);
        self.leg(&mut text, "2  sortie > service", &agreed);
        self.row(&mut text, "endpoint", &service.to_string());
        self.row(&mut text, "key exchange", &key_exchange(&tls.group));
        self.row(
            &mut text,
            "server name (SNI)",
            tls.sni.as_deref().unwrap_or("none"),
        );
        self.row(
            &mut text,
            "protocol (ALPN)",
            tls.alpn.as_deref().unwrap_or("none"),
        );
        self.row(
            &mut text,
            "the service showed",
            &format!("CN={SERVICE}, issued by CN={CA}"),
        );
        let checked = format!("verified: chain to {folder}/ca.pem, name {SERVICE}");
        self.row(&mut text, "", &self.green(&checked));
        self.row(&mut text, "sortie showed", &client(saw.client.as_ref()));
        let file = format!("from {folder}/client.pem");
        self.row(&mut text, "", &file);
        self.row(
            &mut text,
            "",
            &self.green("verified by the service, which lets nobody else in"),
        );
        let answer = format!("{} in {}", told.status, millis(told.took));
        self.leg(&mut text, "3  service > application", &answer);
        self.row(
            &mut text,
            "it says",
            &format!("\"{}\" to {}", saw.message, saw.request),
        );
        text
    }

    /// What can be tried now.
    pub(super) fn invite(&self, proxy: SocketAddr, admin: Option<SocketAddr>) {
        let mut text = String::new();
        let _ = writeln!(text, "\n{}", self.bold("Still running. Try:"));
        self.row(
            &mut text,
            "a request",
            &format!("curl -x http://{proxy} http://{SERVICE}/hello"),
        );
        if let Some(admin) = admin {
            self.row(
                &mut text,
                "the certificates",
                &format!("curl http://{admin}/certs"),
            );
        }
        let rotate = format!("press Enter, or: kill -HUP {}", std::process::id());
        self.row(&mut text, "rotate live", &rotate);
        self.row(
            &mut text,
            "",
            "the client certificate is then issued anew, in place",
        );
        self.row(
            &mut text,
            "the end",
            "Ctrl-C; the certificates and their folder go with it",
        );
        self.print(&text);
    }

    /// A rotation that is live.
    pub(super) fn rotated(&self, old: &str, new: &str, took: Duration) {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n{}",
            self.bold("The client certificate was issued anew.")
        );
        self.row(&mut text, "serial before", old);
        let live = format!("{new}, live after {}, no restart", millis(took));
        self.row(&mut text, "serial now", &self.green(&live));
        self.print(&text);
    }

    /// Something went wrong after the start.
    pub(super) fn trouble(&self, what: &str) {
        self.print(&format!("\n{what}\n"));
    }

    fn leg(&self, text: &mut String, left: &str, right: &str) {
        let left = format!("{left:<width$}", width = LEFT + 3);
        let _ = writeln!(text, "{}{right}", self.bold(&left));
    }

    fn row(&self, text: &mut String, left: &str, right: &str) {
        let _ = writeln!(text, "   {left:<LEFT$}{right}");
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A reader who has gone away is no reason to fail.
    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn client(client: Option<&SawClient>) -> String {
    client.map_or_else(
        || "nothing".to_owned(),
        |client| format!("{}, serial {}", client.subject, client.serial),
    )
}

fn key_exchange(group: &str) -> String {
    match group {
        "X25519MLKEM768" => format!("{group} (post-quantum hybrid)"),
        "" => "none: an earlier session was resumed".to_owned(),
        group => group.to_owned(),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::service::SawTls;
    use super::*;

    fn told(colour: bool) -> String {
        let saw = Saw {
            message: "hello".to_owned(),
            request: "GET /hello HTTP/2.0".to_owned(),
            host: SERVICE.to_owned(),
            tls: SawTls {
                group: "X25519MLKEM768".to_owned(),
                ..SawTls::default()
            },
            client: None,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        Story { colour }.legs(&Told {
            proxy: address,
            service: address,
            folder: Path::new("/tmp/demo"),
            saw: &saw,
            status: 200,
            took: Duration::from_micros(1234),
        })
    }

    #[test]
    fn the_columns_are_aligned() {
        let text = told(false);
        let indent = LEFT + 3;
        for line in text.lines().skip(2) {
            let (left, right) = line.split_at(indent);
            assert!(left.ends_with(' ') && !right.starts_with(' '), "{line:?}");
        }
        assert!(text.contains("200 in 1.2 ms"));
    }

    #[test]
    fn colour_comes_only_where_it_is_wanted() {
        assert!(!told(false).contains('\x1b'));
        assert!(told(true).contains("\x1b[32m"));
    }
}
