//! Alerts of TLS: their names, what they mean, and how to find one in an error.
//!
//! Owns: the names of RFC 8446 section 6, and which alerts are about our certificate.
//! Never: knows of a connection.
//! Called by: `tls::explain`, `tls::explain_accept`, `tls::stream`.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

/// The alert that `error` or one of its sources is.
pub(super) fn alert_in(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let mut next = Some(error);
    // A chain of sources is short; the bound is for one that bites its tail.
    for _ in 0..16 {
        let error = next?;
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref() {
            return Some(*alert);
        }
        // `io::Error::source` skips the error that it wraps.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The name that the RFCs use; a number where there is none.
pub(super) fn name(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let name = match alert {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::RecordOverflow => "record_overflow",
        A::HandshakeFailure => "handshake_failure",
        A::NoCertificate => "no_certificate",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::NoRenegotiation => "no_renegotiation",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::UnrecognisedName => "unrecognized_name",
        A::BadCertificateStatusResponse => "bad_certificate_status_response",
        A::UnknownPSKIdentity => "unknown_psk_identity",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        other => return format!("number {}", u8::from(other)),
    };
    name.to_owned()
}

/// What the alert says of a client certificate; `None` where it speaks of something else.
pub(super) fn about_certificate(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as A;
    Some(match alert {
        A::UnknownCA => "it does not trust the CA that signed it",
        A::CertificateRequired | A::NoCertificate => "it demands a client certificate",
        A::CertificateExpired => "it holds it for expired or not yet valid",
        A::CertificateRevoked => "it holds it for revoked",
        A::BadCertificate => "it holds it for damaged or its signature for wrong",
        A::UnsupportedCertificate => "its kind or purpose does not suit it (clientAuth?)",
        A::CertificateUnknown => "it gives no closer reason",
        A::AccessDenied => "it knows it, but does not let it in",
        A::DecryptError => "it could not verify the signature made with its key",
        _ => return None,
    })
}

/// What the alert means where it is not about a certificate of ours, and what to do.
pub(super) fn meaning(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::HandshakeFailure => {
            "it has no cipher suite, group or signature in common with TLS 1.2 and 1.3 as sortie \
             speaks them, or it wants a client certificate"
        }
        A::ProtocolVersion => {
            "it speaks no TLS version that this upstream allows (sortie speaks 1.2 and 1.3)"
        }
        A::InsufficientSecurity => "it demands stronger cipher suites",
        A::UnrecognisedName => "it does not know the server name that was sent",
        A::NoApplicationProtocol => "it speaks none of the protocols that ALPN offered",
        A::InternalError => "it failed for a reason of its own; its log knows more",
        A::UserCanceled => "it gave up",
        A::CloseNotify => "it closed the connection",
        _ => "its log may know more",
    }
}

/// What an alert of a client means where it is not about our certificate.
pub(super) fn client_means(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::HandshakeFailure | A::InsufficientSecurity => {
            "what this entrance chose does not suffice it: its log may know more"
        }
        A::ProtocolVersion => "it does not want the TLS version that this entrance chose",
        A::InternalError => "it failed for a reason of its own; its log knows more",
        A::UserCanceled => "it gave up",
        A::CloseNotify => "it closed the connection",
        _ => "its log may know more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_alert_is_found_below_other_errors() {
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let outer = Outer(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(alert_in(&outer), Some(AlertDescription::UnknownCA));
    }

    #[test]
    fn no_alert_is_found_where_there_is_none() {
        let outer = Outer(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(alert_in(&outer), None);
    }
}
