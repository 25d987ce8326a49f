//! Whole nodes with a registry that lies.
//!
//! Each case is one thing that a registry, or somebody in its place, can do
//! with what it has: its own key and all that passes through it. In each, no
//! node ever reaches a wrong peer, the registry never sees what is written,
//! and somebody is told what happened, by a code or by a counter.

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident => $run:expr;)*) => {
        /// The names of the cases here.
        pub(crate) const CASES: &[&str] = &[$(stringify!($name)),*];

        $($(#[$doc])* #[tokio::test] async fn $name() { $run.await })*
    };
}

mod directory;
mod forge;
mod introductions;
mod login;
mod mailbox;
mod membership;
mod registry;
mod scene;
mod signals;

#[test]
fn every_case_has_a_name_of_its_own_and_their_number_is_told() {
    let all = [
        directory::CASES,
        introductions::CASES,
        login::CASES,
        mailbox::CASES,
        membership::CASES,
        signals::CASES,
    ];
    let mut names = all.concat();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    println!("{count} cases of a hostile registry");
}
