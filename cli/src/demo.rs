// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll demo`.
use crate::arguments::DemoArgs;
use crate::failure::Failure;
pub(crate) fn run(_: &DemoArgs) -> Result<(), Failure> {
    Err(Failure::new("not there yet"))
}
