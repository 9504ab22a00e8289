// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio-rustls as server and client over connections.

use std::sync::Arc;

use netpoll_compat_tests::{Server, bytes, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Returns both ends of TLS with a certificate for `localhost`.
fn ends() -> (TlsAcceptor, TlsConnector) {
    let names = ["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .expect("a key that fits");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

#[test]
fn requests_of_all_sizes_are_answered_over_tls() {
    let (acceptor, connector) = ends();
    let server = Server::on_poller(async move |conn| {
        let mut stream = acceptor.accept(conn).await?;
        while let Ok(length) = stream.read_u32().await {
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).await?;
            stream.write_all(&body).await?;
            stream.flush().await?;
        }
        stream.shutdown().await?;
        Ok(())
    });
    run(async {
        let name = ServerName::try_from("localhost").unwrap();
        let conn = server.connect().await;
        let mut stream = connector.connect(name, conn).await.unwrap();
        for length in [0, 1, 1000, 16 << 10, 100_000, 1 << 20] {
            let body = bytes(length);
            stream.write_u32(length as u32).await.unwrap();
            stream.write_all(&body).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = vec![0; length];
            stream.read_exact(&mut answer).await.unwrap();
            assert!(answer == body);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    });
}
