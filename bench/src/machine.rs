//! What processes cost, read from /proc: processor seconds, and the most memory they ever had.

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

/// The most memory `pid` ever had resident, in MiB.
pub(crate) fn peak_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
