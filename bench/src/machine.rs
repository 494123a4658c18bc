//! Resource use read from `/proc`: CPU seconds and peak memory of processes, and the CPU time that the host withheld.

use std::collections::BTreeMap;

use anyhow::Context;
use procfs::{
    CpuTime, Current, CurrentSI, KernelStats, Meminfo,
    process::{Process, all_processes},
    ticks_per_second,
};

/// CPU seconds of every process, by pid, with its parent's pid.
fn processes() -> BTreeMap<u32, (u32, f64)> {
    let stats = all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok());
    let used = stats.map(|stat| {
        // `cutime` and `cstime` are those of children that have ended.
        let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        let seconds = (stat.utime + stat.stime + ended) as f64 / ticks_per_second() as f64;
        (stat.pid.unsigned_abs(), (stat.ppid.unsigned_abs(), seconds))
    });
    used.collect()
}

/// `pid` and its descendants, with their CPU seconds.
fn tree(pid: u32) -> Vec<(u32, f64)> {
    let all = processes();
    let is_descendant = |mut process: u32| {
        while process != pid {
            match all.get(&process) {
                Some((parent, _)) if *parent > 1 => process = *parent,
                _ => return false,
            }
        }
        true
    };
    all.iter().filter(|(process, _)| is_descendant(**process)).map(|(pid, (_, used))| (*pid, *used)).collect()
}

/// `pid` and its descendants.
pub(crate) fn process_tree(pid: u32) -> impl Iterator<Item = u32> {
    tree(pid).into_iter().map(|(pid, _)| pid)
}

/// CPU seconds that `pid` and its descendants have used.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    tree(pid).iter().map(|(_, seconds)| seconds).sum()
}

/// Clock ticks of all cores since boot.
#[derive(Clone, Copy)]
pub(crate) struct CoreTime {
    stolen: f64,
    all: f64,
}

impl CoreTime {
    /// Until now.
    pub(crate) fn now() -> anyhow::Result<Self> {
        Ok(Self::of(&KernelStats::current()?.total))
    }

    /// Guest time is left out because the kernel also counts it as user time.
    fn of(cores: &CpuTime) -> Self {
        let optional = [cores.iowait, cores.irq, cores.softirq, cores.steal].map(Option::unwrap_or_default);
        let all: u64 = cores.user + cores.nice + cores.system + cores.idle + optional.iter().sum::<u64>();
        Self { stolen: cores.steal.unwrap_or_default() as f64, all: all as f64 }
    }

    /// Percentage of the cores' time since then in which a process here was ready to run but the host ran something else.
    pub(crate) fn stolen_since(self) -> anyhow::Result<f64> {
        Ok(self.stolen_until(Self::now()?))
    }

    fn stolen_until(self, now: Self) -> f64 {
        (now.stolen - self.stolen) / (now.all - self.all).max(1.0) * 100.0
    }
}

/// Memory that programs can still use, in bytes.
pub(crate) fn available_bytes() -> anyhow::Result<u64> {
    Meminfo::current()?.mem_available.context("the kernel does not say how much memory is available")
}

/// The peak resident memory of `pid`, in MiB.
pub(crate) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = Process::new(i32::try_from(pid)?)?.status()?;
    Ok(status.vmhwm.unwrap_or_default() as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use procfs::{FromBufReadSI, current_system_info};

    use super::*;

    fn core_time(total: &str) -> CoreTime {
        let text = format!("cpu  {total}\ncpu0 1 1 1 1 1 1 1 1 1 1\nctxt 1\nbtime 1\nprocesses 1\n");
        CoreTime::of(&KernelStats::from_buf_read(text.as_bytes(), current_system_info()).unwrap().total)
    }

    #[test]
    fn what_the_host_takes_is_the_eighth_figure() {
        let before = core_time("10 0 10 80 0 0 0 5 0 0");
        let after = core_time("60 0 20 90 5 0 5 25 50 0");
        assert_eq!(before.stolen_until(after), 20.0);
        assert_eq!(before.stolen_until(before), 0.0);
    }
}
