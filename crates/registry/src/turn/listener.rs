//! Reads one UDP port that clients send to.
//!
//! What reads the bytes of strangers does not panic; if it did after all, one
//! read would be lost, and not the port.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use tokio::task::yield_now;
use waymesh_net::udp::{Socket, Wanted};

use super::hub::Hub;

/// Reads before the next task has its turn; each is up to four buffers of 64
/// datagrams. Chosen: some hundred microseconds of work.
pub(super) const READS_A_TURN: usize = 4;

/// Reads until the hub is gone.
pub(super) async fn run(hub: Weak<RefCell<Hub>>, bound: SocketAddr, socket: Rc<Socket>) {
    loop {
        if let Err(error) = socket.ready(Wanted::Read).await {
            tracing::error!(%error, %bound, "a UDP port cannot be read any more");
            return;
        }
        for _ in 0..READS_A_TURN {
            let Some(hub) = hub.upgrade() else { return };
            let read = AssertUnwindSafe(|| hub.borrow_mut().read_listener(bound, &socket));
            match catch_unwind(read).unwrap_or_else(|_| Err(io::Error::other("a panic"))) {
                Ok(()) => {}
                Err(error) if super::would_block(&error) => break,
                // A report about an earlier datagram; the next read goes on.
                Err(error) => tracing::trace!(%error, "a read failed"),
            }
        }
        yield_now().await;
    }
}
