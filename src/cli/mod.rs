//! The command line: one file a command, each thin; errors become a line and an exit code here.

mod alert;
mod calibrate;
mod classify;
mod config;
mod correct;
mod devices;
mod eval;
mod events;
mod explain;
mod folds;
mod hear_file;
mod model;
mod output;
mod parallel;
mod password;
mod photos;
mod record;
mod run;
mod scatter;
mod shift;
mod soundscapes;
mod spectrogram;
mod state;
mod status;
mod train;
mod when;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::capture::DeviceError;
use crate::config::ConfigError;
use crate::correct::ColourModelError;
use crate::dashboard::DashboardError;
use crate::hear::LoadError;
use crate::publish::PublishError;
use crate::store::{LockError, StoreError};
use crate::supervise::RuleProblems;
use crate::supervise::answer::AskError;

/// A sound listener: hears a siren, thunder, breaking glass, a crying baby, and says so over MQTT.
#[derive(Parser)]
#[command(name = "hearken", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Listen to the configured sources and report sounds on the terminal and over MQTT
    Run(run::Run),
    /// Ask the running daemon how it is
    Status(status::Status),
    /// Look at the running daemon's alerts, or try one out
    #[command(subcommand)]
    Alert(alert::Alert),
    /// List the sounds that were heard
    Events(events::Events),
    /// Say why sounds did, or did not, become events
    Explain(explain::Explain),
    /// List the input devices and the identifiers by which they are found again
    Devices(devices::Devices),
    /// Say what is heard in audio files, folders, or 227x227 spectrogram PNGs
    Classify(classify::Classify),
    /// Draw the image that the network sees, or a plot with axes for people
    Spectrogram(spectrogram::Spectrogram),
    /// Take a shift of red, green and blue off photographs
    Correct(correct::Correct),
    /// Shift the colours of photographs, to train and test with
    Shift(shift::ShiftCommand),
    /// Record one's own sounds as clips to train with
    Record(record::Record),
    /// Train a network, or a last layer for one's own sounds
    #[command(subcommand)]
    Train(train::Train),
    /// Measure how good a model is, on clips or on soundscapes
    #[command(subcommand)]
    Eval(eval::Eval),
    /// Choose a model's detection rules by soundscapes, and make its scores honest
    Calibrate(calibrate::Calibrate),
    /// Look at model files, or give an ONNX network the metadata that makes it one
    #[command(subcommand)]
    Model(model::Model),
    /// Check a configuration, or print the commented sample
    #[command(subcommand)]
    Config(config::Config),
    /// Make the hash of a password for the dashboard, from the terminal or a line on standard input
    Password(password::Password),
    /// Print shell completions
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// How a command ended, when it was able to run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Some of the input could not be used; each was said on standard error.
    SomeFailed,
}

/// Arguments that are right one by one, and not together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Exit codes besides 0.
mod exit {
    pub const SOME_FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const BAD_CONFIGURATION: u8 = 64;
    pub const UNAVAILABLE: u8 = 69;
}

/// Runs the command line given in `arguments` (the program's name first).
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help on standard output, errors on standard error; if neither can be written to,
            // there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(arguments.command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(exit::SOME_FAILED),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hearken: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Run(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Alert(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Devices(command) => command.run(),
        Command::Classify(command) => command.run(),
        Command::Spectrogram(command) => command.run(),
        Command::Correct(command) => command.run(),
        Command::Shift(command) => command.run(),
        Command::Record(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Calibrate(command) => command.run(),
        Command::Model(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Password(command) => command.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "hearken", &mut script);
            output::write_all(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            man(&mut page)?;
            output::write_all(&page)
        }
    }
}

/// One page: the program, then each command with its options, and theirs.
fn man(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = Arguments::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(page)?;
    man_of_commands(&command, page)
}

fn man_of_commands(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        writeln!(
            page,
            ".SH \"{}\"",
            sub.get_display_name().unwrap_or(sub.get_name()).to_uppercase()
        )?;
        clap_mangen::Man::new(sub.clone()).render_description_section(page)?;
        clap_mangen::Man::new(sub.clone()).render_options_section(page)?;
        man_of_commands(sub, page)?;
    }
    Ok(())
}

/// What the error calls for, as an exit code.
fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return exit::USAGE;
        }
        if cause.is::<ConfigError>()
            || cause.is::<RuleProblems>()
            || cause.is::<LoadError>()
            || cause.is::<ColourModelError>()
        {
            return exit::BAD_CONFIGURATION;
        }
        if let Some(error) = cause.downcast_ref::<PublishError>() {
            return match error {
                PublishError::CorrectTls(_) | PublishError::ChooseHost { .. } => {
                    exit::BAD_CONFIGURATION
                }
                PublishError::ChoosePort { .. } | PublishError::TryAgain(_) => exit::UNAVAILABLE,
            };
        }
        if let Some(DashboardError::CorrectTls(_)) = cause.downcast_ref() {
            return exit::BAD_CONFIGURATION;
        }
        if cause.is::<DeviceError>()
            || cause.is::<record::NoMicrophone>()
            || cause.is::<LockError>()
            || cause.is::<StoreError>()
            || cause.is::<AskError>()
            || cause.is::<state::NoFolder>()
            || cause.is::<alert::Busy>()
        {
            return exit::UNAVAILABLE;
        }
    }
    exit::SOME_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_manual_names_every_command() {
        let mut page = Vec::new();
        man(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for command in Arguments::command().get_subcommands() {
            assert!(page.contains(&command.get_name().to_uppercase()), "{}", command.get_name());
        }
        // Those of a command's commands, and their options.
        let page = page.replace("\\-", "-");
        for part in ["HEARKEN-TRAIN-SOUND", "--keep-classes", "--confusion"] {
            assert!(page.contains(part), "{part}");
        }
    }
}
