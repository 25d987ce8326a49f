//! Golden bytes of everything that is signed or sealed: `spec/vectors/*.json`.
//!
//! Run with `WAYMESH_BLESS=1` to write the files anew after a change of format.

mod membership;
mod mesh;
mod wire;
