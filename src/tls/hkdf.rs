//! The key derivation of TLS 1.3, from the crypto library's HMAC.
//!
//! Owns: [`with_own_hkdf`], which puts it into the cipher suites. RFC 5869, as RFC 8446 section 7.1
//! uses it.
//! Never: chooses a suite or a hash.
//! Called by: `tls::client_config` (the provider).
//!
//! Why not rustls' own: there a secret that was extracted is not kept. Each value that is derived
//! of it extracts it again, and prepares the key again, which is two thirds of the work. The hashing
//! is the same library's.

use std::sync::OnceLock;

use aws_lc_rs::hmac::{Algorithm, Context, HMAC_SHA256, HMAC_SHA384, Key, sign};
use rustls::crypto::hash::HashAlgorithm;
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

/// The same provider, whose suites of TLS 1.3 derive their keys by this. It is made once and stays:
/// rustls wants suites that live for ever.
pub(super) fn with_own_hkdf(mut provider: CryptoProvider) -> CryptoProvider {
    for suite in &mut provider.cipher_suites {
        if let SupportedCipherSuite::Tls13(theirs) = suite
            && let Some(hkdf) = of(theirs.common.hash_provider.algorithm())
        {
            *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: CipherSuiteCommon {
                    suite: theirs.common.suite,
                    hash_provider: theirs.common.hash_provider,
                    confidentiality_limit: theirs.common.confidentiality_limit,
                },
                hkdf_provider: hkdf,
                aead_alg: theirs.aead_alg,
                quic: theirs.quic,
            })));
        }
    }
    provider
}

fn of(hash: HashAlgorithm) -> Option<&'static OwnHkdf> {
    static SHA256: OwnHkdf = OwnHkdf::new(HMAC_SHA256);
    static SHA384: OwnHkdf = OwnHkdf::new(HMAC_SHA384);
    match hash {
        HashAlgorithm::SHA256 => Some(&SHA256),
        HashAlgorithm::SHA384 => Some(&SHA384),
        _ => None,
    }
}

const ZEROES: [u8; OkmBlock::MAX_LEN] = [0; OkmBlock::MAX_LEN];

struct OwnHkdf {
    algorithm: Algorithm,
    /// What every handshake without an earlier session begins with: nothing, extracted from nothing.
    nothing: OnceLock<Key>,
}

impl OwnHkdf {
    const fn new(algorithm: Algorithm) -> OwnHkdf {
        OwnHkdf {
            algorithm,
            nothing: OnceLock::new(),
        }
    }

    /// As many zeroes as the hash is long.
    fn zeroes(&self) -> &'static [u8] {
        let length = self.algorithm.digest_algorithm().output_len();
        ZEROES.get(..length).unwrap_or(&ZEROES)
    }

    /// RFC 5869 section 2.2.
    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> Key {
        let salt = Key::new(self.algorithm, salt.unwrap_or(self.zeroes()));
        Key::new(self.algorithm, sign(&salt, secret).as_ref())
    }
}

impl Hkdf for OwnHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        Box::new(Expander(match salt {
            Some(_) => self.extract(salt, self.zeroes()),
            None => {
                let nothing = self
                    .nothing
                    .get_or_init(|| self.extract(None, self.zeroes()));
                nothing.clone()
            }
        }))
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        Box::new(Expander(self.extract(salt, secret)))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Expander(Key::new(self.algorithm, okm.as_ref())))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        Tag::new(sign(&Key::new(self.algorithm, key.as_ref()), message).as_ref())
    }
}

/// A secret that was extracted, ready for use.
struct Expander(Key);

impl Expander {
    /// RFC 5869 section 2.3: what follows `before`, the part of this number.
    fn part(&self, before: &[u8], info: &[&[u8]], number: u8) -> Tag {
        let mut context = Context::with_key(&self.0);
        context.update(before);
        for part in info {
            context.update(part);
        }
        context.update(&[number]);
        Tag::new(context.sign().as_ref())
    }
}

