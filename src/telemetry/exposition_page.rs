//! How a page of metrics is written: families, rows, and the two text formats.
//!
//! Owns: what prometheus-client needs to be told to write our rows as they should look.
//! Never: knows a metric's name.
//! Called by: exposition.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

type NoExemplar<'a> = Option<&'a Exemplar<NoLabelSet, u64>>;

/// Names and values of a row's labels; empty: the row has none.
pub(super) type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// A page that is being written.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    /// A family of counters; `_total` is put behind the name.
    pub(super) fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            // An empty set would be written as a pair of braces.
            let none = NoExemplar::None;
            match labels.is_empty() {
                true => family.encode_counter(&value, none)?,
                false => family
                    .encode_family(&labels)?
                    .encode_counter(&value, none)?,
            }
        }
        Ok(())
    }

    /// A family of gauges.
    pub(super) fn gauge<'l, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, N)>,
    ) -> fmt::Result {
        self.plain(name, help, MetricType::Gauge, rows)
    }

    /// A family of plain numbers.
    pub(super) fn plain<'l, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'l>, N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

/// OpenMetrics text as the older format that `text/plain; version=0.0.4` means: there a counter's
/// family is named with its suffix, and the type `unknown` is called `untyped`.
pub(super) fn plain_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help: Option<&str> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
            continue;
        }
        let kind = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '));
        if let Some((name, kind)) = kind {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let text = help
                .take()
                .and_then(|help| help.split_once(' '))
                .map_or("", |(_, t)| t);
            out.push_str(&format!(
                "# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}\n"
            ));
        } else if line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
