//! Header changes, ready to apply (ISTIO.md V12).
//!
//! Owns: compiled changes, and the split of `host` from them, which is a rewrite (V11).
//! Never: touches a header map (that is `proxy::headers`).
//! Called by: `rule` and `split` (compile), proxy (applies).
//!
//! Why the formats of one set stand together: what they need of a request is kept once for all.

use http::header::HOST;
use http::{HeaderName, HeaderValue};

use super::rule::RuleProblem;
use crate::model::{HeaderOps, HeaderText};
use crate::telemetry::FormatSet;

/// Changes of headers: `remove` first, then `set`, then `add`.
#[derive(Debug, Default)]
pub struct HeaderChanges {
    /// Names to drop.
    pub remove: Box<[HeaderName]>,
    /// Replaces every value of that name.
    pub set: Box<[(HeaderName, NewValue)]>,
    /// Added behind what is there.
    pub add: Box<[(HeaderName, NewValue)]>,
    formats: Option<Box<FormatSet>>,
}

/// A value that a rule writes.
#[derive(Debug)]
pub enum NewValue {
    /// As it stands.
    Literal(HeaderValue),
    /// The value of the format of this number, see [`HeaderChanges::formats`].
    Format(usize),
}

impl HeaderChanges {
    /// Compiles `ops`; `host` must have been taken out before, as it is a rewrite.
    ///
    /// # Errors
    /// A format string that cannot be used.
    pub fn compile(ops: &HeaderOps) -> Result<HeaderChanges, RuleProblem> {
        let mut formats = FormatSet::default();
        let mut values = |list: &[(HeaderName, HeaderText)]| {
            list.iter()
                .map(|(name, text)| {
                    let value = match text {
                        HeaderText::Literal(value) => NewValue::Literal(value.clone()),
                        HeaderText::Format(text) => NewValue::Format(formats.add(text)?),
                    };
                    Ok((name.clone(), value))
                })
                .collect::<Result<Box<[_]>, RuleProblem>>()
        };
        let (set, add) = (values(&ops.set)?, values(&ops.add)?);
        Ok(HeaderChanges {
            remove: ops.remove.clone().into(),
            set,
            add,
            formats: (!formats.is_empty()).then(|| Box::new(formats)),
        })
    }

    /// The formats that its values name; `None` where every value is a literal.
    pub fn formats(&self) -> Option<&FormatSet> {
        self.formats.as_deref()
    }

    /// True where nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Takes `host` out of `ops`: setting or adding it is a rewrite of the authority, which is returned
/// (ISTIO.md V11), and removing it would leave no request (V12). `host` is one that was there before.
pub(super) fn take_host(
    ops: &HeaderOps,
    mut host: Option<String>,
) -> Result<(HeaderOps, Option<String>), RuleProblem> {
    for (_, value) in ops
        .set
        .iter()
        .chain(&ops.add)
        .filter(|(name, _)| name == HOST)
    {
        let HeaderText::Literal(value) = value else {
            return Err(RuleProblem::HostValue);
        };
        let value = value.to_str().map_err(|_| RuleProblem::HostValue)?;
        if host.replace(value.to_owned()).is_some() {
            return Err(RuleProblem::AuthorityTwice);
        }
    }
    let mut ops = ops.clone();
    ops.remove.retain(|name| name != HOST);
    ops.set.retain(|(name, _)| name != HOST);
    ops.add.retain(|(name, _)| name != HOST);
    Ok((ops, host))
}

#[cfg(test)]
mod tests {
    use http::header::WARNING;

    use super::*;

    fn format(text: &str) -> HeaderText {
        HeaderText::Format(text.into())
    }

    #[test]
    fn v12_formats_are_compiled_when_the_table_is_built() {
        let ops = HeaderOps {
            set: vec![(WARNING, format("%REQ(X-A)%"))],
            add: vec![(WARNING, format("%PROTOCOL%"))],
            ..HeaderOps::default()
        };
        let changes = HeaderChanges::compile(&ops).unwrap();
        assert_eq!(changes.formats().unwrap().len(), 2);
        assert!(matches!(changes.set[0].1, NewValue::Format(0)));
        assert!(matches!(changes.add[0].1, NewValue::Format(1)));
    }

    #[test]
    fn v12_a_format_that_is_not_known_is_refused_when_the_table_is_built() {
        let ops = HeaderOps {
            set: vec![(WARNING, format("%NO_SUCH%"))],
            ..HeaderOps::default()
        };
        let problem = HeaderChanges::compile(&ops).unwrap_err();
        assert!(problem.to_string().contains("%NO_SUCH%"), "{problem}");
    }

    #[test]
    fn literals_alone_need_no_formats() {
        let ops = HeaderOps {
            set: vec![(WARNING, HeaderValue::from_static("50%").into())],
            ..HeaderOps::default()
        };
        assert!(HeaderChanges::compile(&ops).unwrap().formats().is_none());
    }

    #[test]
    fn v11_a_host_that_is_a_format_is_refused() {
        let ops = HeaderOps {
            set: vec![(HOST, format("%REQ(X-A)%"))],
            ..HeaderOps::default()
        };
        let problem = take_host(&ops, None).unwrap_err();
        assert!(matches!(problem, RuleProblem::HostValue));
    }
}
