//! The control connection against small servers on loopback: whom TLS trusts,
//! proxies, carriers, and what nobody should send.

mod carriers;
mod certificates;
mod fake;
mod first_use;
mod hostile;
mod poll;
mod proxies;
mod requests;
mod tls;
mod websockets;
