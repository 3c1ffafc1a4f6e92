//! Why a request goes where it goes: every step of the decision, with the document that made it.
//!
//! Owns: the question, the answer, and the words for both.
//! Never: decides anything: it asks the tables that the proxy asks.
//! Called by: admin (`/explain`), cli (`sortie explain`).

mod answer;
mod destination;
mod entrance;
#[cfg(test)]
mod entrance_tests;
mod passed_over;
mod question;
mod request;
mod security;
mod shares;
mod stream;
#[cfg(test)]
mod tests;
mod unknown;
mod words;

pub use answer::{Branch, Explanation, Outcome, Step};
pub use question::{Asked, Question, decoded};
pub use request::{Known, explain};
pub use words::{condition, redirect, rewrite};
