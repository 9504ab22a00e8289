// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reason of a rejected call, for all test programs of the crate.

use std::error::Error;
use std::fmt::Debug;
use std::io;

/// Returns the reason of an error, which has to be an `E` in an error of `kind`.
#[track_caller]
pub(crate) fn reason<E: Error + Copy + 'static, T: Debug>(
    result: io::Result<T>,
    kind: io::ErrorKind,
) -> E {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind);
    *error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<E>())
        .expect("a reason of this type")
}
