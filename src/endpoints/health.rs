//! GET /healthz: the process lives. GET /readyz: it can answer, since the database is reachable and the feed fresh.

use crate::web::{Answer, Request, reply};

pub fn alive() -> Answer {
    reply::json(r#"{"status":"ok"}"#)
}

pub async fn ready(request: Request) -> Answer {
    let answer = request.app.ready().await.map(|()| alive());
    reply::finish(&request, answer)
}
