// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other crates are to netpoll, each behind a feature of its name.

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tower")]
mod tower;
