//! The revocations as server-sent events: what is there, then each as it comes.
//!
//! A stream never outlives what it was opened under: it ends when the client changes in any way, when this node is cut off from the
//! database, when the process is to stop, and within the hour. Whoever follows comes again with the id of the last event, and is
//! authenticated anew. A reader that does not keep up is hung up on; between the two there are never more than a few pages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use tokio::sync::mpsc;
use warp::Reply;

use super::revocations::{News, gone};
use crate::app::App;
use crate::app::seats::Seat;
use crate::clients::Client;
use crate::clock::Clock;
use crate::grants::Caller;
use crate::oauth2::OAuth2Error;
use crate::oauth2::secret::fill_random;
use crate::tokens::feed_view::{Cursor, Page};
use crate::web::Answer;
use crate::web::peer::HangUp;

pub const MEDIA_TYPE: &str = "text/event-stream";

/// How often a stream that has no news says so. Who hears nothing for three times as long has lost it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a reader may take for one piece.
const PATIENCE: Duration = Duration::from_secs(10);
/// Credentials are looked at again after so long.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Pieces on their way to the reader.
const UNDER_WAY: usize = 2;
/// How often a page is tried for that the database does not give, and how long after each time. Together well below what lets a reader
/// believe that it has lost the stream: no heartbeat may be sent meanwhile, since it would say that there is no news.
const TRIES: usize = 5;
const NEXT_TRY: Duration = Duration::from_millis(400);
/// Milliseconds after which a reader comes again, and up to so many more: not all come at once to a node that has started anew.
const RETRY: u32 = 1000;
const RETRY_SPREAD: u32 = 2000;
/// How long to wait before another try, where the node or the client has as many streams as it may.
const COME_AGAIN: Duration = Duration::from_secs(30);

/// Opens a stream of what comes after `since`.
///
/// Errors: 410 for a cursor that cannot be continued, 429 past the bounds of [`crate::app::seats`], 503.
pub async fn open(app: &Arc<App>, caller: &Caller, since: Option<Cursor>, hang_up: Option<HangUp>) -> Result<Answer, OAuth2Error> {
    // Taken before the first page is read: what comes in between is news.
    let news = app.feed_news();
    let seat = app.seats.take(&caller.client.id).ok_or_else(|| OAuth2Error::too_many_tries(COME_AGAIN))?;
    let first = app.streamed_after(since).await?.ok_or_else(gone)?;
    let (pieces, mut read) = mpsc::channel(UNDER_WAY);
    let mut random = [0u8; 4];
    fill_random(&mut random);
    let retry = RETRY + u32::from_ne_bytes(random) % RETRY_SPREAD;
    let stream = Stream { app: app.clone(), client: caller.client.clone(), pieces, hang_up, retry, _seat: seat };
    tokio::spawn(stream.run(first, news));
    let body = futures_util::stream::poll_fn(move |context| read.poll_recv(context).map(|piece| piece.map(Ok::<_, std::io::Error>)));
    let mut answer = warp::reply::stream(body).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept"));
    // Reverse proxies (nginx) would keep events back to fill their buffers.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(answer)
}

struct Stream {
    app: Arc<App>,
    client: Arc<Client>,
    pieces: mpsc::Sender<Bytes>,
    hang_up: Option<HangUp>,
    /// Milliseconds.
    retry: u32,
    _seat: Seat,
}

/// The stream is over.
struct Over;

impl Stream {
    async fn run(self, first: Page, mut news: tokio::sync::watch::Receiver<i64>) {
        let mut stopping = self.app.stopping();
        tokio::select! {
            _ = self.follow(first, &mut news) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
            () = self.pieces.closed() => {}
        }
    }

    async fn follow(&self, first: Page, news: &mut tokio::sync::watch::Receiver<i64>) -> Result<(), Over> {
        let opened = Clock::monotonic();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut page = first;
        // The first event comes even if it is empty: from now on the reader is up to date.
        let mut silent = false;
        loop {
            if !silent {
                self.send(self.event(&page)?).await?;
            }
            let mut came = page.more;
            while !came {
                tokio::select! {
                    changed = news.changed() => came = changed.map(|()| true).map_err(|_| Over)?,
                    _ = heartbeat.tick() => self.send(Bytes::from_static(b":\n\n")).await?,
                }
                self.still_welcome(opened)?;
            }
            news.mark_unchanged();
            page = self.next(page.cursor(), opened).await?;
            silent = page.entries.is_empty();
        }
    }

    /// The page after `cursor`. Many may be sent one after the other, so each time it is asked whether the stream may go on.
    async fn next(&self, cursor: Cursor, opened: std::time::Instant) -> Result<Page, Over> {
        for _ in 0..TRIES {
            self.still_welcome(opened)?;
            match self.app.streamed_after(Some(cursor.clone())).await {
                Ok(page) => return page.ok_or(Over),
                Err(_) => tokio::time::sleep(NEXT_TRY).await,
            }
        }
        Err(Over)
    }

    /// The client as it was authenticated, and this node as fresh as every answer asks for.
    fn still_welcome(&self, opened: std::time::Instant) -> Result<(), Over> {
        let same = self.app.clients.find(self.client.id.as_str()).is_some_and(|now| Arc::ptr_eq(&now, &self.client));
        if same && self.app.rv().is_ok() && Clock::since(opened) < LONGEST { Ok(()) } else { Err(Over) }
    }

    fn event(&self, page: &Page) -> Result<Bytes, Over> {
        let news = News::new(page);
        let json = serde_json::to_string(&news).map_err(|_| Over)?;
        Ok(format!("retry: {}\nid: {}\nevent: revocations\ndata: {json}\n\n", self.retry, news.cursor()).into())
    }

    async fn send(&self, piece: Bytes) -> Result<(), Over> {
        match tokio::time::timeout(PATIENCE, self.pieces.send(piece)).await {
            Ok(sent) => sent.map_err(|_| Over),
            Err(_) => {
                tracing::info!(client = %self.client.id, "a reader of the revocations did not keep up and is hung up on");
                if let Some(connection) = &self.hang_up {
                    connection.now();
                }
                Err(Over)
            }
        }
    }
}
