//! Metrics of the process itself, under the names that every Prometheus client library uses, and the version of the program.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};

/// Registers `process_…` and `ping_build_info{program,version}`, which is always 1. `program` is what runs, such as `server`.
pub fn register(registry: &mut Registry, program: &'static str, version: &'static str) {
    let info = Family::<[(&str, &str); 2], Gauge>::default();
    info.get_or_create(&[("program", program), ("version", version)]).set(1);
    registry.register("ping_build_info", "1; the labels say which program this is, and its version", info);
    registry.register_collector(Box::new(Process));
}

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
struct Process;

/// What `/proc/self` says.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has these values"))]
struct Usage {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_files: u64,
    max_files: Option<u64>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = usage() else { return Ok(()) };
        let mut one = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        one("process_cpu_seconds", "Total user and system CPU time spent in seconds", &cpu)?;
        let start = ConstGauge::new(usage.start_seconds);
        one("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds", &start)?;
        let resident = ConstGauge::new(usage.resident_bytes);
        one("process_resident_memory_bytes", "Resident memory size in bytes", &resident)?;
        one("process_virtual_memory_bytes", "Virtual memory size in bytes", &ConstGauge::new(usage.virtual_bytes))?;
        one("process_threads", "Number of OS threads in the process", &ConstGauge::new(usage.threads))?;
        one("process_open_fds", "Number of open file descriptors", &ConstGauge::new(usage.open_files))?;
        if let Some(max) = usage.max_files {
            one("process_max_fds", "Maximum number of open file descriptors", &ConstGauge::new(max))?;
        }
        Ok(())
    }
}

/// None where `/proc` cannot be read: these metrics are then absent.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "seconds and clock ticks are far below 2^52")]
fn usage() -> Option<Usage> {
    use procfs::process::{LimitValue, Process};
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let max_files = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(max) => Some(max),
        LimitValue::Unlimited => None,
    };
    Some(Usage {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        start_seconds: procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks,
        resident_bytes: stat.rss * procfs::page_size(),
        virtual_bytes: stat.vsize,
        threads: stat.num_threads,
        open_files: process.fd_count().ok()?.try_into().ok()?,
        max_files,
    })
}

#[cfg(not(target_os = "linux"))]
fn usage() -> Option<Usage> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_reports_its_use_of_the_machine() {
        let usage = usage().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3_600.0..now + 1.0).contains(&usage.start_seconds), "{}", usage.start_seconds);
        assert!((1 << 20..1 << 34).contains(&usage.resident_bytes), "{}", usage.resident_bytes);
        assert!(usage.virtual_bytes >= usage.resident_bytes && usage.threads >= 1 && usage.open_files >= 3);

        let mut registry = Registry::default();
        register(&mut registry, "server", "1.2.3");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("ping_build_info{program=\"server\",version=\"1.2.3\"} 1\n"), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total ") && text.contains("\nprocess_max_fds "), "{text}");
    }
}
