// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper's HTTP/1 server on a poller, and its client over a dialed connection.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, client, server};
use netpoll::Connection;
use netpoll_compat_tests::{Server, bytes, run};

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let body = match request.method() {
        &Method::POST => request.into_body().collect().await?.to_bytes(),
        _ => Bytes::from_static(b"hello"),
    };
    Ok(Response::new(Full::new(body)))
}

#[test]
fn requests_and_bodies_pass_over_one_connection() {
    let server = Server::on_poller(async |conn: Connection| {
        let connection = server::conn::http1::Builder::new();
        connection
            .serve_connection(conn, service_fn(answer))
            .await?;
        Ok(())
    });
    run(async {
        let conn = server.connect().await;
        let (mut sender, connection) = client::conn::http1::handshake(conn).await.unwrap();
        let driver = tokio::spawn(connection);
        for size in [0, 1, 1000, 100_000, 4 << 20] {
            let get = Request::get("/").body(Full::default()).unwrap();
            let answer = sender.send_request(get).await.unwrap();
            assert_eq!(
                answer.into_body().collect().await.unwrap().to_bytes(),
                "hello"
            );
            sender.ready().await.unwrap();
            let body = Bytes::from(bytes(size));
            let post = Request::post("/").body(Full::new(body.clone())).unwrap();
            let answer = sender.send_request(post).await.unwrap();
            assert!(answer.into_body().collect().await.unwrap().to_bytes() == body);
            sender.ready().await.unwrap();
        }
        drop(sender);
        driver.await.unwrap().unwrap();
    });
}

/// How the serving of an idle connection ends: without an error.
#[test]
fn idle_connection_is_no_error_for_hyper() {
    let (ended, ends) = std::sync::mpsc::channel();
    let server = Server::on_poller(async move |conn: Connection| {
        let idle = std::time::Duration::from_millis(100);
        conn.set_timeouts(conn.timeouts().idle(idle))?;
        let connection = server::conn::http1::Builder::new();
        let served = connection.serve_connection(conn, service_fn(answer)).await;
        ended.send(served.map_err(|error| error.to_string()))?;
        Ok(())
    });
    run(async {
        let conn = server.connect().await;
        let (mut sender, connection) = client::conn::http1::handshake(conn).await.unwrap();
        let driver = tokio::spawn(connection);
        let get = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let answer = sender.send_request(get).await.unwrap();
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "hello"
        );
        driver.await.unwrap().unwrap();
    });
    assert_eq!(
        ends.recv_timeout(netpoll_compat_tests::LIMIT).unwrap(),
        Ok(())
    );
}