impl HkdfExpander for Expander {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        let mut before: Option<Tag> = None;
        for (number, output) in (1_usize..).zip(output.chunks_mut(self.hash_len())) {
            let number = u8::try_from(number).map_err(|_| OutputLengthError)?;
            let empty: &[u8] = &[];
            let part = self.part(before.as_ref().map_or(empty, Tag::as_ref), info, number);
            for (to, from) in output.iter_mut().zip(part.as_ref()) {
                *to = *from;
            }
            before = Some(part);
        }
        Ok(())
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        OkmBlock::new(self.part(&[], info, 1).as_ref())
    }

    fn hash_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.map(|pair| byte(pair).unwrap()).collect()
    }

    fn suites(provider: &CryptoProvider) -> Vec<&'static Tls13CipherSuite> {
        let suites = provider.cipher_suites.iter();
        suites.filter_map(SupportedCipherSuite::tls13).collect()
    }

    #[test]
    fn it_derives_what_rfc_5869_says() {
        let hkdf = of(HashAlgorithm::SHA256).unwrap();
        let count = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        // Appendices A.1 to A.3.
        for (secret, salt, info, okm) in [
            (
                vec![0x0b; 22],
                Some(count(0x00, 0x0c)),
                count(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b88718\
                 5865",
            ),
            (
                count(0x00, 0x4f),
                Some(count(0x60, 0xaf)),
                count(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac78272\
                 71cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f\
                 1d87",
            ),
            (
                vec![0x0b; 22],
                None,
                Vec::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a\
                 96c8",
            ),
        ] {
            let okm = bytes(okm);
            let mut output = vec![0; okm.len()];
            let expander = hkdf.extract_from_secret(salt.as_deref(), &secret);
            expander.expand_slice(&[&info], &mut output).unwrap();
            assert_eq!(output, okm);
            let (one, two) = info.split_at(info.len() / 2);
            expander.expand_slice(&[one, two], &mut output).unwrap();
            assert_eq!(output, okm);
        }
    }

    #[test]
    fn it_derives_what_the_library_derives() {
        let info: &[&[u8]] = &[b"tls13 ", b"derived", &[7; 48]];
        let suites = (
            suites(&default_provider()),
            suites(&with_own_hkdf(default_provider())),
        );
        assert_eq!(suites.0.len(), suites.1.len());
        for (theirs, ours) in suites.0.iter().zip(suites.1) {
            assert_eq!(theirs.common.suite, ours.common.suite);
            let (theirs, ours) = (theirs.hkdf_provider, ours.hkdf_provider);
            let same = |theirs: Box<dyn HkdfExpander>, ours: Box<dyn HkdfExpander>| {
                let length = theirs.hash_len();
                assert_eq!(length, ours.hash_len());
                let block = theirs.expand_block(info);
                assert_eq!(block.as_ref(), ours.expand_block(info).as_ref());
                for length in [0, 1, 12, length - 1, length, length + 1, 255 * length] {
                    let mut outputs = (vec![0; length], vec![0; length]);
                    theirs.expand_slice(info, &mut outputs.0).unwrap();
                    ours.expand_slice(info, &mut outputs.1).unwrap();
                    assert_eq!(outputs.0, outputs.1);
                }
                let mut long = vec![0; 255 * length + 1];
                assert!(ours.expand_slice(info, &mut long).is_err());
                block
            };
            for salt in [None, Some(&b""[..]), Some(&[5; 48]), Some(&[6; 200])] {
                for _ in 0..2 {
                    let both = (
                        theirs.extract_from_zero_ikm(salt),
                        ours.extract_from_zero_ikm(salt),
                    );
                    same(both.0, both.1);
                }
                for secret in [&b""[..], &[1; 32], &[2; 1184]] {
                    let theirs = theirs.extract_from_secret(salt, secret);
                    same(theirs, ours.extract_from_secret(salt, secret));
                }
            }
            let secret = OkmBlock::new(&[9; 32]);
            same(
                theirs.expander_for_okm(&secret),
                ours.expander_for_okm(&secret),
            );
            for message in [&b""[..], &[3; 48]] {
                let tag = theirs.hmac_sign(&secret, message);
                assert_eq!(tag.as_ref(), ours.hmac_sign(&secret, message).as_ref());
            }
        }
    }
}
