//! Measurements of waymesh and of its rivals, in the same run.
//!
//! Every contestant pays the same price: its far side is a child process of
//! the same binary, started with a [`Role`], and both sides run on a tokio
//! runtime of one thread. Measures take turns in short rounds, so that noise
//! of the machine hits all of them alike. One file a contestant in
//! `contestant/`, one file a measure in `measure/`.

#![forbid(unsafe_code)]

mod child;
mod contestant;
mod error;
mod figure;
mod measure;
mod procfs;
mod relay;
mod role;
mod settings;

pub use contestant::Contestant;
pub use error::BenchError;
pub use figure::{Figure, Metric, Unit};
pub use measure::{Measure, run};
pub use role::{Role, When};
pub use settings::Settings;
