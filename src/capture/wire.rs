//! Our tables as messages of nf_tables (linux/netfilter/nfnetlink.h, nf_tables.h).
//!
//! Owns: the batch that sets or removes them, and how what is there is read back.
//! Never: decides whether to.
//! Called by: `apply`, `check`.
//!
//! Why a batch: the kernel takes all of it or nothing, so that no connection ever meets half of the
//! rules.

use rustix::io::Errno;

use super::attr::{Attributes, Cut, Message, attributes, string, value};
use super::expression::{Expression, expressions};
use super::nftables::{self, hook, name};
use super::rules::{Family, Listed, PREFIX, Ruleset, TABLE};
use super::socket::{ACKNOWLEDGE, APPEND, CREATE, DUMP, REQUEST, Socket, SocketError};

/// nf_tables among the parts of netfilter (NFNL_SUBSYS_NFTABLES).
const SUBSYSTEM: u16 = 10;
/// Around a batch (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END).
const BEGIN: u16 = 16;
const END: u16 = 17;
/// NFT_MSG_*.
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
/// struct nfgenmsg.
const FIXED: usize = 4;
/// The policy of a chain: on its way (NF_ACCEPT).
const ACCEPT: u32 = 1;

/// The kernel's number of a family (NFPROTO_*).
pub fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// One message of a batch.
struct Step {
    kind: u16,
    flags: u16,
    family: Family,
    attributes: Attributes,
    /// In words, for where it is refused.
    about: String,
}

/// Messages that are taken together.
pub struct Batch {
    steps: Vec<Step>,
}

impl Batch {
    /// Our tables of these families gone, and these rules in their place: what was there, if it was,
    /// does not matter.
    pub fn replacing(rulesets: &[Ruleset], families: &[Family]) -> Batch {
        let mut steps = Vec::new();
        for family in families.iter().copied() {
            // Made first, so that there is one to delete.
            steps.push(table(family, NEW_TABLE));
            steps.push(table(family, DELETE_TABLE));
        }
        for ruleset in rulesets.iter().filter(|one| !one.chains.is_empty()) {
            let family = ruleset.family;
            steps.push(table(family, NEW_TABLE));
            // All chains before the first rule: rules jump to chains that stand below.
            steps.extend(ruleset.chains.iter().map(|one| chain(family, one)));
            steps.extend(ruleset.chains.iter().flat_map(|one| rules(family, one)));
        }
        Batch { steps }
    }

    /// The messages, and the number of the one that is acknowledged: the last.
    fn bytes(&self) -> (Vec<u8>, u32) {
        let mut bytes = frame(BEGIN, 0);
        let mut sequence = 0;
        for (nth, step) in self.steps.iter().enumerate() {
            sequence = u32::try_from(nth + 1).unwrap_or(u32::MAX);
            let last = nth + 1 == self.steps.len();
            let flags = step.flags | if last { ACKNOWLEDGE } else { 0 };
            bytes.extend(message(
                step.kind,
                flags,
                sequence,
                number(step.family),
                &step.attributes,
            ));
        }
        bytes.extend(frame(END, sequence.saturating_add(1)));
        (bytes, sequence)
    }

    /// Gives it to the kernel.
    ///
    /// # Errors
    /// What was refused, in words, and why. Nothing has changed then.
    pub fn send(&self, socket: &Socket) -> Result<(), (String, SocketError)> {
        let (bytes, last) = self.bytes();
        socket.acknowledged(&bytes, last).map_err(|error| {
            let about = match error {
                SocketError::Refused { sequence, .. } => self.about(sequence),
                _ => None,
            };
            (about.unwrap_or("the rules").to_owned(), error)
        })
    }

    /// What the message of that number was about; the frame is about all.
    fn about(&self, sequence: u32) -> Option<&str> {
        let at = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.steps.get(at).map(|step| step.about.as_str())
    }
}

/// The first or the last message of a batch.
fn frame(kind: u16, sequence: u32) -> Vec<u8> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, REQUEST, sequence, &[0, 0, high, low]).finish()
}

fn message(kind: u16, flags: u16, sequence: u32, family: u8, inside: &Attributes) -> Vec<u8> {
    let kind = (SUBSYSTEM << 8) | kind;
    Message::new(kind, REQUEST | flags, sequence, &[family, 0, 0, 0])
        .raw(inside.bytes())
        .finish()
}

fn table(family: Family, kind: u16) -> Step {
    Step {
        kind,
        flags: if kind == NEW_TABLE { CREATE } else { 0 },
        family,
        attributes: Attributes::new().text(1, TABLE),
        about: format!("table {} {TABLE}", family.word()),
    }
}

fn chain(family: Family, listed: &Listed) -> Step {
    let name = name(listed.table, listed.chain);
    let mut attributes = Attributes::new().text(1, TABLE).text(3, name);
    if let Some(hook) = hook(listed.table, listed.chain) {
        let place = Attributes::new()
            .number(1, hook.number)
            .with(2, &hook.priority.to_be_bytes());
        attributes = attributes
            .nested(4, place)
            .number(5, ACCEPT)
            .text(7, hook.kind);
    }
    Step {
        kind: NEW_CHAIN,
        flags: CREATE,
        family,
        attributes,
        about: format!("chain {} {TABLE} {name}", family.word()),
    }
}

