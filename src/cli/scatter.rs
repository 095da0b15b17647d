//! The picture of true and predicted shifts.

use crate::chart::{Scatter, ScatterChart};
use crate::colour::{Shift, ShiftModel, Triple};
use crate::picture::encode_rgb;

/// A plot for each channel.
pub fn scatter_png(
    name: &str,
    model: ShiftModel,
    pairs: &[(Shift, Shift)],
) -> anyhow::Result<Vec<u8>> {
    let points: [Vec<(f64, f64)>; 3] = std::array::from_fn(|channel| {
        let at = |values: Triple| values.get(channel).copied().unwrap_or(0.0);
        pairs.iter().map(|(truth, found)| (at(truth.shown()), at(found.shown()))).collect()
    });
    let [red, green, blue] = &points;
    let unit = if model == ShiftModel::Offset { "levels of 255" } else { "factor" };
    let chart = ScatterChart {
        title: &format!("{name}: shifts of photos that the network was not trained on"),
        unit,
        panels: [
            Scatter { name: "red", points: red },
            Scatter { name: "green", points: green },
            Scatter { name: "blue", points: blue },
        ],
    };
    let picture = chart.draw().map_err(anyhow::Error::msg)?;
    Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
}
