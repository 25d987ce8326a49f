//! The golden vectors of `spec/vectors`: exact bytes both ways, and refused input.
//!
//! A new case is written with `"hex": ""` (or `"text": ""`), a new error code
//! needs nothing; then
//! `cargo test -p waymesh-proto --test vectors -- --ignored` fills in what is
//! empty. It never changes what is there: bytes that drift fail here, and
//! whoever means it empties them by hand, in a diff that says so.

mod vectors {
    pub(crate) mod envelope;
    pub(crate) mod errors;
    pub(crate) mod file;
    pub(crate) mod frames;
    pub(crate) mod ids;
    pub(crate) mod mailbox;
    pub(crate) mod messages;
}
