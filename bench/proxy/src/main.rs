// SPDX-License-Identifier: MIT OR Apache-2.0
//! The peer of the example `tcp_proxy`, as in tokio's documentation.
//!
//! ```text
//! netpoll-proxy-bench UPSTREAM ADDR
//! ```
#![forbid(unsafe_code)]

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(upstream), Some(addr)) = (arguments.next(), arguments.next()) else {
        eprintln!("netpoll-proxy-bench UPSTREAM ADDR");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (mut client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(upstream).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
