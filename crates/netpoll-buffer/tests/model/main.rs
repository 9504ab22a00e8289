// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever is done to two buffers, in whatever order and with whatever arguments, they hold what
//! two plain queues of bytes hold, refuse what those would refuse, and give all memory back.
//!
//! 2,000 random sequences of operations; `PROPTEST_CASES` in the environment says another number.

mod op;
mod open;
mod read;
mod world;
mod write;

use std::panic;
use std::thread;

use netpoll_buffer::Pool;
use proptest::prelude::{ProptestConfig, proptest};
use proptest::test_runner::RngAlgorithm;

use op::Step;
use world::World;

const CASES: u32 = 2000;

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(CASES),
        failure_persistence: None,
        // Unoptimised, the other one takes more time than all the buffers.
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}

/// Takes all steps on a thread with a pool of its own, to which everything has to come back.
fn run(steps: &[Step]) {
    let pool = Pool::default();
    let inside = pool.clone();
    thread::scope(|scope| {
        let stepping = scope.spawn(move || {
            inside.enter();
            let mut world = World::new();
            for step in steps {
                world.step(step);
                world.check();
            }
            world.end();
        });
        if let Err(panicked) = stepping.join() {
            panic::resume_unwind(panicked);
        }
    });
    assert_eq!(pool.stats().in_use, 0, "memory that did not come home");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_buffers_are_two_queues_of_bytes(steps in op::steps()) {
        run(&steps);
    }
}
