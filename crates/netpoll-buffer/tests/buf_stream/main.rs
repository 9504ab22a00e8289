// SPDX-License-Identifier: MIT OR Apache-2.0
//! The public behaviour of [`netpoll_buffer::BufStream`] over streams with arbitrary read and write
//! sizes: the results equal those of a plain buffer, and a failed call loses no byte.

mod io_traits;
mod memory;
mod reading;
mod refusals;
mod streams;
mod support;
mod writing;
