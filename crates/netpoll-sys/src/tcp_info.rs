// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP's own state of a connection (`TCP_INFO`): round trips, losses, data in flight.
//!
//! The kernel's struct has grown at its end over the years, and the kernel reports how much of it
//! is filled. Fields that it does not fill are zero here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::syscall::Syscall;

/// TCP's state of a connection, as of the call. Fields that the kernel is too old for are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// The state of the connection.
    pub state: TcpState,
    /// Consecutive retransmissions of the data that is unacknowledged now.
    pub retransmits: u8,
    /// The retransmission timeout: how long the kernel waits before it sends again.
    pub rto: Duration,
    /// The largest segment that is sent, in bytes.
    pub snd_mss: u32,
    /// The largest segment that was received, in bytes.
    pub rcv_mss: u32,
    /// Segments in flight: sent and unacknowledged.
    pub unacked: u32,
    /// Of these, the ones that the peer has received behind a gap (SACK).
    pub sacked: u32,
    /// Of these, the ones that TCP counts as lost.
    pub lost: u32,
    /// Of these, the ones that were sent again.
    pub retrans: u32,
    /// Time since the last data was sent.
    pub last_data_sent: Duration,
    /// Time since the last data was received.
    pub last_data_recv: Duration,
    /// The path MTU: the largest packet that the path takes, in bytes.
    pub pmtu: u32,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The variation of the round-trip time.
    pub rttvar: Duration,
    /// The shortest round-trip time.
    pub min_rtt: Duration,
    /// The slow start threshold, in segments.
    pub snd_ssthresh: u32,
    /// The congestion window, in segments.
    pub snd_cwnd: u32,
    /// The round-trip time that the receiver estimates while it only receives.
    pub rcv_rtt: Duration,
    /// The receive window that TCP tunes for this side, in bytes.
    pub rcv_space: u32,
    /// Retransmitted segments of the whole connection.
    pub total_retrans: u32,
    /// Bytes that the peer has acknowledged; its SYN-ACK counts as one.
    pub bytes_acked: u64,
    /// Bytes received; the peer's SYN counts as one.
    pub bytes_received: u64,
    /// Bytes in the kernel's send buffer that are not sent yet.
    pub notsent_bytes: u32,
    /// The latest delivery rate, in bytes per second.
    pub delivery_rate: u64,
    /// Delivered segments, including retransmitted ones.
    pub delivered: u32,
    /// Of these, the ones that arrived with a congestion mark (ECN CE).
    pub delivered_ce: u32,
}

/// The state of a TCP connection, as RFC 9293 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpState {
    /// Open in both directions.
    Established,
    /// Our SYN is sent and not answered.
    SynSent,
    /// The peer's SYN is answered, and the answer is not acknowledged.
    SynReceived,
    /// Our FIN is sent and not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged, the peer's has not arrived.
    FinWait2,
    /// Both sides have ended; TCP waits for late segments.
    TimeWait,
    /// No connection.
    Closed,
    /// The peer's FIN has arrived, ours is not sent.
    CloseWait,
    /// The peer's FIN has arrived, ours is sent and not acknowledged.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both sides have sent a FIN, and neither is acknowledged.
    Closing,
    /// A state that has no name here.
    Other(u8),
}

