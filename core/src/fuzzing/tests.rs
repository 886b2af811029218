//! The corpus and seeded mutations of it, wherever the tests run.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{TARGETS, Target};

/// Mutations of each target's inputs, together.
const MUTATIONS: usize = 500;
/// No input may take longer, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(5);

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: PathBuf| (path.display().to_string(), fs::read(&path).unwrap());
    files.into_iter().map(read).collect()
}

fn feed(target: &Target, what: &str, input: &[u8]) -> bool {
    let began = Instant::now();
    let taken = (target.takes)(input);
    let took = began.elapsed();
    assert!(took < LIMIT, "{}: {what} took {took:?}: {}", target.name, hex::encode(input));
    taken
}

#[test]
fn every_target_takes_its_seeds_and_has_them_in_the_corpus() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let taken = seeds.iter().filter(|seed| feed(target, "a seed", seed)).count();
        assert!(taken > 0, "{} takes none of its seeds", target.name);
        let files = corpus(target);
        let taken = files.iter().filter(|(file, input)| feed(target, file, input)).count();
        assert!(taken > 0, "{} takes nothing of its corpus", target.name);
    }
}

#[test]
fn no_mutation_of_the_corpus_does_harm() {
    for target in TARGETS {
        let mut rng = ChaCha8Rng::seed_from_u64(17);
        let files = corpus(target);
        for number in 0..MUTATIONS {
            let (file, input) = &files[number % files.len()];
            let mut input = input.clone();
            for _ in 0..rng.random_range(1..=6) {
                mutate(&mut input, &files[rng.random_range(0..files.len())].1, &mut rng);
            }
            // A panic prints it: it goes into the corpus with its fix.
            let print = Printed(target.name, file, &input);
            feed(target, file, &input);
            std::mem::forget(print);
        }
    }
}

struct Printed<'a>(&'a str, &'a str, &'a [u8]);

impl Drop for Printed<'_> {
    fn drop(&mut self) {
        eprintln!("{}: a mutation of {}: {}", self.0, self.1, hex::encode(self.2));
    }
}

fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    let at = if input.is_empty() { 0 } else { rng.random_range(0..input.len()) };
    match rng.random_range(0..6) {
        0 if !input.is_empty() => input[at] ^= 1 << rng.random_range(0..8),
        1 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        2 => input.truncate(at),
        3 => input.insert(at, rng.random()),
        4 if !input.is_empty() => {
            input.remove(at);
        }
        _ => input.extend_from_slice(&other[..rng.random_range(0..=other.len())]),
    }
}
