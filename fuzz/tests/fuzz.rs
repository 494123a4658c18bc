//! Feeds every target with mutations of its corpus: `INPUTS` over all targets, `SEED` to replay. `MINUTES` runs for that long instead.
#![cfg(test)]

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use ping_fuzz::{TARGETS, Target, mutate::mutated};
use rand::{SeedableRng, rngs::SmallRng};

/// How much the process may grow after each target has run for a while, in bytes.
const MAX_GROWTH: u64 = 64 << 20;

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Runs one target on one input, and prints the input if it panics.
fn run(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let file = env::temp_dir().join(format!("fuzz-{}", target.name));
        fs::write(&file, input).unwrap();
        panic!("{} panics on the input in {}; add it to the corpus", target.name, file.display());
    }
}

#[test]
fn no_input_makes_a_target_panic_or_grow() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let inputs = number("INPUTS").unwrap_or(200_000);
    let deadline = number("MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    println!("SEED={seed} INPUTS={inputs}");
    let mut random = SmallRng::seed_from_u64(seed);
    let corpora: Vec<_> = TARGETS.iter().map(corpus).collect();
    for (target, corpus) in TARGETS.iter().zip(&corpora) {
        corpus.iter().for_each(|input| run(target, input));
    }
    let rounds = inputs.div_ceil(TARGETS.len() as u64);
    let (mut done, mut settled) = (0, None);
    while deadline.map_or(done < rounds, |deadline| Instant::now() < deadline) {
        for (target, corpus) in TARGETS.iter().zip(&corpora) {
            run(target, &mutated(corpus, &mut random));
        }
        done += 1;
        if done == rounds / 10 + 1 {
            settled = Some(resident_bytes());
        }
    }
    println!("{} inputs", done * TARGETS.len() as u64);
    let grown = settled.map_or(0, |settled| resident_bytes().saturating_sub(settled));
    assert!(grown < MAX_GROWTH, "the process grew by {grown} bytes");
}