impl TcpState {
    fn from_kernel(state: u8) -> Self {
        match state {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

/// Space for the struct of every kernel so far, and some more.
const INFO_SIZE: usize = 320;

/// Returns TCP's state of a socket. One `getsockopt(2)`.
///
/// # Errors
///
/// `EOPNOTSUPP` (`Unsupported`) or `ENOPROTOOPT` for a socket that is not TCP, depending on its
/// kind and on the kernel; `ENOTSOCK`.
pub fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut found = [0; INFO_SIZE];
    let mut length = INFO_SIZE as libc::socklen_t;
    Syscall::Getsockopt.call(|| {
        // SAFETY: `fd` is open while it is borrowed; the two pointers are to locals that outlive
        // the call, and `length` bounds how much of `found` is written. Any bytes are bytes.
        let status = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                found.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    })?;
    Ok(TcpInfo::from_kernel(&found))
}

impl TcpInfo {
    /// Reads the kernel's `struct tcp_info`, whose fields never move.
    fn from_kernel(found: &[u8; INFO_SIZE]) -> Self {
        let u32_at = |at: usize| {
            let bytes = found[at..].first_chunk();
            bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        let u64_at = |at: usize| {
            let bytes = found[at..].first_chunk();
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let micros_at = |at| Duration::from_micros(u32_at(at).into());
        let millis_at = |at| Duration::from_millis(u32_at(at).into());
        Self {
            state: TcpState::from_kernel(found[0]),
            retransmits: found[2],
            rto: micros_at(8),
            snd_mss: u32_at(16),
            rcv_mss: u32_at(20),
            unacked: u32_at(24),
            sacked: u32_at(28),
            lost: u32_at(32),
            retrans: u32_at(36),
            last_data_sent: millis_at(44),
            last_data_recv: millis_at(52),
            pmtu: u32_at(60),
            rtt: micros_at(68),
            rttvar: micros_at(72),
            snd_ssthresh: u32_at(76),
            snd_cwnd: u32_at(80),
            rcv_rtt: micros_at(92),
            rcv_space: u32_at(96),
            total_retrans: u32_at(100),
            bytes_acked: u64_at(120),
            bytes_received: u64_at(128),
            notsent_bytes: u32_at(144),
            min_rtt: micros_at(148),
            delivery_rate: u64_at(160),
            delivered: u32_at(192),
            delivered_ce: u32_at(196),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number for each field.
    #[cfg(target_env = "gnu")]
    fn each_field_its_own() -> TcpInfo {
        TcpInfo {
            state: TcpState::FinWait1,
            retransmits: 3,
            rto: Duration::from_millis(201),
            snd_mss: 1,
            rcv_mss: 2,
            unacked: 3,
            sacked: 4,
            lost: 5,
            retrans: 6,
            last_data_sent: Duration::from_millis(7),
            last_data_recv: Duration::from_millis(8),
            pmtu: 9,
            rtt: Duration::from_micros(10),
            rttvar: Duration::from_micros(11),
            snd_ssthresh: 12,
            snd_cwnd: 13,
            rcv_rtt: Duration::from_micros(14),
            rcv_space: 15,
            total_retrans: 16,
            bytes_acked: 17,
            bytes_received: 18,
            notsent_bytes: 19,
            min_rtt: Duration::from_micros(20),
            delivery_rate: 21,
            delivered: 22,
            delivered_ce: 23,
        }
    }

    /// The offsets are those of the struct as the C library declares it.
    #[test]
    #[cfg(target_env = "gnu")]
    fn every_field_is_read_from_where_the_kernel_puts_it() {
        use std::mem::offset_of;
        let mut found = [0; INFO_SIZE];
        let mut put = |at: usize, bytes: &[u8]| found[at..at + bytes.len()].copy_from_slice(bytes);
        macro_rules! number {
            ($field:ident, $value:expr) => {
                put(offset_of!(libc::tcp_info, $field), &$value.to_ne_bytes())
            };
        }
        number!(tcpi_state, 4u8);
        number!(tcpi_retransmits, 3u8);
        number!(tcpi_rto, 201_000u32);
        number!(tcpi_snd_mss, 1u32);
        number!(tcpi_rcv_mss, 2u32);
        number!(tcpi_unacked, 3u32);
        number!(tcpi_sacked, 4u32);
        number!(tcpi_lost, 5u32);
        number!(tcpi_retrans, 6u32);
        number!(tcpi_last_data_sent, 7u32);
        number!(tcpi_last_data_recv, 8u32);
        number!(tcpi_pmtu, 9u32);
        number!(tcpi_rtt, 10u32);
        number!(tcpi_rttvar, 11u32);
        number!(tcpi_snd_ssthresh, 12u32);
        number!(tcpi_snd_cwnd, 13u32);
        number!(tcpi_rcv_rtt, 14u32);
        number!(tcpi_rcv_space, 15u32);
        number!(tcpi_total_retrans, 16u32);
        number!(tcpi_bytes_acked, 17u64);
        number!(tcpi_bytes_received, 18u64);
        number!(tcpi_notsent_bytes, 19u32);
        number!(tcpi_min_rtt, 20u32);
        number!(tcpi_delivery_rate, 21u64);
        number!(tcpi_delivered, 22u32);
        number!(tcpi_delivered_ce, 23u32);
        assert_eq!(TcpInfo::from_kernel(&found), each_field_its_own());
    }
}
