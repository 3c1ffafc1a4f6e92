//! `listeners`: the addresses that applications connect to.
//!
//! Owns: its table and its lowering.
//! Never: binds anything.
//! Called by: native.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::model::{ListenerKind, ListenerSpec, Place};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::shape::{Field, Shape, Table};

/// One listener.
pub static LISTENER: Table = Table::new(
    "listener",
    "An address on which applications connect in plain HTTP.",
    &[
        Field::required(
            "address",
            "IP address and port to listen on; port 0 lets the kernel choose.",
            Shape::Text(Format::SocketAddr),
        ),
        Field::optional(
            "capture",
            "Take connections that the kernel redirected, and send them where they were going.",
            Shape::Bool,
        )
        .default("false"),
    ],
);

/// Listeners of all documents.
#[derive(Default)]
pub struct Listeners {
    /// In the order in which they were written.
    pub list: Vec<ListenerSpec>,
    seen: HashMap<SocketAddr, Place>,
}

impl Listeners {
    /// One more listener.
    pub fn lower(&mut self, at: &At<'_>, out: &mut Diagnostics) {
        let Some(address) = at.text("address").and_then(|text| text.parse().ok()) else {
            return;
        };
        let place = at.place();
        if let Some(first) = self.seen.get(&address) {
            let problem = format!("the address {address} is listened on already, see {first}");
            at.report_key(out, "address", Code::Twice, problem, "keep one of the two");
            return;
        }
        // Port 0 is another port every time.
        if address.port() > 0 {
            self.seen.insert(address, place.clone());
        }
        let kind = match at.word("capture") {
            Some("true" | "True" | "TRUE") => ListenerKind::Capture,
            _ => ListenerKind::Direct,
        };
        self.list.push(ListenerSpec {
            address,
            kind,
            place,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::{load_texts, said};

    #[test]
    fn a_listener_is_direct_unless_it_says_capture() {
        let text = "listeners: [{address: '[::1]:80'}, {address: 0.0.0.0:0, capture: true}, \
                    {address: 0.0.0.0:0}]\n";
        let listeners = load_texts(&[("a.yaml", text)]).unwrap().config.listeners;
        let shown: Vec<_> = listeners
            .iter()
            .map(|l| format!("{} {:?} {}", l.address, l.kind, l.place))
            .collect();
        assert_eq!(
            shown,
            [
                "[::1]:80 Direct a.yaml:1",
                "0.0.0.0:0 Capture a.yaml:1",
                "0.0.0.0:0 Direct a.yaml:1"
            ]
        );
    }

    #[test]
    fn a_listener_does_not_share_its_address_or_guess_it() {
        assert_eq!(
            said(
                "listeners:\n- address: 127.0.0.1:80\n- address: 127.0.0.1:80\n- address: :81\n- {}\n"
            ),
            [
                "a.yaml:3:3: error[SRT0201] listeners[1].address: the address 127.0.0.1:80 is \
                 listened on already, see a.yaml:2; keep one of the two",
                "a.yaml:4:12: error[SRT0106] listeners[2].address: \":81\" is not an IP address and \
                 a port; write 127.0.0.1:81, or 0.0.0.0:81 for every address",
                "a.yaml:5:3: error[SRT0102] listeners[3].address: this key is missing; write an IP \
                 address and a port, such as 127.0.0.1:8080 or [::1]:8080",
            ]
        );
    }
}
