//! Who is introduced to whom, when, and what it costs.

use waymesh_proto::control::{INTRODUCED_MAX_AGENTS, INTRODUCED_MAX_BYTES, MemberRecord};

use super::*;

/// Everybody who was introduced to a connection, asked for or not.
fn introduced(effects: &[Effect], conn: u64) -> Vec<MemberRecord> {
    let news = effects.iter().filter_map(|effect| match effect {
        Effect::Introduce { to, message } if to.contains(&ConnId(conn)) => Some(message),
        _ => None,
    });
    let messages = told(effects, conn).into_iter().chain(news);
    let records = messages.filter_map(|message| match message {
        ServerMessage::Introduced { agents } => Some(agents.clone()),
        _ => None,
    });
    records.flatten().collect()
}

fn names(effects: &[Effect], conn: u64) -> Vec<String> {
    let records = introduced(effects, conn).into_iter();
    records
        .map(|record| record.agent.name.to_string())
        .collect()
}

/// A login of the agent with this number: a name, a key and a connection of its own.
fn nth_login(n: usize) -> VerifiedLogin {
    let mut login = login(&format!("agent-{n:05}"), 1, 1);
    login.agent_id = AgentId::from_bytes(std::array::from_fn(|i| (n >> (8 * (i % 8))) as u8));
    login.keys = vec![login.agent_id];
    login
}

/// A login of a node that wants to be told of others.
fn curious(login: VerifiedLogin) -> VerifiedLogin {
    let introduce = true;
    VerifiedLogin { introduce, ..login }
}

#[test]
fn whoever_wants_it_is_introduced_to_all_behind_the_welcome_and_then_to_those_that_come() {
    let mut bench = Bench::new();
    bench.connect(2, login("b", 2, 1));
    let skills = vec![skill("echo")];
    bench.say(2, ClientMessage::Skills { skills });
    let all = bench.connect(1, curious(login("a", 1, 1)));
    assert_eq!(names(&all, 1), ["a", "b"]);
    let is_welcome = |effect: &Effect| matches!(effect, Effect::Welcome { .. });
    let welcome = all.iter().position(is_welcome).expect("a welcome");
    assert_eq!(names(&all[..welcome], 1), [""; 0]);
    let has_skills = |record: &MemberRecord| !record.agent.skills.is_empty();
    assert!(!introduced(&all, 1).iter().any(has_skills));
    let comes = bench.connect(3, login("c", 3, 1));
    assert_eq!(names(&comes, 1), ["c"]);
    assert_eq!(names(&comes, 3), [""; 0], "it does not want it");
}

#[test]
fn new_papers_are_told_and_who_comes_and_goes_is_not() {
    let mut bench = Bench::new();
    bench.connect(2, login("b", 2, 1));
    bench.connect(1, curious(login("a", 1, 1)));
    let skills = vec![skill("echo")];
    let mut quiet = bench.say(2, ClientMessage::Skills { skills });
    quiet.extend(bench.close(2));
    quiet.extend(bench.connect(3, login("b", 2, 2)));
    assert_eq!(names(&quiet, 1), [""; 0]);
    let key: waymesh_proto::membership::SealingStatement = "newer".parse().expect("a token");
    bench
        .rules
        .handle_sealing(bench.now, ConnId(3), key.clone());
    let told = introduced(&bench.effects(), 1);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].sealing, key);
    let mut longer = login("b", 2, 3);
    longer.certificate = "longer".parse().expect("a token");
    longer.sealing = key;
    assert_eq!(names(&bench.connect(4, longer), 1), ["b"]);
}

#[test]
fn nobody_is_introduced_before_its_name_is_durable_or_with_a_certificate_that_has_ended() {
    let mut bench = Bench::new();
    bench.connect(1, curious(login("a", 1, 1)));
    bench.outcome = None;
    assert_eq!(names(&bench.connect(2, login("b", 2, 1)), 1), [""; 0]);
    assert_eq!(names(&bench.answer_all(Ok(())), 1), ["b"]);
    bench.outcome = Some(Ok(()));
    let mut ended = login("c", 3, 1);
    (ended.expires, ended.renewable_until) = (bench.now, Some(far()));
    assert_eq!(names(&bench.connect(3, ended), 1), [""; 0]);
    let extended = Extended {
        extension: "the-extension".parse().expect("a token"),
        certificate: "longer".parse().expect("a token"),
        expires: far(),
    };
    bench.rules.handle_extended(bench.now, ConnId(3), extended);
    assert_eq!(names(&bench.effects(), 1), ["c"]);
}

#[test]
fn after_a_restart_of_the_registry_those_that_come_back_are_no_news() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.restart();
    let all = bench.connect(1, curious(login("a", 1, 1)));
    assert_eq!(names(&all, 1), ["a", "b"]);
    assert_eq!(names(&bench.connect(2, login("b", 2, 1)), 1), [""; 0]);
}

#[test]
fn a_mesh_of_as_many_agents_as_the_limit_is_introduced_and_one_agent_more_ends_that() {
    let mut bench = Bench::new();
    for n in 1..INTRODUCED_MAX_AGENTS {
        bench.connect(n as u64, nth_login(n));
    }
    let all = bench.connect(0, curious(nth_login(0)));
    assert_eq!(introduced(&all, 0).len(), INTRODUCED_MAX_AGENTS);
    let conn = INTRODUCED_MAX_AGENTS as u64;
    let one_more = curious(nth_login(INTRODUCED_MAX_AGENTS));
    let effects = bench.connect(conn, one_more);
    assert_eq!(names(&effects, 0), [""; 0]);
    assert_eq!(names(&effects, conn), [""; 0]);
}

#[test]
fn papers_of_as_many_bytes_as_the_limit_are_introduced_and_more_are_not() {
    for (more, count) in [(0, 64), (1, 0)] {
        let mut bench = Bench::new();
        for n in (0..64).rev() {
            let mut login = curious(nth_login(n));
            // Name, id, incarnation and keys count as 256 bytes.
            let rest = INTRODUCED_MAX_BYTES / 64 - 256 - login.sealing.as_str().len();
            let bytes = if n == 0 { rest + more } else { rest };
            login.certificate = "c".repeat(bytes).parse().expect("a token");
            let effects = bench.connect(n as u64, login);
            if n == 0 {
                assert_eq!(introduced(&effects, 0).len(), count);
            }
        }
    }
}

#[test]
fn a_mass_start_of_a_thousand_agents_costs_no_more_than_that_of_a_small_mesh() {
    let mut bench = Bench::new();
    let mut records = 0;
    for n in 0..1_000 {
        for effect in bench.connect(n as u64, curious(nth_login(n))) {
            let (to, message) = match effect {
                Effect::Introduce { to, message } | Effect::Send { to, message } => (to, message),
                _ => continue,
            };
            if let ServerMessage::Introduced { agents } = message {
                records += to.len() * agents.len();
            }
        }
    }
    assert!(records > 0);
    let all = INTRODUCED_MAX_AGENTS * INTRODUCED_MAX_AGENTS;
    assert!(records <= all, "{records}");
}
