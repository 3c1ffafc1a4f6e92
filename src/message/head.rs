//! Requests and answers: a head, and whatever stands for the content.
//!
//! Owns: [`Request`] and [`Response`], and their way from and to the types of the `http` crate, which
//! HTTP/2 is spoken in.
//! Never: looks at a field.
//! Called by: proxy, route, upstream, explain.

use http::{Method, StatusCode, Uri, Version};
use hyper::ext::ReasonPhrase;

use super::fields::Fields;

/// What a request says before its content.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target, in origin, absolute, authority or asterisk form.
    pub uri: Uri,
    /// The version that it was sent in.
    pub version: Version,
    /// The fields, `Host` among them.
    pub headers: Fields,
}

/// A request.
#[derive(Debug)]
pub struct Request<B> {
    /// All but the content; boxed, as a request goes through many hands.
    pub head: Box<RequestHead>,
    /// The content.
    pub body: B,
}

/// What an answer says before its content.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The version that it was sent in.
    pub version: Version,
    /// The fields.
    pub headers: Fields,
    /// The words behind the status, where they are not the usual ones (HTTP/1).
    pub reason: Option<ReasonPhrase>,
}

/// An answer.
#[derive(Debug)]
pub struct Response<B> {
    /// All but the content; boxed, as an answer goes through many hands.
    pub head: Box<ResponseHead>,
    /// The content.
    pub body: B,
}

impl<B> Request<B> {
    /// `GET /`.
    pub fn new(body: B) -> Self {
        Request {
            head: Box::default(),
            body,
        }
    }

    /// Of its two halves.
    pub fn from_parts(head: Box<RequestHead>, body: B) -> Self {
        Request { head, body }
    }

    /// Its two halves.
    pub fn into_parts(self) -> (Box<RequestHead>, B) {
        (self.head, self.body)
    }

    /// The fields.
    pub fn headers(&self) -> &Fields {
        &self.head.headers
    }

    /// The same with another content.
    pub fn map<C>(self, map: impl FnOnce(B) -> C) -> Request<C> {
        Request {
            head: self.head,
            body: map(self.body),
        }
    }
}

impl<B> Response<B> {
    /// 200, with no field.
    pub fn new(body: B) -> Self {
        Response {
            head: Box::default(),
            body,
        }
    }

    /// Of its two halves.
    pub fn from_parts(head: Box<ResponseHead>, body: B) -> Self {
        Response { head, body }
    }

    /// Its two halves.
    pub fn into_parts(self) -> (Box<ResponseHead>, B) {
        (self.head, self.body)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The fields.
    pub fn headers(&self) -> &Fields {
        &self.head.headers
    }

    /// The fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut Fields {
        &mut self.head.headers
    }

    /// The content.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The same with another content.
    pub fn map<C>(self, map: impl FnOnce(B) -> C) -> Response<C> {
        Response {
            head: self.head,
            body: map(self.body),
        }
    }
}

impl From<http::request::Parts> for RequestHead {
    fn from(parts: http::request::Parts) -> Self {
        RequestHead {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers.into(),
        }
    }
}

impl<B> From<http::Request<B>> for Request<B> {
    fn from(request: http::Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Request {
            head: Box::new(parts.into()),
            body,
        }
    }
}

impl<B> From<Request<B>> for http::Request<B> {
    fn from(request: Request<B>) -> Self {
        let (head, body) = (*request.head, request.body);
        let mut request = http::Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers.into();
        request
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (mut parts, body) = response.into_parts();
        Response {
            head: Box::new(ResponseHead {
                status: parts.status,
                version: parts.version,
                headers: parts.headers.into(),
                reason: parts.extensions.remove(),
            }),
            body,
        }
    }
}

impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> Self {
        let (head, body) = (*response.head, response.body);
        let mut response = http::Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers.into();
        response
    }
}
