//! Reads a request body under a limit and a deadline, chunked or not.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use warp::Filter;
use warp::reject::{Reject, Rejection};

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Larger than the limit: 413.
    TooLarge,
    /// Not here in time: 408.
    TooSlow,
    /// The connection or the chunked coding broke: 400, if anybody is left to hear it.
    Broken,
}

impl Reject for BodyError {}

/// The headers and the whole body, at most `limit` bytes within `deadline`. Rejects with a [`BodyError`].
pub fn body(limit: usize, deadline: Duration) -> impl Filter<Extract = (HeaderMap, Bytes), Error = Rejection> + Clone {
    let read = move |headers: HeaderMap, stream| async move {
        match tokio::time::timeout(deadline, read_whole(&headers, stream, limit)).await {
            Ok(read) => read.map(|bytes| (headers, bytes)).map_err(warp::reject::custom),
            Err(_) => Err(warp::reject::custom(BodyError::TooSlow)),
        }
    };
    warp::header::headers_cloned().and(warp::body::stream()).and_then(read).untuple_one()
}

/// What Content-Length says; hyper has refused malformed and contradicting ones already.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_whole<S, B, E>(headers: &HeaderMap, stream: S, limit: usize) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut stream = std::pin::pin!(stream);
    let read = match announced(headers) {
        Some(length) if length > limit as u64 => Err(BodyError::TooLarge),
        _ => collect(stream.as_mut(), limit).await,
    };
    if read == Err(BodyError::TooLarge) {
        let _ = tokio::time::timeout(LAST_READS, discard(stream)).await;
    }
    read
}

/// How much of a body that is too large is read all the same, and for how long: a connection that is closed with bytes unread is
/// reset, and the sender may never see the answer.
const LAST_BYTES: usize = 1024 * 1024;
const LAST_READS: Duration = Duration::from_secs(1);

async fn discard<S, B, E>(stream: S)
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let (mut stream, mut read) = (std::pin::pin!(stream), 0);
    while read < LAST_BYTES
        && let Some(Ok(chunk)) = stream.next().await
    {
        read += chunk.remaining();
    }
}

async fn collect<S, B, E>(stream: S, limit: usize) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut stream = std::pin::pin!(stream);
    let mut whole = match stream.next().await {
        None => return Ok(Bytes::new()),
        Some(chunk) => take(chunk, limit)?,
    };
    let mut rest: Option<BytesMut> = None;
    while let Some(chunk) = stream.next().await {
        // Nearly every form comes in one piece, which is handed on without a copy.
        let so_far = rest.get_or_insert_with(|| BytesMut::from(std::mem::take(&mut whole)));
        let chunk = take(chunk, limit - so_far.len())?;
        so_far.extend_from_slice(&chunk);
    }
    Ok(rest.map_or(whole, BytesMut::freeze))
}

fn take<B: Buf, E>(chunk: Result<B, E>, room: usize) -> Result<Bytes, BodyError> {
    let mut chunk = chunk.map_err(|_| BodyError::Broken)?;
    let length = chunk.remaining();
    if length > room { Err(BodyError::TooLarge) } else { Ok(chunk.copy_to_bytes(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use tower_service::Service;

    async fn read(chunks: &[&'static str], limit: usize) -> Result<Bytes, BodyError> {
        collect(stream::iter(chunks.iter().map(|c| Ok::<_, ()>(Bytes::from_static(c.as_bytes())))), limit).await
    }

    #[tokio::test]
    async fn pieces_are_joined_and_the_limit_is_exact() {
        assert_eq!(read(&[], 4).await.unwrap(), "");
        assert_eq!(read(&["abcd"], 4).await.unwrap(), "abcd");
        assert_eq!(read(&["ab", "", "cd"], 4).await.unwrap(), "abcd");
        assert_eq!(read(&["abcde"], 4).await, Err(BodyError::TooLarge));
        assert_eq!(read(&["ab", "cde"], 4).await, Err(BodyError::TooLarge));
        assert_eq!(collect(stream::iter([Ok(Bytes::from("a")), Err(())]), 4).await, Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn slow_bodies_end() {
        let never = stream::pending::<Result<Bytes, ()>>();
        assert!(tokio::time::timeout(Duration::from_millis(20), collect(never, 4)).await.is_err());
    }

    #[tokio::test]
    async fn the_filter_refuses_by_the_announced_length() {
        let echo =
            body(8, Duration::from_secs(1)).map(|_, bytes: Bytes| bytes.len().to_string()).recover(|rejection: Rejection| async move {
                let reason = rejection.find::<BodyError>().map(|error| format!("{error:?}"));
                reason.ok_or(rejection)
            });
        let ask = async |length: &str| {
            let request =
                http::Request::post("/").header("content-length", length).body(http_body_util::Full::new(Bytes::from("12345678")));
            let response = warp::service(echo.clone()).call(request.unwrap()).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        };
        assert_eq!(ask("8").await, "8");
        assert_eq!(ask("9").await, "TooLarge");
    }
}
