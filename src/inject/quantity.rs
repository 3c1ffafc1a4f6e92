//! How much of a resource: `100m`, `1.5Gi` (Kubernetes' resource.Quantity).
//!
//! Owns: what is a quantity, and which of two is more.
//! Never: knows what it is of.
//! Called by: annotations' readers.

/// Powers of ten and of two, by suffix.
const SUFFIXES: &[(&str, f64)] = &[
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// What `text` stands for; `None` where it is no quantity, or not more than nothing.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let plain = number.len() <= 32 && number.contains(|c: char| c.is_ascii_digit());
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let known = SUFFIXES.iter().find(|(known, _)| *known == suffix);
    let factor = match known {
        Some((_, factor)) => *factor,
        None => exponent(suffix)?,
    };
    let value = number * factor;
    (value > 0.0 && value.is_finite()).then_some(value)
}

/// `e3`, `E-2`.
fn exponent(suffix: &str) -> Option<f64> {
    let power = suffix.strip_prefix(['e', 'E'])?;
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    let sound = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let power: i32 = power.parse().ok().filter(|_| sound)?;
    Some(10_f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_a_quantity_is_a_number_with_one_of_kubernetes_suffixes() {
        for (text, value) in [
            ("100m", 0.1),
            ("2", 2.0),
            ("128Mi", 134_217_728.0),
            ("0.5", 0.5),
            ("1e3", 1000.0),
            ("1G", 1e9),
            ("1E", 1e18),
        ] {
            let read = quantity(text).unwrap();
            assert!((read - value).abs() <= value * 1e-12, "{text}: {read}");
        }
    }

    #[test]
    fn i4_a_quantity_is_nothing_else() {
        for text in [
            "", "m", "-1", "0", "1 Gi", "1gb", "1.2.3", "1e", "1e999", "0x10", "1KiB", ".",
        ] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }
}
