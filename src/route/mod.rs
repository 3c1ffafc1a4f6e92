//! Where does it go?
//!
//! Owns: the compiled routing tables: which rule a request meets, and what that rule changes; and
//! where connections go that carry no HTTP.
//! Never: changes after it was built, the counters of retries under way aside.
//! Called by: proxy (find, then the changes of the route), publish (build), admin (shows it).

mod changes;
mod groups;
mod hosts;
mod matcher;
mod redirect;
mod retry;
mod rewrite;
mod rule;
mod split;
mod stream;
mod stream_match;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use changes::{HeaderChanges, NewValue};
pub use groups::Hit;
pub use matcher::{Matched, Specificity};
pub use redirect::{CompiledRedirect, Scheme, location};
pub use retry::{RetryBudget, RetryPermit};
pub use rewrite::{Applied, CompiledRewrite, NewAuthority, RewriteError, RewriteSpecError, apply};
pub use rule::{Extras, Route, RouteAction, Rule, RuleProblem};
pub use split::{Choice, OwnChanges, Split, happens};
pub use stream::{Met, StreamTable, StreamTarget};
pub use stream_match::Names;
pub use table::{Entry, Found, HostsOn, RouteError, RouteProblem, RouteTable};
pub use text::RegexError;
