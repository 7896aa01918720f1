//! Server-sent events as they come in.

use std::time::Duration;

use serde_json::Value;

use super::{Client, Server};

/// An open stream.
#[derive(Debug)]
pub struct Events {
    pub response: reqwest::Response,
    read: String,
    /// Lines that are only there to say that the stream lives.
    pub heartbeats: usize,
}

/// Longest wait for an event that must come; generous, since many stories share few cores.
const LIMIT: Duration = Duration::from_secs(20);

impl Server {
    /// GET /oauth2/revocations as a stream, with more headers.
    pub async fn events(&self, client: &Client, headers: &[(&str, &str)]) -> Events {
        let mut request = self.http.get(self.url("/oauth2/revocations")).header("accept", "text/event-stream");
        request = request.header("authorization", client.basic()).timeout(Duration::from_secs(600));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Events { response: request.send().await.expect("the server answers"), read: String::new(), heartbeats: 0 }
    }
}

impl Events {
    /// The next event, with its id; None if the stream ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        tokio::time::timeout(LIMIT, self.piece()).await.expect("an event or the end comes in time")
    }

    async fn piece(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                match field("data: ") {
                    Some(json) => return Some((field("id: ").expect("an id"), serde_json::from_str(&json).expect("JSON"))),
                    None => self.heartbeats += 1,
                }
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.read.push_str(std::str::from_utf8(&bytes).expect("UTF-8")),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits for the end, whatever comes before it.
    pub async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }
}
