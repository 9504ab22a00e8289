// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix sockets: socket files, permissions, and rejected paths. `settings.rs` runs the suites for
//! data transfer over them.

use std::fs;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use netpoll::addr::UnixAddr;
use netpoll::error::{ErrorExt, ErrorKind as Kind, InvalidUnixName, TakenBy};
use netpoll::listener::ListenOptions;
use netpoll::{Addr, Connection, Dialer, Listener};

use socket2::{MsgHdr, Socket};

use crate::support::{
    Folder, LIMIT, Server, block_on, bound, call, eventually, frame, free_listener, free_name,
    invalid_option, rpc,
};

fn unix(path: impl AsRef<Path>) -> Addr {
    UnixAddr::path(path).expect("a short path").into()
}

fn serve(listener: impl Into<Listener>) -> Server {
    Server::start_on(listener.into(), crate::support::builder().pollers(1), rpc)
}

/// Checks that a server answers at `addr`.
fn answered(addr: Addr) {
    block_on(async {
        let mut conn = Dialer::new().dial(addr).await.expect("a server");
        assert_eq!(conn.peer_addr(), addr);
        call(&mut conn, b"hello").await.expect("an answer");
    });
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// The owner of the path for which a bind failed.
fn taken_by(refused: io::Result<Listener>) -> TakenBy {
    let error = refused.expect_err("a path in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let Some(Kind::PathTaken { path, by, .. }) = error.netpoll_kind() else {
        panic!("{error:?}");
    };
    assert!(path.is_absolute());
    by
}

#[test]
fn a_socket_file_exists_with_owner_permissions_only_while_it_is_served() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let server = serve(Listener::unix(&path).unwrap());
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(server.addr, unix(&path));
    answered(unix(&path));
    assert_eq!(server.shut_down(LIMIT), 0);
    assert!(!path.exists());
}

#[test]
fn a_socket_file_has_the_requested_permissions() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let options = ListenOptions::default().mode(0o640);
    let _listener = Listener::bind_with(unix(&path), options).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn the_path_of_a_killed_server_is_reused() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path), "the stale file");
    let _server = serve(Listener::unix(&path).unwrap());
    answered(unix(&path));
}

#[test]
fn the_path_of_a_running_server_is_rejected() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let _server = serve(Listener::unix(&path).unwrap());
    assert_eq!(taken_by(Listener::unix(&path)), TakenBy::Listener);
    answered(unix(&path));
}

#[test]
fn a_file_that_is_not_a_socket_is_never_removed() {
    let folder = Folder::new();
    let (file, inside) = (folder.file("file"), folder.file("folder"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("file"), "precious").unwrap();
    let dead = folder.file("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let link = folder.file("link");
    symlink(&dead, &link).unwrap();
    for path in [&file, &inside, &link] {
        assert_eq!(taken_by(Listener::unix(path)), TakenBy::NotASocket);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "precious");
    assert!(link.is_symlink() && is_socket(&dead));
}

#[test]
fn a_stale_socket_of_another_user_is_not_removed() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    if chown(&path, Some(1), None).is_err() {
        return; // Only root may change the owner of a file.
    }
    assert_eq!(taken_by(Listener::unix(&path)), TakenBy::OtherUser);
    assert!(is_socket(&path));
}

#[test]
fn a_path_rebound_by_another_server_is_not_removed_on_drop() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let first = Listener::unix(&path).unwrap();
    fs::rename(&path, folder.file("moved.sock")).unwrap();
    let second = UnixListener::bind(&path).unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    drop(first);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    UnixStream::connect(&path).unwrap();
    drop(second);
}

