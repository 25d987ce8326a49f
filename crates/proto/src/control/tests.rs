//! Behaviour of the decoders.

use proptest::prelude::*;

use super::*;
use crate::api::SkillSpec;
use crate::error::Code;
use crate::limits::{SKILL_MAX_BYTES, SKILLS_MAX, SKILLS_MAX_BYTES};

fn code_of(bytes: &[u8]) -> Option<Code> {
    ClientMessage::decode(bytes).err().map(|e| e.code())
}

fn skill(name: &str, description_bytes: usize) -> SkillSpec {
    SkillSpec {
        name: name.parse().expect("a skill name"),
        description: Some("d".repeat(description_bytes)),
        schema: None,
        idempotent: false,
    }
}

fn overhead() -> usize {
    serde_json::to_vec(&skill("s", 0)).expect("JSON").len()
}

#[test]
fn a_message_of_unknown_type_says_so() {
    assert_eq!(code_of(br#"{"type":"dance"}"#), Some(Code::UnknownVerb));
}

#[test]
fn a_message_without_type_or_of_another_shape_is_a_bad_request() {
    for text in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"resolve"}"#,
        r#"{"type":"resolve","name":"NOT A NAME"}"#,
        r#"{"type":"resolve","name":"a"} trailing"#,
        r#"{"type":"find","id":"x"}"#,
        r#"{"type":"signal","signal":{"body":1,"sig":""}}"#,
    ] {
        assert_eq!(code_of(text.as_bytes()), Some(Code::BadRequest), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_own_code() {
    assert_eq!(code_of(&[b'{', 0xff, b'}']), Some(Code::NotUtf8));
}

#[test]
fn a_message_of_the_largest_size_is_read_and_one_byte_more_is_too_large() {
    let mut text = ClientMessage::WatchAll.encode().into_bytes();
    text.resize(CONTROL_MAX_BYTES, b' ');
    assert_eq!(code_of(&text), None);
    text.push(b' ');
    assert_eq!(code_of(&text), Some(Code::TooLarge));
}

#[test]
fn a_key_of_a_newer_version_is_ignored() {
    let text = br#"{"type":"resolve","name":"a","colour":"blue"}"#;
    assert!(ClientMessage::decode(text).is_ok());
}

#[test]
fn as_many_skills_as_the_limit_pass_and_one_more_does_not() {
    let mut skills: Vec<_> = (0..SKILLS_MAX)
        .map(|n| skill(&format!("s{n}"), 0))
        .collect();
    assert!(check_skills(&skills).is_ok());
    skills.push(skill("more", 0));
    assert_eq!(
        check_skills(&skills),
        Err(SkillsError::TooMany(SKILLS_MAX + 1))
    );
}

#[test]
fn a_skill_of_the_largest_size_passes_and_one_byte_more_does_not() {
    let largest = SKILL_MAX_BYTES - overhead();
    assert_eq!(check_skills(&[skill("s", largest)]), Ok(SKILL_MAX_BYTES));
    let refused = check_skills(&[skill("s", largest + 1)]);
    assert_eq!(refused.map_err(|e| e.code()), Err(Code::TooLarge));
}

#[test]
fn skills_are_refused_when_all_together_are_too_large_or_one_is_there_twice() {
    let largest = SKILL_MAX_BYTES - overhead() - 1;
    let many = SKILLS_MAX_BYTES / SKILL_MAX_BYTES;
    let mut skills: Vec<_> = (10..10 + many)
        .map(|n| skill(&format!("{n}"), largest))
        .collect();
    assert_eq!(check_skills(&skills), Ok(SKILLS_MAX_BYTES));
    skills.push(skill("one-more", 0));
    assert_eq!(
        check_skills(&skills).map_err(|e| e.code()),
        Err(Code::TooLarge)
    );
    let twice = check_skills(&[skill("s", 0), skill("s", 0)]);
    assert_eq!(twice.map_err(|e| e.code()), Err(Code::BadRequest));
}

proptest! {
    #[test]
    fn decoding_any_bytes_never_panics(bytes: Vec<u8>) {
        let _ = ClientMessage::decode(&bytes);
        let _ = ServerMessage::decode(&bytes);
    }

    #[test]
    fn decoding_a_damaged_message_never_panics(cut in 0usize..200, flip: u8) {
        let text = r#"{"type":"find","id":"0190a0a0-0000-7000-8000-000000000000","name":"alice","skill":"echo"}"#;
        let mut bytes = text.as_bytes().to_vec();
        let at = cut % bytes.len();
        bytes[at] ^= flip;
        let _ = ClientMessage::decode(&bytes);
        let _ = ClientMessage::decode(&bytes[..at]);
    }

    #[test]
    fn every_login_reads_back(mesh: [u8; 32], nonce: [u8; 32], id: [u8; 32], inc: u64, instance: [u8; 16], sig in any::<[u8; 32]>(), introduce: bool) {
        let mut long = [7; 64];
        long[..32].copy_from_slice(&sig);
        let login = ClientMessage::Login(Login {
            mesh: MeshKey::from_bytes(mesh),
            origin: "http://127.0.0.1:9".parse().expect("an origin"),
            nonce: Nonce::from_bytes(nonce),
            name: "alice".parse().expect("a name"),
            agent_id: crate::AgentId::from_bytes(id),
            incarnation: crate::Incarnation::new(inc),
            instance: InstanceId::from_bytes(instance),
            certificate: "a.b.c".parse().expect("a certificate"),
            sealing: "a.b.c".parse().expect("a statement"),
            sig: Signature::from_bytes(long),
            introduce,
        });
        prop_assert_eq!(ClientMessage::decode(login.encode().as_bytes()), Ok(login));
    }
}
