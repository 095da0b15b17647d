//! Hearken hears a siren, thunder, breaking glass, a crying baby, and says so.
//!
//! Data flows one way: `capture` -> [`ring`] -> `spectrogram` -> `network` -> `decide` ->
//! `store` -> `publish`, `alert`. The stages speak the words of [`signal`] and do not know each other; `supervise`
//! wires them for the daemon and `cli` for everything else. ARCHITECTURE.md is the map.

#![forbid(unsafe_code)]
// Input never ends the program, and what it writes has one place (`cli::output`).
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::dbg_macro,
    clippy::todo,
    clippy::unimplemented
)]
// In tests, giving up is the point.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod alert;
pub mod capture;
pub mod chart;
pub mod cli;
pub mod colour;
pub mod config;
pub mod correct;
pub mod data;
pub mod decide;
pub mod evaluate;
pub mod hear;
pub mod last_line;
pub mod network;
pub mod picture;
pub mod publish;
pub mod revive;
pub mod ring;
pub mod secret;
pub mod signal;
pub mod spectrogram;
pub mod store;
pub mod supervise;
pub mod train;

/// For tests alone.
#[cfg(test)]
mod testing {
    use proptest::test_runner::Config;

    /// How many cases a property of what comes from outside is tried with; `HEARKEN_TEST_CASES` asks for
    /// others.
    pub fn cases(usual: u32) -> Config {
        let asked = std::env::var("HEARKEN_TEST_CASES").ok();
        Config::with_cases(asked.and_then(|count| count.parse().ok()).unwrap_or(usual))
    }
}
