//! A GET of the application, with the redirects that a kubelet follows.
//!
//! Owns: one request over one connection, bounded in size, and which redirects are followed.
//! Never: follows one to another host, or hands the application's own words on.
//! Called by: `call`.
//!
//! Why only the status is handed on: the status port faces the network, and what an application says
//! of its health may be nobody's business.

use std::net::{IpAddr, SocketAddr};

use ::http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use ::http::{HeaderMap, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::call::{Driver, Prober, Verdict};

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes of an answer's body that are read, as a kubelet does, before the connection is closed.
const MAX_BODY: usize = 10 * 1024;
/// Redirects in a row, as in Go's client.
const MAX_REDIRECTS: usize = 10;

/// Where a request goes, the host apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Target {
    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The same host as `at`, or `None`: it is another's.
    fn redirected(&self, location: &str, host: IpAddr) -> Option<(Target, bool)> {
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            return None;
        }
        if !location.contains("://") {
            let path = match location.starts_with('/') {
                true => location.to_owned(),
                false => beside(&self.path, location),
            };
            return Some((
                Target {
                    path,
                    ..self.clone()
                },
                true,
            ));
        }
        let uri: Uri = location.parse().ok()?;
        let authority = uri.authority()?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return None,
        };
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if name.parse::<IpAddr>().ok()? != host {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = match uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') => path.as_str().to_owned(),
            Some(path) => format!("/{path}"),
            None => "/".to_owned(),
        };
        Some((Target { tls, port, path }, false))
    }
}

/// `location` beside `path` (RFC 3986 section 5.3, without dot segments).
fn beside(path: &str, location: &str) -> String {
    let bare = path.split('?').next().unwrap_or_default();
    match location.starts_with('?') {
        true => format!("{bare}{location}"),
        false => {
            let folder = bare.rfind('/').and_then(|end| bare.get(..=end));
            format!("{}{location}", folder.unwrap_or("/"))
        }
    }
}

/// What the probe says stands in place of what the kubelet said (ISTIO.md I8). An empty User-Agent
/// or Accept is none, as in Kubernetes.
pub(super) fn replace(sent: &mut HeaderMap, headers: &[(HeaderName, HeaderValue)]) {
    for (name, _) in headers {
        sent.remove(name);
    }
    for (name, value) in headers {
        let none = value.is_empty() && [USER_AGENT, ACCEPT].contains(name);
        if !none {
            sent.append(name.clone(), value.clone());
        }
    }
}

/// Asks, and says what came.
pub(super) async fn get(
    prober: &Prober,
    first: Target,
    host: Option<HeaderValue>,
    mut headers: HeaderMap,
) -> Result<Verdict, Verdict> {
    // A client that names its own connection options would only confuse what we do with ours.
    for name in [
        CONNECTION,
        ::http::header::TRANSFER_ENCODING,
        ::http::header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
    let mut named = headers.remove(HOST).or(host);
    let mut target = first;
    let mut followed = 0;
    loop {
        let (status, location, shown) = once(prober, &target, named.as_ref(), &headers).await?;
        let next = location.and_then(|location| target.redirected(&location, prober.host()));
        match next {
            Some((next, keeps_host)) if followed < MAX_REDIRECTS => {
                if !keeps_host {
                    named = None;
                }
                target = next;
                followed += 1;
            }
            Some(_) => {
                let words = format!("{shown} redirected more than {MAX_REDIRECTS} times");
                return Err(Verdict::garbage(words));
            }
            None => {
                let words = format!("{shown} answered {}", status.as_u16());
                return Ok(Verdict::new(status, words));
            }
        }
    }
}

/// Status, where it redirects to, and what was asked in words.
async fn once(
    prober: &Prober,
    target: &Target,
    host: Option<&HeaderValue>,
    headers: &HeaderMap,
) -> Result<(StatusCode, Option<String>, String), Verdict> {
    let (stream, address) = prober.dial(target.port).await?;
    let shown = format!("{}://{address}{}", target.scheme(), target.path);
    let bad = |error: String| Verdict::garbage(format!("{shown}: {error}"));
    let mut request = Request::get(&target.path).body(Empty::<Bytes>::new());
    if let Ok(request) = &mut request {
        *request.headers_mut() = headers.clone();
        let host = host.cloned().or_else(|| written(address));
        request.headers_mut().extend(host.map(|host| (HOST, host)));
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(CONNECTION, close);
    }
    let request = request.map_err(|error| bad(error.to_string()))?;
    let answer = match target.tls {
        false => exchange(stream, request).await,
        true => {
            let tls = prober.tls()?;
            let name = address.ip().to_string();
            let connected = tls.connect_http1(&name, stream).await;
            let connected = connected.map_err(|error| bad(error.to_string()))?;
            exchange(connected.stream, request).await
        }
    };
    let (status, location) = answer.map_err(|error| bad(error.to_string()))?;
    Ok((status, location, shown))
}

fn written(address: SocketAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&address.to_string()).ok()
}

async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Option<String>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let _driver = Driver(tokio::spawn(connection));
    let answer = sender.send_request(request).await?;
    let location = redirect(&answer);
    let status = answer.status();
    // So that the application can finish what it says; more than that is not waited for.
    let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
    Ok((status, location))
}

fn redirect(answer: &Response<Incoming>) -> Option<String> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers().get(LOCATION)?;
    location.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_a_redirect_to_the_same_host_is_followed_and_one_to_another_is_not() {
        let here = Target {
            tls: false,
            port: 8080,
            path: "/a/b?c".into(),
        };
        let host: IpAddr = "10.0.0.1".parse().unwrap();
        let to = |location: &str| {
            let (target, keeps_host) = here.redirected(location, host)?;
            let Target { tls, port, path } = target;
            Some((tls, port, path, keeps_host))
        };
        for (location, tls, port, path, keeps_host) in [
            ("/x?y", false, 8080, "/x?y", true),
            ("z", false, 8080, "/a/z", true),
            ("?q", false, 8080, "/a/b?q", true),
            ("https://10.0.0.1:8443/x", true, 8443, "/x", false),
            ("http://10.0.0.1/x#part", false, 80, "/x", false),
            ("https://10.0.0.1", true, 443, "/", false),
        ] {
            let expected = (tls, port, path.to_owned(), keeps_host);
            assert_eq!(to(location), Some(expected), "{location}");
        }
        for location in [
            "http://other.example/",
            "http://10.0.0.2/x",
            "ftp://10.0.0.1/",
            "//a/b",
        ] {
            assert_eq!(to(location), None, "{location}");
        }
    }
}
