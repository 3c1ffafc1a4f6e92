//! Secret and ConfigMap: keys and bytes (ISTIO.md S).
//!
//! Owns: reading them, and a strict base64 (RFC 4648 section 4).
//! Never: shows a byte of a Secret in a message.
//! Called by: read, http_traffic (a body in bytes).

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::cursor::At;
use crate::config::istio::meta::Meta;
use crate::config::istio::secret::{ConfigMap, Secret};
use crate::model::{SecretBytes, SecretData};

use super::context::Reading;
use super::value;

/// A Secret; `stringData` wins over `data`.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Secret {
    let mut keys = encoded(root, "data", r);
    keys.extend(plain(root, "stringData"));
    let data = match r.refused() {
        None => SecretData(keys),
        // Not a part of it: S3 and S4 would then choose another key, or another Secret.
        Some(_) => SecretData::default(),
    };
    Secret {
        meta,
        data: Arc::new(data),
    }
}

/// A ConfigMap.
pub fn config_map(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> ConfigMap {
    let mut keys = encoded(root, "binaryData", r);
    keys.extend(plain(root, "data"));
    ConfigMap {
        meta,
        data: Arc::new(SecretData(keys)),
    }
}

fn plain(root: &At<'_>, key: &str) -> BTreeMap<String, SecretBytes> {
    let texts = value::labels(root, key).unwrap_or_default();
    let bytes =
        |(key, text): (String, String)| (key, SecretBytes(Zeroizing::new(text.into_bytes())));
    texts.into_iter().map(bytes).collect()
}

fn encoded(root: &At<'_>, key: &str, r: &mut Reading<'_>) -> BTreeMap<String, SecretBytes> {
    let Some(map) = root.key(key) else {
        return BTreeMap::new();
    };
    let mut keys = BTreeMap::new();
    for entry in map.entries() {
        let at = map.value(entry);
        let Some(text) = at.as_text() else { continue };
        match base64(text) {
            Some(bytes) => {
                keys.insert(entry.key.to_string(), SecretBytes(Zeroizing::new(bytes)));
            }
            None => {
                let plain = text.trim_start().starts_with("-----BEGIN");
                let problem = "the value is not base64".to_owned();
                let advice = match plain {
                    true => "it is PEM as it stands: write it under stringData, or encode it",
                    false => "encode it with base64, or write it under stringData",
                };
                r.wrong(&at, problem, advice);
            }
        }
    }
    keys
}

/// Decodes base64 with padding; line breaks and blanks between are skipped, as YAML blocks have them.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held, mut padding) = (0_u32, 0_u32, 0_usize);
    let mut count = 0_usize;
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                count += 1;
                continue;
            }
            b'\n' | b'\r' | b' ' => continue,
            _ => return None,
        };
        // Nothing comes behind padding.
        if padding > 0 {
            return None;
        }
        count += 1;
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    // The bits that are left over must be 0, and the padding must be that of their number.
    let whole = count.is_multiple_of(4) && padding <= 2;
    let fits = matches!((held, padding), (0, 0) | (2, 1) | (4, 2));
    (whole && fits && bits == 0).then_some(out)
}
