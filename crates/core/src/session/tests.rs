#![expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn steps(sessions: &mut Sessions) -> Vec<Step> {
    std::iter::from_fn(|| sessions.poll_step()).collect()
}

const MINE: LinkId = LinkId::new(1);
const THEIRS: LinkId = LinkId::new(2);

#[test]
fn the_polite_side_gives_way_and_the_other_does_not() {
    let now = Instant::now();
    for manners in [Manners::Polite, Manners::Firm] {
        let polite = manners == Manners::Polite;
        let mut sessions = Sessions::new(manners);
        sessions.start(now, session(1), MINE);
        steps(&mut sessions);
        let taken = sessions.handle_offer(now, session(2), "sdp".into(), THEIRS);
        assert_eq!(taken, Ok(polite));
        let wanted = [
            Step::Link(LinkCommand::Close { link: MINE }),
            Step::Link(LinkCommand::Accept {
                link: THEIRS,
                sdp: "sdp".into(),
            }),
        ];
        assert_eq!(
            steps(&mut sessions),
            if polite { wanted.to_vec() } else { Vec::new() }
        );
    }
}

#[test]
fn the_winner_whose_offer_was_lost_takes_the_other_one_in_the_end() {
    let now = Instant::now();
    let mut sessions = Sessions::new(Manners::Firm);
    sessions.start(now, session(1), MINE);
    let taken = sessions.handle_offer(now, session(2), "sdp".into(), THEIRS);
    assert_eq!(taken, Ok(false));
    let due = now + GLARE_PATIENCE;
    assert_eq!(sessions.poll_timeout(), Some(due));
    assert_eq!(sessions.poll_shelved(due - Duration::from_millis(1)), None);
    assert_eq!(sessions.poll_shelved(due), Some((session(2), "sdp".into())));
    assert_eq!(sessions.poll_quit(), Some((MINE, Quit::GaveWay)));
    let taken = sessions.handle_offer(due, session(2), "sdp".into(), THEIRS);
    assert_eq!(taken, Ok(true));
}

#[test]
fn the_winner_that_was_answered_keeps_its_own() {
    let now = Instant::now();
    let mut sessions = Sessions::new(Manners::Firm);
    sessions.start(now, session(1), MINE);
    let taken = sessions.handle_offer(now, session(2), "sdp".into(), THEIRS);
    assert_eq!(taken, Ok(false));
    sessions.handle_answer(session(1), "answer".into());
    assert_eq!(sessions.poll_shelved(now + GLARE_PATIENCE), None);
    assert_eq!(sessions.poll_quit(), None);
}

#[test]
fn an_offer_that_comes_again_is_refused_as_replayed() {
    let now = Instant::now();
    let mut sessions = Sessions::new(Manners::Polite);
    assert_eq!(
        sessions.handle_offer(now, session(1), "sdp".into(), THEIRS),
        Ok(true)
    );
    let refused = sessions.handle_offer(now, session(1), "sdp".into(), MINE);
    assert_eq!(refused.expect_err("replayed").code, Code::Replayed);
}

#[test]
fn candidates_that_come_before_their_description_are_kept_for_it() {
    let now = Instant::now();
    let mut sessions = Sessions::new(Manners::Firm);
    sessions.handle_candidate(session(1), "early".into());
    sessions.handle_candidate(session(9), "of another".into());
    let taken = sessions.handle_offer(now, session(1), "sdp".into(), THEIRS);
    assert_eq!(taken, Ok(true));
    let candidate = Step::Link(LinkCommand::Candidate {
        link: THEIRS,
        candidate: "early".into(),
    });
    assert_eq!(steps(&mut sessions).last(), Some(&candidate));
}

#[test]
fn an_attempt_that_takes_too_long_ends_and_the_next_waits() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut sessions = Sessions::new(Manners::Firm);
    sessions.start(now, session(1), MINE);
    let late = sessions.poll_timeout().expect("a deadline");
    assert!(!sessions.handle_timeout(late - Duration::from_millis(1), &mut rng));
    assert!(sessions.handle_timeout(late, &mut rng));
    assert!(!sessions.is_trying());
    assert!(sessions.not_before().expect("a pause") > late);
    assert_eq!(
        steps(&mut sessions).last(),
        Some(&Step::Link(LinkCommand::Close { link: MINE }))
    );
}

#[test]
fn an_answer_to_another_session_is_ignored() {
    let now = Instant::now();
    let mut sessions = Sessions::new(Manners::Firm);
    sessions.start(now, session(1), MINE);
    steps(&mut sessions);
    sessions.handle_answer(session(2), "sdp".into());
    assert_eq!(steps(&mut sessions), []);
    sessions.handle_answer(session(1), "sdp".into());
    assert_eq!(steps(&mut sessions).len(), 1);
    sessions.handle_answer(session(1), "again".into());
    assert_eq!(steps(&mut sessions), []);
}

#[test]
fn an_offer_that_comes_to_nothing_is_rejected_and_an_own_one_is_not() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut sessions = Sessions::new(Manners::Polite);
    let taken = sessions.handle_offer(now, session(1), "garbage".into(), THEIRS);
    assert_eq!(taken, Ok(true));
    assert!(sessions.handle_down(now, THEIRS, "unusable", &mut rng));
    let last = steps(&mut sessions).pop();
    let Some(Step::Signal {
        signal: Signal::Reject { error },
        ..
    }) = last
    else {
        panic!("{last:?}");
    };
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::LinkFailed, "unusable")
    );
    sessions.start(now, session(2), MINE);
    steps(&mut sessions);
    assert!(sessions.handle_down(now, MINE, "unusable", &mut rng));
    assert_eq!(steps(&mut sessions), []);
}
