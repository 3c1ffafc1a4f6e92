//! A request's body that is copied for others as it goes by.
//!
//! Owns: [`Teed`], what the upstream reads, and [`Copied`], what a mirror reads: a queue with a
//! bound.
//! Never: waits for a mirror. One that falls too far behind loses its copy, and the request goes on.
//! Called by: `proxy::mirror`.
//!
//! Why a lock: the two sides are tasks of one worker, so nobody ever waits for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::upstream::BodyError;

/// A body as an upstream is given it.
pub(super) type Stream = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// Bytes that wait for one mirror at most.
const BEHIND: usize = 1 << 20;

/// What a frame takes besides its bytes: without it a client that sends them one by one, or none
/// at all, would fill the queue without end.
const FRAME: usize = 128;

/// What became of the body that a mirror copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Open,
    /// It was read to its end, or as far as the mirror wanted.
    Whole,
    /// The request ended before it.
    Lost,
    /// The mirror did not keep up.
    Behind,
}

/// Frames on their way to one mirror.
pub(super) struct Queue(Mutex<Waiting>);

struct Waiting {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    fate: Fate,
    reader: Option<Waker>,
    watcher: Option<Waker>,
    /// The bytes that wait for all mirrors of this worker, and how many may.
    room: (Arc<AtomicUsize>, usize),
}

impl Queue {
    /// An empty one. `room` counts the bytes of all queues of a worker, of which there may be `most`.
    pub(super) fn new(room: &Arc<AtomicUsize>, most: usize) -> Arc<Queue> {
        Arc::new(Queue(Mutex::new(Waiting {
            frames: VecDeque::new(),
            bytes: 0,
            fate: Fate::Open,
            reader: None,
            watcher: None,
            room: (Arc::clone(room), most),
        })))
    }

    /// What became of the body so far.
    pub(super) fn fate(&self) -> Fate {
        self.lock().fate
    }

