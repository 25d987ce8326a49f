//! Reads the socket of one allocation, which peers send to.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use tokio::task::yield_now;
use waymesh_net::turn::server::AllocationId;
use waymesh_net::udp::{Socket, Wanted};

use super::hub::Hub;
use super::listener::READS_A_TURN;

/// Reads until it is aborted, or the hub is gone.
pub(super) async fn run(hub: Weak<RefCell<Hub>>, id: AllocationId, socket: Rc<Socket>) {
    loop {
        if let Err(error) = socket.ready(Wanted::Read).await {
            tracing::warn!(%error, "the socket of a relay is lost");
            return;
        }
        for _ in 0..READS_A_TURN {
            let Some(hub) = hub.upgrade() else { return };
            let result = hub.borrow_mut().read_relay(id, &socket);
            match result {
                Ok(()) => {}
                Err(error) if super::would_block(&error) => break,
                Err(error) => tracing::trace!(%error, "a read failed"),
            }
        }
        yield_now().await;
    }
}
