//! How well shifts are found and undone, over many photos. Pure: figures in, figures out.

use serde::Serialize;

use crate::colour::{Angles, Rmse, Shift, ShiftModel, angles, rmse};

/// What one method made of one shifted photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    pub truth: Shift,
    pub found: Shift,
    /// Mean Delta E 2000 to the clean photo, before and after; `None` where that is not known.
    pub delta_e: Option<[f64; 2]>,
}

/// What one method made of one clean photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanTrial {
    pub touched: bool,
    pub delta_e: f64,
}

/// Figures of one method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColourFigures {
    /// Offsets in levels of 255, gains as factors.
    pub rmse: Rmse,
    /// Of gains only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub angular_error: Option<Angles>,
    pub delta_e_before: Option<f64>,
    pub delta_e_after: Option<f64>,
    /// Mean Delta E 2000 that was done to clean photos, and the share of them that was touched.
    pub clean_delta_e: Option<f64>,
    pub clean_touched: Option<f64>,
}

/// Sums up; `None` without a shifted photo.
pub fn figures(shifted: &[Trial], clean: &[CleanTrial]) -> Option<ColourFigures> {
    let pairs: Vec<(Shift, Shift)> = shifted.iter().map(|t| (t.truth, t.found)).collect();
    let is_gain = pairs.first().is_some_and(|(truth, _)| truth.model == ShiftModel::Gain);
    let delta_e = |which: usize| {
        let known = shifted.iter().filter_map(|trial| trial.delta_e?.get(which).copied());
        mean(&known.collect::<Vec<f64>>())
    };
    let touched = |trial: &CleanTrial| if trial.touched { 1.0 } else { 0.0 };
    Some(ColourFigures {
        rmse: rmse(&pairs)?,
        angular_error: if is_gain { angles(&pairs) } else { None },
        delta_e_before: delta_e(0),
        delta_e_after: delta_e(1),
        clean_delta_e: mean(&clean.iter().map(|trial| trial.delta_e).collect::<Vec<f64>>()),
        clean_touched: mean(&clean.iter().map(touched).collect::<Vec<f64>>()),
    })
}

/// The least shift to act on: so many of these clean photos' estimates (sizes) lie under it.
pub fn min_shift(mut sizes: Vec<f64>, untouched: f64) -> Option<f64> {
    sizes.sort_by(f64::total_cmp);
    let place = (untouched * sizes.len() as f64).ceil() as usize;
    let over = sizes.get(place).or(sizes.last())?;
    // Between two, so that rounding does not decide.
    let under = sizes.get(place.checked_sub(1)?).unwrap_or(over);
    Some((over + under) / 2.0)
}

fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_summed_up() {
        let shift = |level: f64| Shift::from_shown(ShiftModel::Offset, [level; 3]);
        let trial = |off, delta_e| Trial { truth: shift(10.0), found: shift(10.0 + off), delta_e };
        let shifted =
            [trial(2.0, Some([8.0, 1.0])), trial(-2.0, Some([4.0, 3.0])), trial(2.0, None)];
        let clean = [
            CleanTrial { touched: false, delta_e: 0.0 },
            CleanTrial { touched: true, delta_e: 3.0 },
        ];
        let found = figures(&shifted, &clean).unwrap();
        assert!((found.rmse.all - 2.0).abs() < 1e-9 && found.rmse.chroma < 1e-9);
        assert_eq!((found.delta_e_before, found.delta_e_after), (Some(6.0), Some(2.0)));
        assert_eq!((found.clean_delta_e, found.clean_touched), (Some(1.5), Some(0.5)));
        assert_eq!(found.angular_error, None);
        assert_eq!(figures(&[], &clean), None);
    }

    #[test]
    fn the_least_shift_leaves_the_wanted_share_alone() {
        let sizes: Vec<f64> = (0..100).map(f64::from).collect();
        let least = min_shift(sizes.clone(), 0.92).unwrap();
        assert_eq!(sizes.iter().filter(|&&size| size >= least).count(), 8);
        assert_eq!(min_shift(Vec::new(), 0.9), None);
        assert_eq!(min_shift(vec![3.0], 0.9), Some(3.0));
    }
}
