// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user of [`netpoll_buffer::BufStream`] sees over streams that give and take as they like:
//! the results are those of a plain buffer, and a call that fails has lost nothing.

mod io_traits;
mod memory;
mod reading;
mod refusals;
mod streams;
mod support;
mod writing;
