// SPDX-License-Identifier: MIT OR Apache-2.0
//! The public behaviour of [`netpoll_buffer::LinkBuffer`], method by method: contents, errors, and
//! which calls copy, share or free memory.

mod aliasing;
mod bytes_traits;
mod contiguous_tail;
mod conversions;
mod foreign;
mod growing;
mod hazards;
mod io_traits;
mod kernel;
mod memory;
mod reading;
mod refusals;
mod reservations;
mod searching;
mod sharing;
mod support;
mod try_put;
mod writing;
