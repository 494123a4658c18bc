//! Feeds every target with mutations of its corpus, the same number each: `INPUTS` over all targets, `SEED` to replay. `make fuzz` searches
//! by what inputs reach instead.
#![cfg(test)]

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use ping_fuzz::{TARGETS, Target, mutate::mutated};
use rand::{SeedableRng, rngs::SmallRng};

/// How much the process may grow after a tenth of the inputs, in bytes.
const MAX_GROWTH: u64 = 16 << 20;

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
    println!("SEED={seed} INPUTS={inputs}");
    let mut random = SmallRng::seed_from_u64(seed);
    let corpora: Vec<_> = TARGETS.iter().map(corpus).collect();
    for (target, corpus) in TARGETS.iter().zip(&corpora) {
        corpus.iter().for_each(|input| run(target, input));
    }
    let rounds = inputs.div_ceil(TARGETS.len() as u64);
    let mut took = [Duration::ZERO; TARGETS.len()];
    let mut settled = 0;
    for round in 0..rounds {
        for ((target, corpus), took) in TARGETS.iter().zip(&corpora).zip(&mut took) {
            let input = mutated(corpus, &mut random);
            let started = Instant::now();
            run(target, &input);
            *took += started.elapsed();
        }
        if round == rounds / 10 {
            settled = resident_bytes();
        }
    }
    for (target, took) in TARGETS.iter().zip(took) {
        println!("{}: {rounds} inputs in {:.1} s", target.name, took.as_secs_f64());
    }
    let end = resident_bytes();
    println!("{} MiB of memory after a tenth of the inputs, {} MiB at the end", settled >> 20, end >> 20);
    let grown = end.saturating_sub(settled);
    assert!(grown < MAX_GROWTH, "the process grew by {grown} bytes");
}

#[test]
fn libfuzzer_has_an_entry_to_every_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in &TARGETS {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{}\"\n", target.name)), "no program {}", target.name);
        let file = folder.join("fuzz_targets").join(target.name).with_extension("rs");
        let entry = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(entry.contains(&format!("ping_fuzz::{}(bytes)", target.name)), "{entry}");
    }
}
