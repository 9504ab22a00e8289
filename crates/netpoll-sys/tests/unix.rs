// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix sockets: their names, their permissions, and the credentials of the peer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use netpoll_sys::credentials::peer_credentials;
use netpoll_sys::socket::{self, ConnectStatus, ListenOptions};
use netpoll_sys::{Addr, UnixAddr, process, transfer};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

/// A folder that is removed with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("netpoll-sys-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder of our own");
        Self(path)
    }

    fn name(&self, file: &str) -> UnixAddr {
        UnixAddr::path(self.0.join(file)).expect("a short path")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("our own folder");
    }
}

fn abstract_name(test: &str) -> UnixAddr {
    UnixAddr::abstract_name(format!("netpoll-sys-{}-{test}", std::process::id())).expect("a name")
}

fn listen(name: UnixAddr) -> OwnedFd {
    socket::listen(name, ListenOptions::default()).expect("a listener")
}

fn connect(name: UnixAddr) -> io::Result<(OwnedFd, ConnectStatus)> {
    let fd = socket::stream_socket(name)?;
    let how = socket::connect(fd.as_fd(), name)?;
    Ok((fd, how))
}

#[test]
fn paths_and_abstract_names_accept_connections() {
    let folder = Folder::new("both");
    for name in [folder.name("a.sock"), abstract_name("both")] {
        let listener = listen(name);
        assert_eq!(socket::local_addr(&listener).unwrap(), Addr::Unix(name));
        let empty = socket::accept(listener.as_fd()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let (client, how) = connect(name).unwrap();
        assert_eq!(how, ConnectStatus::Connected);
        let (accepted, peer) = socket::accept(listener.as_fd()).unwrap();
        assert_eq!(peer, Addr::Unnamed);
        assert_eq!(socket::peer_addr(&client).unwrap(), Addr::Unix(name));
        assert_eq!(socket::peer_addr(&accepted).unwrap(), Addr::Unnamed);
        transfer::send(client.as_fd(), b"hello").unwrap();
        let mut room = [0; 8];
        assert_eq!(transfer::receive(accepted.as_fd(), &mut room).unwrap(), 5);
        for fd in [listener, client, accepted] {
            assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
            assert!(fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK));
        }
    }
}

#[test]
fn accept_returns_the_name_of_a_named_peer() {
    let name = abstract_name("named peer");
    let listener = listen(name);
    let own = abstract_name("its own");
    let client = socket::stream_socket(own).unwrap();
    let unix = rustix::net::SocketAddrUnix::new_abstract_name(own.as_abstract_name().unwrap());
    rustix::net::bind(&client, &unix.unwrap()).unwrap();
    socket::connect(client.as_fd(), name).unwrap();
    let (_accepted, peer) = socket::accept(listener.as_fd()).unwrap();
    assert_eq!(peer, Addr::Unix(own));
}

#[test]
fn a_path_has_its_permissions_as_soon_as_it_exists() {
    let folder = Folder::new("mode");
    for mode in [0o600, 0o660, 0o700, 0o606] {
        let path = folder.0.join(format!("{mode:o}.sock"));
        let name = UnixAddr::path(&path).unwrap();
        let options = ListenOptions::default().mode(mode);
        // The path has these permissions from its creation: nothing changes it after the bind.
        let watching = std::thread::spawn(move || {
            loop {
                if let Ok(seen) = std::fs::symlink_metadata(&path) {
                    assert!(seen.file_type().is_socket());
                    return seen.permissions().mode() & 0o777;
                }
                std::thread::yield_now();
            }
        });
        let _listener = socket::listen(name, options).unwrap();
        let first_seen = watching.join().unwrap();
        assert_eq!(first_seen & 0o700, mode & 0o700);
        assert_eq!(first_seen & !mode, 0, "{first_seen:o} for {mode:o}");
    }
    let _listener = listen(folder.name("default.sock"));
    let seen = std::fs::symlink_metadata(folder.0.join("default.sock")).unwrap();
    assert_eq!(seen.permissions().mode() & 0o777, 0o600);
}

