//! `hearken devices`: what can be listened to.

use std::fmt::Write as _;

use clap::Args;

use super::{Outcome, output};
use crate::capture::{self, DeviceInfo};

#[derive(Args)]
pub struct Devices {
    /// One line of JSON a device
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let devices = capture::devices()?;
        for device in &devices {
            let line = if self.json { serde_json::to_string(device)? } else { describe(device) };
            output::write_line(&line)?;
        }
        if !devices.iter().any(|device| device.chosen.is_some()) {
            output::complain(
                "no input device can be listened to; is a microphone plugged in, and may this user use it \
                 (group `audio`)?",
            );
        }
        Ok(Outcome::Done)
    }
}

/// The identifier first: it is what goes into the configuration.
fn describe(device: &DeviceInfo) -> String {
    let default = if device.is_default { "  (default)" } else { "" };
    let state = match (&device.problem, &device.chosen) {
        (Some(problem), _) => problem.clone(),
        (None, Some(chosen)) => format!(
            "heard at {} Hz, {} channels, {}",
            chosen.sample_rate_hz, chosen.channels, chosen.sample_format
        ),
        (None, None) => "can't be listened to".to_owned(),
    };
    let mut text = format!("id:{}{default}\n    {}\n    {state}", device.id, device.name);
    if !device.sample_formats.is_empty() {
        let ((least, most), (lowest, highest)) = (device.channels, device.sample_rates_hz);
        let formats = device.sample_formats.join(" ");
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "; offers {least} to {most} channels, {lowest} to {highest} Hz, {formats}"
        );
    }
    text
}
