//! Values of flags that are more than a word: durations and the data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::{BaseStrategy, choose_base_strategy};
use waymesh_proto::limits::TTL_MAX_MS;
use waymesh_proto::{Code, Fault};

/// The shortest and the longest time that a node takes: whole milliseconds, and the
/// longest lifetime of a message.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(TTL_MAX_MS);

/// How long an invite may be good: whole seconds, as its token counts them, and at most
/// 30 days. Chosen: who needs it for longer asks for another.
const INVITE_SHORTEST: Duration = Duration::from_secs(1);
const INVITE_LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Reads a duration: `250ms`, `10s`, `5m`, `1h`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < SHORTEST || time > LONGEST {
        return Err("from 1ms to 168h (7 days)".into());
    }
    Ok(time)
}

/// Reads where to listen.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an IP address of this machine and a port up to 65535, as in 0.0.0.0:7700 or [::]:7700"
            .to_owned()
    })
}

/// Reads how long an invite is good.
pub(crate) fn invite_life(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < INVITE_SHORTEST || time > INVITE_LONGEST {
        return Err("from 1s to 30d".into());
    }
    Ok(time)
}

fn time(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_a_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("units are ms, s, m, h and d, as in 250ms or 10s".into()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "not a number with a unit, as in 250ms or 10s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds_a_unit)
        .map_err(|_| "not a length of time".to_owned())
}

/// The files that tell whose a data directory is: each program's key.
const NODE_MARK: &str = "identity.key";
const REGISTRY_MARK: &str = "registry.key";

/// Which program a default data directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// A node, and whoever talks to it.
    Node,
    /// A registry.
    Registry,
}

/// The data directory that was named, or the program's own folder in the user's.
pub(crate) fn data_dir(named: Option<PathBuf>, home: Home) -> Result<PathBuf, Fault> {
    if let Some(dir) = named {
        return Ok(dir);
    }
    let user = choose_base_strategy().map_err(|error| {
        Fault::new(
            Code::Usage,
            format!("there is no default data directory: {error}"),
        )
        .with_hint("name one with --data-dir or WAYMESH_DATA_DIR")
    })?;
    let folder = match home {
        Home::Node => "node",
        Home::Registry => "registry",
    };
    Ok(user.data_dir().join("waymesh").join(folder))
}

/// A data directory, by who lives in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dwelling {
    /// A node, or nobody yet.
    Node(PathBuf),
    /// A registry.
    Registry(PathBuf),
}

/// Finds out who lives in the directory that was named. Where none was, it is the node's
/// of the user's data directory, or the registry's when there is no node.
pub(crate) fn dwelling(named: Option<PathBuf>) -> Result<Dwelling, Fault> {
    let is_registry = |dir: &Path| dir.join(REGISTRY_MARK).exists();
    let (node, registry) = match named {
        Some(dir) => (dir.clone(), dir),
        None => {
            let node = data_dir(None, Home::Node)?;
            if node.join(NODE_MARK).exists() {
                return Ok(Dwelling::Node(node));
            }
            (node, data_dir(None, Home::Registry)?)
        }
    };
    Ok(match is_registry(&registry) {
        true => Dwelling::Registry(registry),
        false => Dwelling::Node(node),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(duration("7d"), Ok(LONGEST));
    }

    #[test]
    fn an_invite_is_good_for_a_second_to_30_days() {
        for text in ["1s", "30d"] {
            assert!(invite_life(text).is_ok(), "{text}");
        }
        for text in ["999ms", "30.1d"] {
            assert!(invite_life(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "s", "-1s", "0", "169h", "8d", "1y", "1e400", "NaN", "inf", "1 s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_is_a_registrys_when_its_key_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        let whose = || dwelling(Some(path.clone()));
        assert_eq!(whose(), Ok(Dwelling::Node(path.clone())));
        std::fs::write(path.join(REGISTRY_MARK), "").expect("a file");
        assert_eq!(whose(), Ok(Dwelling::Registry(path.clone())));
    }

    #[test]
    fn a_named_data_directory_is_taken_as_it_is() {
        let named = data_dir(Some("x".into()), Home::Node);
        assert_eq!(named, Ok(PathBuf::from("x")));
    }
}
