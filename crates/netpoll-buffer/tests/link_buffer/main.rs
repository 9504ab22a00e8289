// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user of [`netpoll_buffer::LinkBuffer`] sees, method by method: contents, refusals, and
//! which calls copy, share or let go of memory.

mod aliasing;
mod bytes_traits;
mod conversions;
mod foreign;
mod growing;
mod hazards;
mod try_put;
mod io_traits;
mod kernel;
mod contiguous_tail;
mod memory;
mod reading;
mod refusals;
mod reservations;
mod searching;
mod sharing;
mod support;
mod writing;