    /// Returns when the copy is lost, and why: a reader that waits to write does not come to see it.
    pub(super) async fn given_up(&self) -> Fate {
        std::future::poll_fn(|cx| {
            let mut waiting = self.lock();
            match waiting.fate {
                Fate::Open | Fate::Whole => {
                    waiting.watcher = Some(cx.waker().clone());
                    Poll::Pending
                }
                lost => Poll::Ready(lost),
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: &Frame<Bytes>) {
        let mut waiting = self.lock();
        if waiting.fate != Fate::Open {
            return;
        }
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        let length = takes(&copy);
        let room = waiting.room.0.load(Ordering::Relaxed);
        if waiting.bytes.saturating_add(length) > BEHIND
            || room.saturating_add(length) > waiting.room.1
        {
            waiting.end(Fate::Behind);
            return;
        }
        waiting.room.0.fetch_add(length, Ordering::Relaxed);
        waiting.bytes += length;
        waiting.frames.push_back(copy);
        waiting.wake();
    }

    fn end(&self, fate: Fate) {
        self.lock().end(fate);
    }
}

impl Waiting {
    /// The first end counts.
    fn end(&mut self, fate: Fate) {
        if self.fate != Fate::Open {
            return;
        }
        self.fate = fate;
        if fate != Fate::Whole {
            self.clear();
            if let Some(watcher) = self.watcher.take() {
                watcher.wake();
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

/// How much of the bounds a frame takes up.
fn takes(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len) + FRAME
}

/// The body that goes to the upstream.
pub(super) struct Teed {
    body: Stream,
    copies: Vec<Arc<Queue>>,
}

impl Teed {
    pub(super) fn new(body: Stream, copies: Vec<Arc<Queue>>) -> Teed {
        Teed { body, copies }
    }

    fn end(&self, fate: Fate) {
        self.copies.iter().for_each(|copy| copy.end(fate));
    }
}

impl Body for Teed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.end(Fate::Whole),
            Poll::Ready(Some(Err(_))) => self.end(Fate::Lost),
            Poll::Ready(Some(Ok(frame))) => {
                self.copies.iter().for_each(|copy| copy.push(frame));
                // The reader need not come back for the end of what it knows the length of.
                if self.body.is_end_stream() {
                    self.end(Fate::Whole);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Teed {
    fn drop(&mut self) {
        self.end(Fate::Lost);
    }
}

/// The copy that a mirror is sent.
pub(super) struct Copied {
    queue: Arc<Queue>,
    /// What is left of a length that is known.
    left: Option<u64>,
}

impl Copied {
    pub(super) fn new(queue: &Arc<Queue>, length: Option<u64>) -> Copied {
        Copied {
            queue: Arc::clone(queue),
            left: length,
        }
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let queue = Arc::clone(&self.queue);
        let mut waiting = queue.lock();
        if let Some(frame) = waiting.frames.pop_front() {
            let takes = takes(&frame);
            waiting.bytes = waiting.bytes.saturating_sub(takes);
            waiting.room.0.fetch_sub(takes, Ordering::Relaxed);
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.left = self.left.map(|left| left.saturating_sub(length as u64));
            return Poll::Ready(Some(Ok(frame)));
        }
        let why = match waiting.fate {
            Fate::Open => {
                waiting.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Fate::Whole => return Poll::Ready(None),
            Fate::Lost => "the mirrored request ended before its body",
            Fate::Behind => "the mirror took the body too slowly",
        };
        Poll::Ready(Some(Err(BodyError::Client(why.into()))))
    }

    fn is_end_stream(&self) -> bool {
        let waiting = self.queue.lock();
        waiting.fate == Fate::Whole && waiting.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        // Nobody reads any more, so nothing is kept; that is no fault of whoever has answered.
        if waiting.fate == Fate::Open {
            waiting.fate = Fate::Whole;
        }
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, BodyError>>;

    fn data(length: usize) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from(vec![b'x'; length])))
    }

    fn body(frames: Frames) -> Stream {
        Box::pin(StreamBody::new(futures_util::stream::iter(frames)))
    }

    /// A body of these frames, with one copy, and the count of what waits.
    fn teed(frames: Frames, most: usize) -> (Teed, Copied, Arc<Queue>, Arc<AtomicUsize>) {
        let room = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(&room, most);
        let teed = Teed::new(body(frames), vec![Arc::clone(&queue)]);
        (teed, Copied::new(&queue, None), queue, room)
    }

    #[tokio::test]
    async fn v16_a_copy_has_every_byte_and_the_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", 7.into());
        let frames = vec![data(3), data(4), Ok(Frame::trailers(trailers.clone()))];
        let (teed, copied, queue, room) = teed(frames, BEHIND);
        let whole = teed.collect().await.unwrap();
        assert_eq!(room.load(Ordering::Relaxed), 7 + 3 * FRAME);
        let copy = copied.collect().await.unwrap();
        assert_eq!(copy.trailers(), Some(&trailers));
        assert_eq!(copy.to_bytes(), whole.to_bytes());
        assert_eq!(
            (queue.fate(), room.load(Ordering::Relaxed)),
            (Fate::Whole, 0)
        );
    }

    #[tokio::test]
    async fn v16_a_reader_that_stops_at_the_length_it_knows_has_read_the_whole() {
        let room = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(&room, BEHIND);
        let full = Full::new(Bytes::from_static(b"pay")).map_err(|never| match never {});
        let mut teed = Teed::new(Box::pin(full), vec![Arc::clone(&queue)]);
        assert_eq!(teed.size_hint().exact(), Some(3));
        teed.frame().await.unwrap().unwrap();
        drop(teed);
        let copied = Copied::new(&queue, Some(3));
        assert_eq!(copied.size_hint().exact(), Some(3));
        assert_eq!(copied.collect().await.unwrap().to_bytes(), "pay");
    }

    #[tokio::test]
    async fn v16_a_mirror_that_falls_behind_loses_its_copy_and_the_request_goes_on() {
        let (teed, copied, queue, room) =
            teed(vec![data(BEHIND - FRAME), data(1), data(5)], 4 * BEHIND);
        let whole = teed.collect().await.unwrap();
        assert_eq!(whole.to_bytes().len(), BEHIND - FRAME + 6);
        assert_eq!(
            (queue.fate(), room.load(Ordering::Relaxed)),
            (Fate::Behind, 0)
        );
        assert_eq!(queue.given_up().await, Fate::Behind);
        let error = copied.collect().await.unwrap_err().to_string();
        assert!(error.contains("too slowly"), "{error}");
    }

    #[tokio::test]
    async fn v16_frames_without_bytes_fill_the_queue_too() {
        let frames = (0..=BEHIND / FRAME).map(|_| data(0)).collect();
        let (teed, _copied, queue, room) = teed(frames, 4 * BEHIND);
        teed.collect().await.unwrap();
        assert_eq!(
            (queue.fate(), room.load(Ordering::Relaxed)),
            (Fate::Behind, 0)
        );
    }

    #[tokio::test]
    async fn v16_all_mirrors_of_a_worker_have_one_bound_on_what_waits() {
        let (first, second) = (teed(vec![data(60)], 300), teed(vec![data(60)], 300));
        let room = first.3;
        second.2.lock().room.0 = Arc::clone(&room);
        first.0.collect().await.unwrap();
        second.0.collect().await.unwrap();
        assert_eq!(
            (first.2.fate(), second.2.fate()),
            (Fate::Whole, Fate::Behind)
        );
        drop(first.1);
        assert_eq!(room.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn v16_a_copy_of_a_body_that_broke_off_is_never_taken_for_whole() {
        let broken = Err(BodyError::Client("gone".into()));
        let (teed_body, copied, ..) = teed(vec![data(3), broken], BEHIND);
        assert!(teed_body.collect().await.is_err());
        assert!(copied.collect().await.is_err());
        let (mut teed_body, copied, ..) = teed(vec![data(3), data(3)], BEHIND);
        teed_body.frame().await.unwrap().unwrap();
        drop(teed_body);
        assert!(copied.collect().await.is_err());
    }

    #[tokio::test]
    async fn v16_a_mirror_that_is_gone_keeps_nothing() {
        let (teed, copied, queue, room) = teed(vec![data(3), data(4)], BEHIND);
        drop(copied);
        assert_eq!(queue.fate(), Fate::Whole);
        assert_eq!(teed.collect().await.unwrap().to_bytes().len(), 7);
        assert_eq!(room.load(Ordering::Relaxed), 0);
    }
}