#[test]
fn an_invalid_name_is_rejected_with_the_reason() {
    let name = |refused: io::Result<Listener>| {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        match error.netpoll_kind() {
            Some(Kind::InvalidUnixName(why)) => why,
            _ => panic!("{error:?}"),
        }
    };
    let long = "x".repeat(200);
    let too_long = |refused| matches!(refused, InvalidUnixName::TooLong { length: 200, .. });
    assert!(too_long(name(Listener::unix(&long))));
    assert!(too_long(name(Listener::abstract_name(&long))));
    assert_eq!(name(Listener::unix("a\0b")), InvalidUnixName::Nul);
    assert_eq!(name(Listener::unix("")), InvalidUnixName::Empty);
    let text = Listener::bind(format!("unix:{long}")).unwrap_err();
    assert_eq!(text.kind(), ErrorKind::InvalidInput);
    let folder = Folder::new();
    let nowhere = Listener::unix(folder.file("no such folder/a.sock")).unwrap_err();
    assert_eq!(nowhere.raw_os_error(), Some(2), "ENOENT");
}

#[test]
fn an_abstract_name_is_served_and_free_again_at_once() {
    let name = free_name();
    let addr: Addr = format!("unix:@{name}").parse().unwrap();
    for _ in 0..3 {
        let server = serve(Listener::bind(addr).unwrap());
        assert_eq!(server.addr, addr);
        answered(addr);
        let taken = Listener::abstract_name(&name).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        server.shut_down(LIMIT);
    }
}

#[test]
fn one_loop_serves_listeners_of_every_kind() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let listeners = [
        free_listener(),
        free_listener(),
        Listener::unix(&path).unwrap(),
        Listener::abstract_name(free_name()).unwrap(),
    ];
    let addrs: Vec<Addr> = listeners.iter().map(bound).collect();
    let mut builder = crate::support::builder().pollers(2);
    for listener in listeners {
        builder = builder.listen(listener);
    }
    let _server = serve_also(builder);
    addrs.into_iter().for_each(answered);
}

/// Serves one more address besides those of `builder`.
fn serve_also(builder: crate::support::AnyBuilder) -> Server {
    Server::start_on(free_listener(), builder, rpc)
}

#[test]
fn a_std_listener_is_served_and_keeps_its_path() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let server = serve(UnixListener::bind(&path).unwrap());
    answered(unix(&path));
    server.shut_down(LIMIT);
    assert!(is_socket(&path), "the listener keeps the file");
}

#[test]
fn a_listening_descriptor_is_served_and_keeps_its_path() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let given = Listener::unix(&path).unwrap().into_fd();
    assert!(
        is_socket(&path),
        "the owner of the descriptor needs the path"
    );
    let server = serve(Listener::from_fd(given).unwrap());
    answered(unix(&path));
    drop(server);
    assert!(is_socket(&path));
    let blocking = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = blocking.local_addr().unwrap();
    let _server = serve(Listener::from_fd(blocking.into()).unwrap());
    answered(addr.into());
}

#[test]
fn a_descriptor_that_does_not_listen_is_rejected() {
    let listener = free_listener();
    let addr = bound(&listener).as_tcp().unwrap();
    let bound_only = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let wrong: [OwnedFd; 4] = [
        TcpStream::connect(addr).unwrap().into(),
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        fs::File::open("/").unwrap().into(),
        bound_only.unwrap().into(),
    ];
    for fd in wrong {
        let error = Listener::from_fd(fd).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(invalid_option(&error).unwrap().0, "fd");
    }
}

#[test]
fn a_failed_dial_to_a_path_keeps_its_errno() {
    let folder = Folder::new();
    let errno = |path: &str| {
        let dialed = block_on(Dialer::new().dial(unix(folder.file(path))));
        dialed.unwrap_err().raw_os_error()
    };
    assert_eq!(errno("nothing.sock"), Some(2), "ENOENT");
    drop(UnixListener::bind(folder.file("dead.sock")).unwrap());
    assert_eq!(errno("dead.sock"), Some(111), "ECONNREFUSED");
}

/// A listener that accepts nothing, with a full accept queue, and the queued connections.
fn full_queue(path: &Path) -> (Listener, Vec<Connection>) {
    let options = ListenOptions::default().backlog(2);
    let listener = Listener::bind_with(unix(path), options).expect("a free path");
    let dialer = Dialer::new().connect_timeout(Duration::from_millis(50));
    let mut queued = Vec::new();
    while let Ok(conn) = block_on(dialer.dial(unix(path))) {
        queued.push(conn);
        assert!(queued.len() < 100, "the queue is never full");
    }
    (listener, queued)
}

