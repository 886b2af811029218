//! How long the fake takes. Nothing is asserted: the figures are for whoever runs it.

use std::time::{Duration, Instant};

use super::fixture::{Actor, Person};
use crate::{
    certificate::remember_signatures,
    group::{engine::Engine as _, fake::FakeState, frame::Frame},
};

/// The mean of many runs.
fn mean<T>(mut run: impl FnMut() -> T) -> Duration {
    const RUNS: u32 = 2000;
    let start = Instant::now();
    for _ in 0..RUNS {
        std::hint::black_box(run());
    }
    start.elapsed() / RUNS
}

#[test]
#[ignore = "prints figures: cargo test -p spacepanda-core --lib cost -- --ignored --nocapture"]
fn the_fakes_figures() {
    remember_signatures(1 << 16);
    for members in [3, 10, 50] {
        let founder = Actor::<FakeState>::founder(1);
        let people: Vec<_> = (2..=members).map(Person::new).collect();
        let mut alice = founder;
        let mut bob = None;
        for people in people.chunks(32) {
            let (committed, mut joined) = alice.add(&people.iter().collect::<Vec<_>>());
            bob = bob.map(|bob: Actor<_>| bob.follow(&committed.commit)).or_else(|| joined.pop());
            alice = Actor::new(&alice.who, committed.child);
        }
        let mut bob = bob.unwrap();
        let commit = alice.refresh().commit;
        let removal = alice.remove(&people[0]).commit;
        let frames: Vec<_> = (0..2000).map(|_| alice.seal(&[7; 200]).bytes).collect();
        let mut frames = frames.iter();
        println!("{members} members");
        println!("  make an update      {:?}", mean(|| alice.refresh()));
        println!("  process an update   {:?}", mean(|| bob.process(&commit)));
        println!("  process a removal   {:?}", mean(|| bob.process(&removal)));
        println!("  load                {:?}", mean(|| bob.loaded()));
        println!("  seal a message      {:?}", mean(|| alice.seal(&[7; 200])));
        let open = mean(|| {
            let opened = bob.state.open_frame(&Frame::decode(frames.next().unwrap()).unwrap()).unwrap();
            bob.state.open_application(&opened).unwrap()
        });
        println!("  open a message      {open:?}");
        println!(
            "  changes of a batch  {:?}",
            mean(|| (alice.seal(b""), alice.state.take_changes().unwrap()))
        );
    }
    remember_signatures(0);
}
