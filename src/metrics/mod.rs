//! What monitors read, on loopback alone: Prometheus text at `/metrics`, and the node's status as JSON at
//! `/status`, which answers 503 where somebody has to do something.
//!
//! Nothing here names a person, a target or a command: labels are names of events, of troubles and of
//! notifiers, a fixed set. A monitor that reads slowly or holds connections open takes nothing from anybody else.

mod families;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use self::families::Families;
use crate::console::Console;
use crate::console::status::cannot_look;
use crate::time::Timestamp;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;
/// A request's head takes no longer, …
const HEAD: Duration = Duration::from_secs(5);
/// … and a connection, which carries one request.
const CONNECTION: Duration = Duration::from_secs(20);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many connections have not logged in, how many wait for a place among them, and how many have.
pub type Crowd = Box<dyn Fn() -> ((usize, usize), usize) + Send + Sync>;

/// Answers until the node stops.
pub async fn serve(listener: TcpListener, console: Console, crowd: Crowd, mut stop: watch::Receiver<bool>) {
    let families = Arc::new(Families::new(console, crowd));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (Ok(slot), Ok((stream, _))) = accepted else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let families = families.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let _ = tokio::time::timeout(CONNECTION, converse(stream, families)).await;
        });
    }
}

async fn converse(stream: TcpStream, families: Arc<Families>) {
    let service = service_fn(move |request| {
        let families = families.clone();
        async move { Ok::<_, Infallible>(answer(&request, &families).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a monitor's connection ended");
    }
}

async fn answer(request: &Request<Incoming>, families: &Families) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match families.render(Timestamp::now()).await {
            Ok(text) => response(StatusCode::OK, OPENMETRICS, text),
            Err(error) => {
                tracing::warn!(error = crate::console::with_causes(&error), "the metrics cannot be read");
                response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the state cannot be read\n".into())
            }
        },
        (&Method::GET | &Method::HEAD, "/status") => match families.console.status(Timestamp::now()).await {
            Ok(status) => {
                let code = if status.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                response(code, "application/json", serde_json::json!({ "v": 1, "status": status }).to_string() + "\n")
            }
            Err(error) => {
                let status = serde_json::json!({ "v": 1, "status": { "ok": false, "troubles": [cannot_look(&error)] } });
                response(StatusCode::SERVICE_UNAVAILABLE, "application/json", status.to_string() + "\n")
            }
        },
        (&Method::GET | &Method::HEAD, _) => response(StatusCode::NOT_FOUND, "text/plain", "here are /metrics and /status\n".into()),
        _ => response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "nothing is changed here: GET /metrics or /status\n".into()),
    }
}

fn response(code: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
