//! What processes cost, read from /proc: processor seconds, and the most memory they ever had. And what of the cores was not ours.

use std::{collections::BTreeMap, fs};

/// Kernel ticks per second; fixed on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Processor seconds of every process, by pid, with its parent.
fn processes() -> BTreeMap<u32, (u32, f64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; fields are counted from behind it.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<_> = rest.split(' ').collect();
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        // Own time, and that of children that have ended.
        let ticks: u32 = (11..15).map(number).sum();
        all.insert(pid, (number(1), f64::from(ticks) / TICKS));
    }
    all
}

/// `pid` and everything below it, with its processor seconds.
fn tree(pid: u32) -> Vec<(u32, f64)> {
    let all = processes();
    let below = |mut process: u32| {
        while process != pid {
            match all.get(&process) {
                Some((parent, _)) if *parent > 1 => process = *parent,
                _ => return false,
            }
        }
        true
    };
    all.iter().filter(|(process, _)| below(**process)).map(|(pid, (_, used))| (*pid, *used)).collect()
}

/// `pid` and everything below it.
pub(crate) fn family(pid: u32) -> impl Iterator<Item = u32> {
    tree(pid).into_iter().map(|(pid, _)| pid)
}

/// Processor seconds that `pid` and everything below it have used.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    tree(pid).iter().map(|(_, seconds)| seconds).sum()
}

/// Ticks of all cores since the machine started.
#[derive(Clone, Copy)]
pub(crate) struct CoreTime {
    stolen: f64,
    all: f64,
}

impl CoreTime {
    /// Up to now.
    pub(crate) fn now() -> Self {
        Self::read(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; then guests, who are among the users.
    fn read(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        Self { stolen: ticks.get(7).copied().unwrap_or(0.0), all: ticks.iter().sum() }
    }

    /// Percent of the cores' time, from then to now, in which somebody here was ready to run and the host ran something else.
    pub(crate) fn stolen_since(self) -> f64 {
        self.stolen_until(Self::now())
    }

    fn stolen_until(self, now: Self) -> f64 {
        (now.stolen - self.stolen) / (now.all - self.all).max(1.0) * 100.0
    }
}

/// The most memory `pid` ever had resident, in MiB.
pub(crate) fn peak_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_takes_is_the_eighth_figure() {
        let before = CoreTime::read("cpu  10 0 10 80 0 0 0 5 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        let after = CoreTime::read("cpu  60 0 20 90 5 0 5 25 50 0\n");
        assert_eq!(before.stolen_until(after), 20.0);
        assert_eq!(before.stolen_until(before), 0.0);
    }
}
