//! A server that answers with exact bytes, for answers that no HTTP library would send.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One thing that a scripted server does.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes.
    Send(Vec<u8>),
    /// Nothing, for that long.
    Wait(Duration),
    /// An orderly end: close_notify under TLS, then FIN.
    Close,
    /// The end of the TCP connection without close_notify, as when the process dies.
    Cut,
}

impl Step {
    pub fn send(bytes: impl AsRef<[u8]>) -> Step {
        Step::Send(bytes.as_ref().to_vec())
    }
}

/// What a scripted server does with the nth request of a connection (from 0), given its head.
pub type Script = Arc<dyn Fn(usize, &str) -> Vec<Step> + Send + Sync>;

/// Runs the script until it ends the connection or the peer does.
pub(super) async fn run<S>(mut stream: S, script: Script, asked: impl Fn(&str))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut waiting = Vec::new();
    for nth in 0.. {
        let Some(head) = head(&mut stream, &mut waiting).await else {
            return;
        };
        asked(&head);
        for step in script(nth, &head) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Close => {
                    let _ = stream.shutdown().await;
                    drain(&mut stream).await;
                    return;
                }
                // Dropping the stream sends FIN, and no close_notify.
                Step::Cut => return,
            }
        }
    }
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S, waiting: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = waiting.drain(..end + 4).collect();
            return String::from_utf8(head).ok();
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => waiting.extend_from_slice(&chunk[..read]),
        }
    }
}

async fn drain<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut chunk = [0; 4096];
    while matches!(stream.read(&mut chunk).await, Ok(read) if read > 0) {}
}
