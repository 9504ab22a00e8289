// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames as a stream.
