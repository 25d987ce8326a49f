//! Secret numbers for those who are given their randomness.

/// 32 bytes that nobody can guess.
pub(super) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).expect("the system has randomness");
    seed
}
