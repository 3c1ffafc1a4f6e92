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
