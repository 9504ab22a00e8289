// SPDX-License-Identifier: MIT OR Apache-2.0
//! Integrations with other crates, each behind a feature of the crate's name.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tokio")]
mod tokio_io;
#[cfg(feature = "tower")]
mod tower;