fn rules(family: Family, listed: &Listed) -> impl Iterator<Item = Step> {
    let name = name(listed.table, listed.chain);
    listed.rules.iter().map(move |rule| {
        let mut list = Attributes::new();
        for one in expressions(rule, family) {
            let (kind, data) = one.written();
            let element = Attributes::new().text(1, kind).nested(2, data);
            list = list.nested(1, element);
        }
        let attributes = Attributes::new().text(1, TABLE).text(2, name);
        Step {
            kind: NEW_RULE,
            flags: CREATE | APPEND,
            family,
            attributes: attributes.nested(4, list),
            about: format!("rule \"{}\"", nftables::rule(rule, family)),
        }
    })
}

/// A chain as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Kind, hook and priority of one that hangs in a hook.
    pub hook: Option<(String, u32, i32)>,
    /// Its rules in order, each as its steps.
    pub rules: Vec<Vec<Expression>>,
}

/// Our table of this family, as the kernel has it. No chain: there is none.
///
/// # Errors
/// The kernel's refusal, or an answer that makes no sense.
pub fn read(socket: &Socket, family: Family) -> Result<Vec<Found>, SocketError> {
    let mut chains: Vec<Found> = Vec::new();
    // All of the family are told, and ours are taken.
    let all = message(GET_CHAIN, DUMP, 1, number(family), &Attributes::new());
    socket.list(&all, |one| {
        let found = attributes(one.body, FIXED)?;
        if string(&found, 1).as_deref() == Some(TABLE) {
            chains.push(chain_of(&found)?);
        }
        Ok(())
    })?;
    if chains.is_empty() {
        return Ok(chains);
    }
    let ours = Attributes::new().text(1, TABLE);
    let rules = message(GET_RULE, DUMP, 2, number(family), &ours);
    socket.list(&rules, |one| {
        let found = attributes(one.body, FIXED)?;
        if string(&found, 1).as_deref() != Some(TABLE) {
            return Ok(());
        }
        let name = string(&found, 2).ok_or(Cut)?;
        let steps = steps_of(value(&found, 4).unwrap_or_default())?;
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
            chain.rules.push(steps);
        }
        Ok(())
    })?;
    Ok(chains)
}

/// True where our table is there, with or without chains. A family that the kernel lacks has none.
///
/// # Errors
/// The kernel's refusal, or an answer that makes no sense.
pub fn has_table(socket: &Socket, family: Family) -> Result<bool, SocketError> {
    let mut there = false;
    let all = message(GET_TABLE, DUMP, 1, number(family), &Attributes::new());
    let listed = socket.list(&all, |one| {
        let found = attributes(one.body, FIXED)?;
        there |= string(&found, 1).as_deref() == Some(TABLE);
        Ok(())
    });
    match listed {
        Err(SocketError::Refused {
            errno: Errno::AFNOSUPPORT | Errno::OPNOTSUPP,
            ..
        }) => Ok(false),
        listed => listed.map(|()| there),
    }
}

/// Chains under the names that istio-iptables gives them, and their tables: those of any capture.
///
/// # Errors
/// The kernel's refusal, or an answer that makes no sense.
pub fn captures(socket: &Socket, family: Family) -> Result<Vec<(String, String)>, SocketError> {
    let mut chains = Vec::new();
    let all = message(GET_CHAIN, DUMP, 1, number(family), &Attributes::new());
    socket.list(&all, |one| {
        let found = attributes(one.body, FIXED)?;
        if let (Some(table), Some(name)) = (string(&found, 1), string(&found, 3))
            && name.starts_with(PREFIX)
        {
            chains.push((table, name));
        }
        Ok(())
    })?;
    Ok(chains)
}

fn chain_of(found: &[(u16, &[u8])]) -> Result<Found, Cut> {
    let hook = match value(found, 4) {
        None => None,
        Some(place) => {
            let place = attributes(place, 0)?;
            let priority = value(&place, 2).and_then(|bytes| bytes.try_into().ok());
            let priority = i32::from_be_bytes(priority.ok_or(Cut)?);
            let at = super::attr::number(&place, 1).ok_or(Cut)?;
            Some((string(found, 7).unwrap_or_default(), at, priority))
        }
    };
    Ok(Found {
        name: string(found, 3).ok_or(Cut)?,
        hook,
        rules: Vec::new(),
    })
}

fn steps_of(list: &[u8]) -> Result<Vec<Expression>, Cut> {
    let mut steps = Vec::new();
    for (_, element) in attributes(list, 0)? {
        let element = attributes(element, 0)?;
        let name = string(&element, 1).ok_or(Cut)?;
        steps.push(Expression::read(
            &name,
            value(&element, 2).unwrap_or_default(),
        ));
    }
    Ok(steps)
}