#[test]
fn errors_about_a_name_keep_their_errno() {
    let folder = Folder::new("errors");
    let name = folder.name("a.sock");
    let errno = |result: io::Result<(OwnedFd, ConnectStatus)>| result.unwrap_err().raw_os_error();
    assert_eq!(errno(connect(name)), Some(2), "ENOENT");
    assert_eq!(errno(connect(abstract_name("unused"))), Some(111));
    let listener = listen(name);
    let refused = |name| socket::listen(name, ListenOptions::default()).unwrap_err();
    assert_eq!(refused(name).kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    assert_eq!(
        refused(name).kind(),
        io::ErrorKind::AddrInUse,
        "a path stays after its listener"
    );
    assert_eq!(errno(connect(name)), Some(111), "ECONNREFUSED");
    let nowhere = folder.name("no such folder/a.sock");
    assert_eq!(refused(nowhere).raw_os_error(), Some(2), "ENOENT");
}

#[test]
fn an_unnamed_address_is_rejected() {
    let listened = socket::listen(Addr::Unnamed, ListenOptions::default());
    assert_eq!(listened.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let fd = socket::stream_socket(Addr::Unnamed).unwrap();
    let connected = socket::connect(fd.as_fd(), Addr::Unnamed);
    assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_full_backlog_is_reported_and_a_retry_succeeds() {
    let name = abstract_name("full");
    let options = ListenOptions::default().backlog(1);
    let listener = socket::listen(name, options).unwrap();
    let mut waiting = Vec::new();
    let last = loop {
        let (fd, how) = connect(name).unwrap();
        if how == ConnectStatus::QueueFull {
            break fd;
        }
        assert_eq!(how, ConnectStatus::Connected);
        waiting.push(fd);
        assert!(waiting.len() < 100, "the queue is full at some point");
    };
    let again = socket::connect(last.as_fd(), name).unwrap();
    assert_eq!(again, ConnectStatus::QueueFull);
    socket::accept(listener.as_fd()).unwrap();
    assert_eq!(
        socket::connect(last.as_fd(), name).unwrap(),
        ConnectStatus::Connected
    );
}

#[test]
fn peer_credentials_of_a_unix_socket_are_returned() {
    let name = abstract_name("credentials");
    let listener = listen(name);
    let (client, _) = connect(name).unwrap();
    let (accepted, _) = socket::accept(listener.as_fd()).unwrap();
    for end in [client, accepted] {
        let peer = peer_credentials(end.as_fd()).unwrap();
        assert_eq!(peer.pid, Some(std::process::id()));
        assert_eq!(peer.uid, process::effective_user());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }
    let fresh = socket::stream_socket(name).unwrap();
    let error = peer_credentials(fresh.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn peer_credentials_of_another_socket_are_an_error() {
    let tcp: Addr = "127.0.0.1:0".parse().unwrap();
    let listener = socket::listen(tcp, ListenOptions::default()).unwrap();
    let error = peer_credentials(listener.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(92), "ENOPROTOOPT");
    let file = std::fs::File::open("/").unwrap();
    let error = peer_credentials(file.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(88), "ENOTSOCK");
}

#[test]
fn only_a_stream_socket_that_listens_is_a_listener() {
    let name = abstract_name("listener");
    let listener = listen(name);
    assert!(socket::is_listener(listener.as_fd()).unwrap());
    let (client, _) = connect(name).unwrap();
    assert!(!socket::is_listener(client.as_fd()).unwrap());
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(!socket::is_listener(datagrams.as_fd()).unwrap());
    let error = socket::is_listener(std::fs::File::open("/").unwrap().as_fd());
    assert_eq!(error.unwrap_err().raw_os_error(), Some(88), "ENOTSOCK");
}

#[test]
fn an_adopted_descriptor_is_close_on_exec_and_non_blocking() {
    let path = Folder::new("adopt");
    let listener = UnixListener::bind(path.0.join("a.sock")).unwrap();
    rustix::io::fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    socket::adopt(listener.as_fd()).unwrap();
    assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
    assert!(fcntl_getfl(&listener).unwrap().contains(OFlags::NONBLOCK));
    let _client = UnixStream::connect(path.0.join("a.sock")).unwrap();
    socket::accept(listener.as_fd()).unwrap();
}
