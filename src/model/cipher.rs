//! Cipher suites of TLS 1.2 by the two names that people write.
//!
//! Owns: which suites there are, and what OpenSSL and IANA call each.
//! Never: chooses one. Those of TLS 1.3 cannot be chosen from (ISTIO.md G7).
//! Called by: config (warns of the others), tls (picks by name).

/// OpenSSL's name and IANA's, the best first: every suite of TLS 1.2 that the TLS library has
/// (ISTIO.md X10). All have forward secrecy and authenticated encryption.
pub const TLS12_CIPHER_SUITES: [(&str, &str); 6] = [
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// IANA's name of a suite that either calls so, in whatever case; `None` for one that there is
/// not.
pub fn known_cipher_suite(name: &str) -> Option<&'static str> {
    TLS12_CIPHER_SUITES
        .iter()
        .find(|(openssl, iana)| {
            openssl.eq_ignore_ascii_case(name) || iana.eq_ignore_ascii_case(name)
        })
        .map(|(_, iana)| *iana)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x10_a_suite_is_known_by_either_name() {
        let iana = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        for name in [
            "ECDHE-RSA-AES128-GCM-SHA256",
            iana,
            "ecdhe-rsa-aes128-gcm-sha256",
        ] {
            assert_eq!(known_cipher_suite(name), Some(iana));
        }
    }

    #[test]
    fn x10_a_suite_that_the_library_lacks_is_not_known() {
        for name in [
            "AES128-SHA",
            "ECDHE-RSA-AES128-SHA",
            "TLS_AES_128_GCM_SHA256",
            "",
        ] {
            assert_eq!(known_cipher_suite(name), None, "{name}");
        }
    }
}
