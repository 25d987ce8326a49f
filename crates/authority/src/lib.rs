//! The holder of the mesh key.
