//! The waymesh node: one agent's identity and links, as a library and as the
//! sidecar process that agents in other languages attach to.
//!
//! `driver` is the one loop; `client` is how programs reach it, [`ipc`] how
//! other processes do; [`registry`] keeps the connection to the control plane;
//! `home` is what outlives the process. Core decides, net moves bytes, trust
//! proves; they meet only here.

mod agent;
mod client;
mod driver;
mod home;
pub mod ipc;
mod linger;
pub mod metrics;
mod node;
mod pins;
pub mod registry;
mod schema;
pub mod skills;

pub use agent::{Agent, Answer, Call, Events, Inbox, Message, SendOptions, Sent, Wait};
pub use client::{Client, ClientSender, NodeGone, new_id};
pub use driver::Condition;
pub use home::{Home, HomeError};
pub use node::{Node, NodeConfig, NodeInfo, StartError};
pub use waymesh_core::Topology;
pub use waymesh_core::app::{Command, Event, InboundId};
pub use waymesh_net::webrtc::EndpointConfig;
