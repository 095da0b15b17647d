//! A picture for people: the spectrogram as the network gets it, with axes and a colour scale, the
//! mean spectrum beside it and the waveforms below it.

mod axis;
mod content;
mod figure;
mod waveform;

use self::axis::FrequencyAxis;
use self::content::Content;
use super::recipe::Recipe;
use crate::chart::axis::LinearAxis;
use crate::picture::{PngError, encode_rgb};

/// What to draw.
pub struct PlotInput<'a> {
    /// The heading, often a file's name. Cut where it is wider than the picture.
    pub title: &'a str,
    /// Of the samples, in Hz.
    pub sample_rate_hz: u32,
    /// One waveform a channel, all of the same length, samples in -1..1.
    pub channels: &'a [Vec<f32>],
    /// The channel (index, from 0) whose spectrogram is drawn, or None for the mean of all.
    pub channel: Option<usize>,
    /// Where the samples begin in the recording, in seconds.
    pub start_s: f64,
    /// How sound becomes pixels.
    pub recipe: &'a Recipe,
    /// Lower limit of the frequency axis in Hz; None: the recipe's. A limit that lies beyond the
    /// recipe's bands is moved to their edge.
    pub fmin_hz: Option<f32>,
    /// Upper limit of the frequency axis in Hz.
    pub fmax_hz: Option<f32>,
}

/// A picture that can't be made. All but [`PlotError::Drawing`] and [`PlotError::Png`] are the
/// caller's to correct.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    #[error("there is no sound to draw: the audio has no samples")]
    NoSamples,
    #[error(
        "channel {channel} has {frames} samples and channel 0 has {expected}: all must be of the same length"
    )]
    ChannelLengths { channel: usize, frames: usize, expected: usize },
    #[error("channel {index} does not exist: the audio has {channels} channel(s), counted from 0")]
    Channel { index: usize, channels: usize },
    #[error(
        "{limit} = {value} Hz is out of range: allowed is 0 to {nyquist_hz} Hz, half the recipe's sample rate"
    )]
    Limit { limit: &'static str, value: f32, nyquist_hz: f32 },
    #[error(
        "fmin = {fmin_hz} Hz is not below fmax = {fmax_hz} Hz: both may be 0 to {nyquist_hz} Hz"
    )]
    LimitOrder { fmin_hz: f32, fmax_hz: f32, nyquist_hz: f32 },
    #[error(
        "fmin = {fmin_hz} Hz to fmax = {fmax_hz} Hz holds no band: the recipe's reach from {min_hz} to {max_hz} Hz"
    )]
    NoBands { fmin_hz: f32, fmax_hz: f32, min_hz: f32, max_hz: f32 },
    #[error("audio at {rate_hz} Hz can't be resampled to {recipe_hz} Hz: {why}")]
    Rate { rate_hz: u32, recipe_hz: u32, why: String },
    #[error("the picture could not be drawn: {0}")]
    Drawing(String),
    #[error(transparent)]
    Png(#[from] PngError),
}

/// Draws a picture 1200 pixels wide as an RGB PNG. It takes the memory of the picture, whatever
/// the length of the recording: where several columns fall on one pixel, the loudest is shown.
pub fn plot_png(input: &PlotInput<'_>) -> Result<Vec<u8>, PlotError> {
    let frames = check_channels(input)?;
    let frequency = frequency_axis(input)?;
    let start_s = if input.start_s.is_finite() { input.start_s } else { 0.0 };
    let time = LinearAxis {
        low: start_s,
        high: start_s + frames as f64 / f64::from(input.sample_rate_hz.max(1)),
    };
    let content = Content::new(input, frames, figure::MAIN_WIDTH)?;
    let picture = figure::draw(input, &content, time, &frequency).map_err(PlotError::Drawing)?;
    Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
}

/// Frames of each channel, at least one.
fn check_channels(input: &PlotInput<'_>) -> Result<usize, PlotError> {
    let expected = input.channels.first().map_or(0, Vec::len);
    if expected == 0 {
        return Err(PlotError::NoSamples);
    }
    for (channel, samples) in input.channels.iter().enumerate() {
        if samples.len() != expected {
            return Err(PlotError::ChannelLengths { channel, frames: samples.len(), expected });
        }
    }
    match input.channel {
        Some(index) if index >= input.channels.len() => {
            Err(PlotError::Channel { index, channels: input.channels.len() })
        }
        _ => Ok(expected),
    }
}

fn frequency_axis(input: &PlotInput<'_>) -> Result<FrequencyAxis, PlotError> {
    let Recipe { min_hz, max_hz, sample_rate_hz, .. } = *input.recipe;
    let nyquist_hz = sample_rate_hz as f32 / 2.0;
    for (limit, value) in [("fmin", input.fmin_hz), ("fmax", input.fmax_hz)] {
        if let Some(value) = value.filter(|value| !(0.0..=nyquist_hz).contains(value)) {
            return Err(PlotError::Limit { limit, value, nyquist_hz });
        }
    }
    let (fmin_hz, fmax_hz) = (input.fmin_hz.unwrap_or(min_hz), input.fmax_hz.unwrap_or(max_hz));
    // A limit that was not given is the recipe's edge, which can't be in the wrong order with the
    // other one unless that one lies outside the bands.
    if input.fmin_hz.is_some() && input.fmax_hz.is_some() && fmin_hz >= fmax_hz {
        return Err(PlotError::LimitOrder { fmin_hz, fmax_hz, nyquist_hz });
    }
    let (low_hz, high_hz) = (fmin_hz.max(min_hz), fmax_hz.min(max_hz));
    if low_hz >= high_hz {
        return Err(PlotError::NoBands { fmin_hz, fmax_hz, min_hz, max_hz });
    }
    Ok(FrequencyAxis::new(input.recipe, low_hz, high_hz))
}

#[cfg(test)]
mod tests;