#[test]
fn a_dial_waits_while_the_accept_queue_is_full() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let (listener, mut queued) = full_queue(&path);
    let addr = unix(&path);
    let waiting = std::thread::spawn(move || answered(addr));
    let _server = serve(listener);
    for conn in &mut queued {
        block_on(call(conn, b"was in the queue")).unwrap();
    }
    waiting.join().unwrap();
}

#[test]
fn a_dial_to_a_full_accept_queue_times_out_at_its_deadline() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let (_listener, _queued) = full_queue(&path);
    let start = Instant::now();
    let limit = Duration::from_millis(100);
    let dialer = Dialer::new().connect_timeout(limit);
    let error = block_on(dialer.dial(unix(&path))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= limit);
}

#[test]
fn a_waiting_dial_is_refused_when_the_listener_closes() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let (listener, _queued) = full_queue(&path);
    let addr = unix(&path);
    let waiting = std::thread::spawn(move || block_on(Dialer::new().dial(addr)).map(drop));
    drop(listener);
    let errno = waiting.join().unwrap().unwrap_err().raw_os_error();
    assert!(matches!(errno, Some(2 | 111)), "{errno:?}");
}

#[test]
fn peer_credentials_return_the_process_at_both_ends() {
    let own = std::process::id();
    let handler = handler!([], |conn| {
        let peer = conn.peer_credentials()?;
        assert_eq!(peer.uid, netpoll_sys::process::effective_user());
        conn.reader().skip(1).await?;
        conn.writer().put_u32(peer.pid.unwrap_or(0));
        Ok(())
    });
    let builder = crate::support::builder().pollers(1);
    let listener = Listener::abstract_name(free_name()).unwrap();
    let server = Server::start_on(listener, builder, handler);
    block_on(async {
        let mut conn = Dialer::new().dial(server.addr).await.unwrap();
        assert_eq!(conn.peer_credentials().unwrap().pid, Some(own));
        conn.writer().put_u8(1);
        assert_eq!(conn.reader().read_u32().await.unwrap(), own);
    });
    let tcp = Server::rpc();
    let conn = block_on(Dialer::new().dial(tcp.addr)).unwrap();
    let error = conn.peer_credentials().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(92), "ENOPROTOOPT");
}

#[test]
fn an_unbound_dialer_is_unnamed_at_both_ends() {
    let name = free_name();
    let server = serve(Listener::abstract_name(&name).unwrap());
    let conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    assert_eq!(conn.local_addr().unwrap(), Addr::Unnamed);
    eventually("the connection", || server.handle.connections() == 1);
    drop(conn);
    let (peer, _) = server.endings.recv_timeout(LIMIT).unwrap();
    assert_eq!(peer, Addr::Unnamed);
    assert!(UnixStream::connect_addr(&named(&name)).is_ok());
}

fn named(name: &str) -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name")
}

#[test]
fn bytes_sent_with_a_descriptor_are_read() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let server = serve(Listener::unix(&path).unwrap());
    for round in 0..20 {
        let mut peer = server.connect();
        let request = frame(&[round; 100]);
        let (first, rest) = request.split_at(50);
        send_with_descriptor(&peer.stream, first);
        peer.send(rest);
        assert_eq!(peer.receive(request.len()), request);
    }
}

/// Sends `bytes` with an unrequested descriptor, which is the socket itself.
fn send_with_descriptor(socket: &Socket, bytes: &[u8]) {
    // A `cmsghdr` of a length and two numbers, and a descriptor; see cmsg(3).
    let (level, rights) = (1_i32, 1_i32);
    let mut control = 20_usize.to_ne_bytes().to_vec();
    for word in [level, rights, socket.as_raw_fd(), 0] {
        control.extend_from_slice(&word.to_ne_bytes());
    }
    let bytes = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
    socket.sendmsg(&message, 0).expect("an open socket");
}
