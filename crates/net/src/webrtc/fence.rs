//! Keeps a panic inside the WebRTC stack from ending more than one link.
//!
//! str0m and what is under it hold asserts, some of them near bytes that a peer
//! chose. A link whose stack panicked is dropped whole, so its broken state is
//! never looked at again: that is what makes the unwind safe.

use std::panic::{AssertUnwindSafe, catch_unwind};

use waymesh_proto::link::DownReason;

/// Runs `act` and turns a panic into the end of its link.
///
/// # Errors
///
/// What `act` returns, or [`DownReason::Local`] when it panicked.
pub(super) fn fence<T>(
    panics: &mut u64,
    act: impl FnOnce() -> Result<T, DownReason>,
) -> Result<T, DownReason> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        *panics += 1;
        Err(DownReason::Local("the WebRTC stack panicked".into()))
    })
}
