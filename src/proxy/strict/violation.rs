//! What a client may send wrong, in words.
//!
//! Owns: [`Violation`].
//! Never: decides what is wrong (that is the machine beside it).
//! Called by: `proxy::http1` (answers with it), telemetry (counts it by label).

/// The first thing that is wrong with what a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// LF without CR before it (RFC 9112 section 2.2).
    #[error("a line ends with LF alone; CR LF was expected")]
    BareLf,
    /// CR without LF behind it (RFC 9112 section 2.2).
    #[error("a CR is not followed by LF")]
    BareCr,
    /// NUL or another control character.
    #[error("the head has a control character")]
    ControlByte,
    /// More empty lines before a request than a careless client sends.
    #[error("too many empty lines before the request")]
    EmptyLines,
    /// Not exactly method, space, target, space, version (RFC 9112 section 3).
    #[error("the request line is not a method, a target and a version with one space between")]
    RequestLine,
    /// The method is not a token (RFC 9110 section 9.1).
    #[error("the method is not a token")]
    Method,
    /// The target has a character that no URI has, or a form that its method does not allow.
    #[error("the request target is not one that its method may have")]
    Target,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// A field name that is empty or not a token, or a line without a colon.
    #[error("a header line does not begin with a field name and a colon")]
    FieldName,
    /// White space between name and colon (RFC 9112 section 5.1).
    #[error("there is white space between a field name and its colon")]
    SpaceBeforeColon,
    /// A line that begins with white space (RFC 9112 section 5.2).
    #[error("a header line begins with white space: obsolete line folding is not accepted")]
    Folding,
    /// The head has more bytes than allowed.
    #[error("the head of the request is too large")]
    HeadTooLarge,
    /// The head has more header lines than allowed.
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    #[error("the request has no Host")]
    HostMissing,
    /// More than one Host.
    #[error("the request has more than one Host")]
    HostRepeated,
    /// Host is not a host, or a host and a port.
    #[error("the Host is not a host, or a host and a port")]
    HostInvalid,
    /// Not one decimal number that a length can be.
    #[error("the Content-Length is not one decimal number")]
    LengthInvalid,
    /// More than one Content-Length, equal or not.
    #[error("the request has more than one Content-Length")]
    LengthRepeated,
    /// Content-Length together with Transfer-Encoding (RFC 9112 section 6.1).
    #[error("the request has both a Content-Length and a Transfer-Encoding")]
    LengthAndEncoding,
    /// Anything but one `chunked`.
    #[error("the Transfer-Encoding is not exactly one \"chunked\"")]
    Encoding,
    /// Transfer-Encoding in HTTP/1.0, which has none (RFC 9112 section 6.1).
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    EncodingInHttp10,
    /// A body on CONNECT (RFC 9110 section 9.3.6).
    #[error("a CONNECT request has no body")]
    BodyOfConnect,
    /// Not a hexadecimal number of at most 16 digits.
    #[error("the size of a chunk is not a hexadecimal number of at most 16 digits")]
    ChunkSize,
    /// Extensions of the chunks of one body are longer than allowed.
    #[error("the chunk extensions are too long")]
    ChunkExtensions,
    /// Something other than CR LF where a chunk's data must have ended.
    #[error("the data of a chunk is not followed by CR LF")]
    ChunkEnd,
    /// The trailers have more bytes than allowed.
    #[error("the trailers of the request are too large")]
    TrailersTooLarge,
    /// A field that frames, routes or authenticates, in the trailers (RFC 9110 section 6.5.1).
    #[error("the trailers have a field that must not be there")]
    TrailerField,
}

impl Violation {
    /// 431 where something is too large, else 400.
    pub fn status(self) -> u16 {
        match self {
            Violation::HeadTooLarge | Violation::TooManyHeaders | Violation::TrailersTooLarge => {
                431
            }
            Violation::BareLf
            | Violation::BareCr
            | Violation::ControlByte
            | Violation::EmptyLines
            | Violation::RequestLine
            | Violation::Method
            | Violation::Target
            | Violation::Version
            | Violation::FieldName
            | Violation::SpaceBeforeColon
            | Violation::Folding
            | Violation::HostMissing
            | Violation::HostRepeated
            | Violation::HostInvalid
            | Violation::LengthInvalid
            | Violation::LengthRepeated
            | Violation::LengthAndEncoding
            | Violation::Encoding
            | Violation::EncodingInHttp10
            | Violation::BodyOfConnect
            | Violation::ChunkSize
            | Violation::ChunkExtensions
            | Violation::ChunkEnd
            | Violation::TrailerField => 400,
        }
    }

    /// A short name for metrics; a public contract.
    pub fn label(self) -> &'static str {
        match self {
            Violation::BareLf => "bare_lf",
            Violation::BareCr => "bare_cr",
            Violation::ControlByte => "control_byte",
            Violation::EmptyLines => "empty_lines",
            Violation::RequestLine => "request_line",
            Violation::Method => "method",
            Violation::Target => "target",
            Violation::Version => "version",
            Violation::FieldName => "field_name",
            Violation::SpaceBeforeColon => "space_before_colon",
            Violation::Folding => "folding",
            Violation::HeadTooLarge => "head_too_large",
            Violation::TooManyHeaders => "too_many_headers",
            Violation::HostMissing => "host_missing",
            Violation::HostRepeated => "host_repeated",
            Violation::HostInvalid => "host_invalid",
            Violation::LengthInvalid => "length_invalid",
            Violation::LengthRepeated => "length_repeated",
            Violation::LengthAndEncoding => "length_and_encoding",
            Violation::Encoding => "encoding",
            Violation::EncodingInHttp10 => "encoding_in_http10",
            Violation::BodyOfConnect => "body_of_connect",
            Violation::ChunkSize => "chunk_size",
            Violation::ChunkExtensions => "chunk_extensions",
            Violation::ChunkEnd => "chunk_end",
            Violation::TrailersTooLarge => "trailers_too_large",
            Violation::TrailerField => "trailer_field",
        }
    }
}
