//! `hearken devices`: what can be listened to.

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
        if devices.is_empty() {
            output::complain(
                "no input device was found; is a microphone plugged in, and may this user use it \
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
    let (least, most) = device.channels;
    let (lowest, highest) = device.sample_rates_hz;
    format!(
        "id:{}{default}\n    {}\n    {state}; offers {least} to {most} channels, {lowest} to \
         {highest} Hz, {}",
        device.id,
        device.name,
        device.sample_formats.join(" ")
    )
}
