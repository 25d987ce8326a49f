//! The figures of a run of the matrix, each beside its goal.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::time::Duration;

use serde::Serialize;
use waymesh_proto::link::Path;

use super::report::SoFar;
use crate::nat::spread::{Goal, Spread, ms};

/// What an answer may take beyond one round trip through the registry. A goal of the project.
const FIRST_ANSWER_SPARE: Duration = Duration::from_millis(20);

/// The round trip between two hosts for which there are goals of links.
const GOALS_RTT: Duration = Duration::from_millis(50);

/// How long a pair may take to a direct link, and to a relayed one. Goals of the project.
const DIRECT_GOAL: Duration = Duration::from_millis(1_500);
const RELAY_GOAL: Duration = Duration::from_millis(2_500);

/// The figures of a run; times are milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) ok: bool,
    rtt_ms: f64,
    pairs: usize,
    exchanging: usize,
    best: usize,
    direct_wanted: usize,
    direct: usize,
    relay_wanted: usize,
    relay: usize,
    first_answer_goal_ms: f64,
    first_answer_p50_ms: Option<f64>,
    first_answer_max_ms: Option<f64>,
    direct_goal_ms: Option<f64>,
    direct_p50_ms: Option<f64>,
    direct_max_ms: Option<f64>,
    relay_goal_ms: Option<f64>,
    relay_p50_ms: Option<f64>,
    relay_max_ms: Option<f64>,
    violations: Vec<String>,
    /// The same three times, to be printed beside their goals.
    #[serde(skip)]
    spreads: [Spread; 3],
    #[serde(skip)]
    goals: Goals,
}

impl Summary {
    /// Of what came of pairs between which a round trip takes so long.
    pub(super) fn of(rtt: Duration, so_far: SoFar) -> Self {
        let SoFar {
            rows,
            failed,
            violations,
        } = so_far;
        let wanted = |path| rows.iter().filter(move |row| row.theory == path);
        let had = |path| wanted(path).filter(move |row| row.path == Some(path));
        let answers = Spread::of(rows.iter().map(|row| row.first_answer));
        let direct = Spread::of(had(Path::Direct).filter_map(|row| row.settled));
        let relay = Spread::of(had(Path::Relay).filter_map(|row| row.settled));
        let best = rows.iter().filter(|row| row.is_best()).count();
        let pairs = rows.len() + failed;
        let goals = Goals::at(rtt);
        Self {
            ok: pairs > 0 && best == pairs && violations.is_empty(),
            rtt_ms: ms(rtt),
            pairs,
            exchanging: rows.len(),
            best,
            direct_wanted: wanted(Path::Direct).count(),
            direct: had(Path::Direct).count(),
            relay_wanted: wanted(Path::Relay).count(),
            relay: had(Path::Relay).count(),
            first_answer_goal_ms: ms(goals.first_answer.limit()),
            first_answer_p50_ms: answers.p50.map(ms),
            first_answer_max_ms: answers.max.map(ms),
            direct_goal_ms: goals.direct.map(|goal| ms(goal.limit())),
            direct_p50_ms: direct.p50.map(ms),
            direct_max_ms: direct.max.map(ms),
            relay_goal_ms: goals.relay.map(|goal| ms(goal.limit())),
            relay_p50_ms: relay.p50.map(ms),
            relay_max_ms: relay.max.map(ms),
            violations,
            spreads: [answers, direct, relay],
            goals,
        }
    }

    pub(super) fn print(&self) {
        println!(
            "{} of {} pairs exchange messages; direct {} of {} where theory allows it, relayed {} of {}",
            self.exchanging,
            self.pairs,
            self.direct,
            self.direct_wanted,
            self.relay,
            self.relay_wanted
        );
        self.goals.print(self.spreads);
    }
}

/// What times are to be.
#[derive(Debug, Clone, Copy)]
struct Goals {
    first_answer: Goal,
    direct: Option<Goal>,
    relay: Option<Goal>,
}

impl Goals {
    /// Where a round trip between any two hosts takes so long: one from caller to callee and
    /// back by the registry takes two of them.
    fn at(rtt: Duration) -> Self {
        let of_links = |limit| (rtt == GOALS_RTT).then_some(Goal::Each(limit));
        Self {
            first_answer: Goal::Each(2 * rtt + FIRST_ANSWER_SPARE),
            direct: of_links(DIRECT_GOAL),
            relay: of_links(RELAY_GOAL),
        }
    }

    /// Prints figures, each beside its goal.
    fn print(self, [answers, direct, relay]: [Spread; 3]) {
        let beside = |spread: Spread, goal: Option<Goal>| {
            let goal = goal.map(|goal| spread.beside(goal));
            format!("{spread}{}", goal.unwrap_or_default())
        };
        println!("first answer {}", beside(answers, Some(self.first_answer)));
        println!("to direct {}", beside(direct, self.direct));
        println!("to relay {}", beside(relay, self.relay));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::kind::Kind;
    use crate::nat::matrix::report::Row;

    fn row(theory: Path, path: Option<Path>) -> Row {
        Row {
            caller: Kind::None,
            callee: Kind::Symmetric,
            theory,
            first_answer: Duration::from_millis(100),
            first_path: Some(Path::Mailbox),
            linked: None,
            path,
            settled: None,
            reasons: Default::default(),
        }
    }

    fn is_ok(rows: Vec<Row>, failed: usize, violations: Vec<String>) -> bool {
        let so_far = SoFar {
            rows,
            failed,
            violations,
        };
        Summary::of(GOALS_RTT, so_far).ok
    }

    #[test]
    fn a_run_is_good_only_if_every_pair_came_as_far_as_theory_allows() {
        use Path::{Direct, Relay};
        let best = || row(Direct, Some(Direct));
        assert!(is_ok(vec![best()], 0, Vec::new()));
        assert!(!is_ok(
            vec![best(), row(Direct, Some(Relay))],
            0,
            Vec::new()
        ));
        assert!(!is_ok(
            vec![best(), row(Relay, Some(Direct))],
            0,
            Vec::new()
        ));
        assert!(!is_ok(vec![best(), row(Relay, None)], 0, Vec::new()));
        assert!(!is_ok(vec![best()], 1, Vec::new()));
        assert!(!is_ok(vec![best()], 0, vec!["a panic".into()]));
        assert!(!is_ok(Vec::new(), 0, Vec::new()), "nothing was tried");
    }

    #[test]
    fn goals_of_links_are_for_one_round_trip_time_alone() {
        let goals = Goals::at(GOALS_RTT);
        let answer = Duration::from_millis(120);
        assert_eq!(goals.first_answer, Goal::Each(answer));
        assert_eq!(goals.direct, Some(Goal::Each(DIRECT_GOAL)));
        let far = Goals::at(GOALS_RTT * 2);
        assert_eq!((far.direct, far.relay), (None, None));
    }
}
