//! The waymesh node: one agent's identity and links, as a library and as the
//! sidecar process that agents in other languages attach to.
//!
//! `driver` is the one loop; `client` is how programs reach it, [`ipc`] how
//! other processes do; [`registry`] keeps the connection to the control plane;
//! `members` says whom to believe and `membership` who the node is itself;
//! `home` is what outlives the process. Core decides, net moves bytes, trust
//! proves; they meet only here.

mod agent;
mod book;
mod client;
mod driver;
mod examinations;
mod home;
mod identity;
pub mod ipc;
mod linger;
mod marks;
mod members;
mod membership;
pub mod metrics;
mod node;
pub mod registry;
mod schema;
mod sealing_keys;
pub mod skills;

pub use agent::{Agent, Answer, Call, Events, Inbox, Message, SendOptions, Sent, Wait};
pub use client::{Client, ClientSender, NodeGone, new_id};
pub use driver::Condition;
pub use home::{Home, HomeError};
pub use identity::{Rotated, rotate_identity};
pub use membership::{Invitation, Membership, TlsPin};
pub use node::{Node, NodeConfig, NodeInfo, StartError};
pub use registry::{PendingJoin, Visit};
pub use sealing_keys::SealingLook;
pub use waymesh_core::Topology;
pub use waymesh_core::app::{Command, Event, InboundId, Storing};
pub use waymesh_core::policy::{Policy, Rule};
pub use waymesh_net::control::ProxyEnvironment;
pub use waymesh_net::webrtc::{CandidatePolicy, EndpointConfig};
