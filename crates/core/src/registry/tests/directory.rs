//! How the directory is asked: finds, pages, long answers and their limits.

use waymesh_proto::control::check_skills;

use super::*;

#[test]
fn agents_are_found_by_name_and_by_skill() {
    let mut bench = Bench::new();
    for (conn, name) in [(1, "a"), (2, "b")] {
        bench.connect(conn, login(name, u8::try_from(conn).expect("small"), 1));
    }
    bench.say(
        2,
        ClientMessage::Skills {
            skills: vec![skill("echo")],
        },
    );
    let find = |name: Option<&str>, skill: Option<&str>| {
        let name = name.map(|n| n.parse().expect("a name"));
        let skill = skill.map(|s| s.parse().expect("a skill name"));
        let query = Query {
            name,
            skill,
            after: None,
        };
        let limit = NonZeroUsize::new(10).expect("not zero");
        let found = bench.rules.find(&query, limit).agents;
        found.iter().map(|r| r.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find(None, None), ["a", "b"]);
    assert_eq!(find(Some("a"), None), ["a"]);
    assert_eq!(find(None, Some("echo")), ["b"]);
    assert_eq!(find(Some("a"), Some("echo")), [""; 0]);
    assert_eq!(find(Some("c"), None), [""; 0]);
}

/// A login of the agent with this number: a name, a key and a connection of its own.
fn nth_login(n: u64) -> VerifiedLogin {
    let mut login = login(&format!("agent-{n:05}"), 1, 1);
    login.agent_id = AgentId::from_bytes(std::array::from_fn(|i| (n >> (8 * (i % 8))) as u8));
    login.keys = vec![login.agent_id];
    login
}

/// Skills of about this many bytes, at most as many as one agent may have.
fn skills_of(bytes: usize) -> Vec<SkillSpec> {
    let skills = (0..bytes / 16_000).map(|n| {
        let mut skill = skill(&format!("s{n}"));
        skill.description = Some("d".repeat(15_900));
        skill
    });
    skills.collect()
}

#[test]
fn pages_carry_every_agent_once_and_as_many_as_were_asked_for() {
    let mut bench = Bench::new();
    for n in 0..25 {
        bench.connect(n, nth_login(n));
    }
    let limit = NonZeroUsize::new(10).expect("not zero");
    let mut query = Query::default();
    let (mut names, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let page = bench.rules.find(&query, limit);
        sizes.push(page.agents.len());
        names.extend(page.agents.into_iter().map(|agent| agent.name));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    let all: Vec<Name> = bench.found().into_iter().map(|agent| agent.name).collect();
    assert_eq!(names, all);
}

#[test]
fn a_page_ends_early_where_agents_are_large() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.connect(n, nth_login(n));
        let skills = skills_of(240_000);
        bench.say(n, ClientMessage::Skills { skills });
    }
    let page = bench.rules.find(&Query::default(), NonZeroUsize::MAX);
    assert_eq!(page.agents.len(), PAGE_MAX_BYTES / 240_000);
    assert_eq!(page.next, page.agents.last().map(|last| last.name.clone()));
}

#[test]
fn a_long_answer_waits_for_room_before_each_part() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.connect(n, nth_login(n));
        let skills = skills_of(240_000);
        bench.say(n, ClientMessage::Skills { skills });
    }
    let conn = ConnId(0);
    let rules = &mut bench.rules;
    rules.handle_message(bench.now, conn, ClientMessage::WatchAll);
    for part in 0..3 {
        assert_eq!(rules.poll_effect(), Some(Effect::AwaitRoom { conn }));
        assert_eq!(rules.poll_effect(), None, "part {part} does not wait");
        rules.handle_room(conn);
        assert!(matches!(rules.poll_effect(), Some(Effect::Send { .. })));
    }
    assert_eq!(rules.poll_effect(), None);
    rules.handle_room(conn);
    assert_eq!(rules.poll_effect(), None);
}

#[test]
fn as_many_questions_as_the_limit_wait_and_one_more_is_refused() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    for n in 0..=LISTINGS_MAX {
        let id = MessageId::from_bytes((n as u128).to_be_bytes());
        let (name, skill) = (None, None);
        let find = ClientMessage::Find { id, name, skill };
        bench.rules.handle_message(bench.now, ConnId(1), find);
    }
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 1), Some(Code::QueueFull));
    let is_found = |message: &&&ServerMessage| matches!(message, ServerMessage::Found { .. });
    let answers = told(&effects, 1);
    assert_eq!(answers.iter().filter(is_found).count(), LISTINGS_MAX);
}

#[test]
fn skills_of_all_agents_fit_into_one_budget_and_more_are_refused_until_some_go() {
    let mut bench = Bench::new();
    let skills = skills_of(240_000);
    let bytes = check_skills(&skills).expect("sound skills");
    let fit = u64::try_from(ALL_SKILLS_MAX_BYTES / bytes).expect("small");
    for n in 0..=fit {
        bench.connect(n, nth_login(n));
    }
    let mut publish = |n: u64, skills: &[SkillSpec]| {
        let skills = skills.to_vec();
        let effects = bench.say(n, ClientMessage::Skills { skills });
        error_of(&effects, n)
    };
    for n in 0..fit {
        assert_eq!(publish(n, &skills), None);
    }
    assert_eq!(publish(fit, &skills), Some(Code::RateLimited));
    assert_eq!(publish(0, &[]), None);
    assert_eq!(publish(fit, &skills), None);
}

#[test]
fn a_long_answer_comes_in_parts_and_the_last_says_so() {
    let mut bench = Bench::new();
    for n in 0..600u64 {
        bench.connect(n, nth_login(n));
    }
    let id = MessageId::from_bytes([1; 16]);
    let effects = bench.say(
        0,
        ClientMessage::Find {
            id,
            name: None,
            skill: None,
        },
    );
    let parts: Vec<_> = told(&effects, 0)
        .into_iter()
        .map(|message| match message {
            ServerMessage::Found { agents, more, .. } => (agents.len(), *more),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(parts.len() > 1);
    assert_eq!(parts.iter().map(|(n, _)| n).sum::<usize>(), 600);
    let (last, rest) = parts.split_last().expect("a part");
    assert!(!last.1 && rest.iter().all(|(_, more)| *more));
}

#[test]
fn an_agent_that_changes_its_skills_without_end_is_not_told_on_to_everybody_who_watches_it() {
    let mut bench = Bench::new();
    bench.connect(1, login("flood", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.say(2, ClientMessage::WatchAll);
    let flip = |bench: &mut Bench, n: usize| {
        let skills = vec![skill(["one", "two"][n % 2])];
        error_of(&bench.say(1, ClientMessage::Skills { skills }), 1)
    };
    let each = SAYING_EVERY + SAYING_KIB_EVERY;
    let most = usize::try_from(SAYINGS_BURST.as_nanos() / each.as_nanos()).expect("few");
    for n in 0..most {
        assert_eq!(flip(&mut bench, n), None);
    }
    assert_eq!(flip(&mut bench, most), Some(Code::RateLimited));
    // It is none of its new connections' matter, and it passes.
    bench.close(1);
    bench.connect(1, login("flood", 1, 1));
    assert_eq!(flip(&mut bench, most), Some(Code::RateLimited));
    bench.pass(each);
    assert_eq!(flip(&mut bench, most), None);
}
