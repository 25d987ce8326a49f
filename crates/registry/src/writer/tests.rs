//! How batches are made, and what becomes of failures.
