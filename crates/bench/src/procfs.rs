//! What Linux tells about a process: memory and processor time.

use std::fs;
use std::time::Duration;

use crate::error::BenchError;

/// Resident memory of a process, KiB (`VmRSS` of proc(5)).
pub(crate) fn rss_kib(pid: u32) -> Result<u64, BenchError> {
    status_kib(pid, "VmRSS:")
}

/// The highest resident memory that a process ever had, KiB (`VmHWM` of proc(5)).
pub(crate) fn peak_rss_kib(pid: u32) -> Result<u64, BenchError> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, key: &str) -> Result<u64, BenchError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(BenchError::io("reading the memory of a process"))?;
    field(&status, key).ok_or_else(|| BenchError::Io {
        what: "reading the memory of a process",
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time that all threads of a process have used so far.
///
/// From `schedstat`, which counts nanoseconds; `stat` counts ticks of 10 ms, too
/// coarse for an idle process.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, BenchError> {
    let what = "reading the processor time of a process";
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(BenchError::io(what))?;
    let mut nanos = 0;
    for task in tasks {
        let path = task.map_err(BenchError::io(what))?.path().join("schedstat");
        let text = fs::read_to_string(path).map_err(BenchError::io(what))?;
        nanos += text
            .split_whitespace()
            .next()
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_status_file_is_read_by_its_key() {
        let status = "VmPeak:\t  200 kB\nVmHWM:\t  123 kB\nVmRSS:\t   45 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(45));
        assert_eq!(field(status, "VmHWM:"), Some(123));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let rss = rss_kib(std::process::id()).expect("Linux");
        assert!(rss > 0);
        assert!(peak_rss_kib(std::process::id()).expect("Linux") >= rss);
    }
}
