// SPDX-License-Identifier: MIT OR Apache-2.0
//! Integrations with other crates, each behind a feature of the crate's name.

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tower")]
mod tower;
