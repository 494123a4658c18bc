//! Inputs made from those of a corpus.

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

/// Longest input, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Numbers at the edges of types, in little endian and as text.
const EDGES: [i64; 8] = [0, -1, 1, i64::MAX, i64::MIN, 1_728_926_331_000, u32::MAX as i64, 253_402_300_800_000];

/// An input of the corpus with one to eight mutations.
pub fn mutated(corpus: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut input = corpus.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=8) {
        mutate(&mut input, corpus, random);
    }
    input.truncate(MAX_BYTES);
    input
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut SmallRng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len());
    match random.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.drain(at..end)),
        3 => insert(input, at, &[random.random()]),
        4 => {
            let part = input[at..end].to_vec();
            insert(input, at, &part);
        }
        5 => insert(input, at, &EDGES.choose(random).copied().unwrap_or_default().to_le_bytes()),
        6 => insert(input, at, EDGES.choose(random).copied().unwrap_or_default().to_string().as_bytes()),
        _ => {
            let other = corpus.choose(random).map_or(&[][..], Vec::as_slice);
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}
