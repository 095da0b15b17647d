//! From which score on a class is taken for heard, chosen on clips that were held back. Pure.

/// A window of another sound that is taken for the class weighs as much as this many windows of
/// the class that are missed: a live source hears other sounds nearly all the time.
const FALSE_ALARM_WEIGHT: f32 = 20.0;
/// Thresholds are looked for between these, in hundredths. Under the lower one the network itself
/// thinks that it is another sound; over the upper one a score says more about the training than
/// about the sound.
const HUNDREDTHS: std::ops::RangeInclusive<u16> = 50..=95;

/// A threshold and what it does to the scores it was chosen on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// 0.5 to 0.95.
    pub on: f32,
    /// Part of the windows with the sound that reach it, 0 to 1.
    pub found: f32,
    /// Part of the windows without the sound that reach it, 0 to 1.
    pub false_alarms: f32,
}

/// The best threshold for scores of windows with the sound (`positives`) and without it. Among
/// equals it is the middle one: as far from the one side as from the other.
pub fn choose(positives: &[f32], negatives: &[f32]) -> Threshold {
    let share = |scores: &[f32], on: f32| {
        scores.iter().filter(|&&score| score >= on).count() as f32 / scores.len().max(1) as f32
    };
    let judged: Vec<Threshold> = HUNDREDTHS
        .map(|hundredths| f32::from(hundredths) / 100.0)
        .map(|on| Threshold { on, found: share(positives, on), false_alarms: share(negatives, on) })
        .collect();
    let value =
        |threshold: &Threshold| threshold.found - FALSE_ALARM_WEIGHT * threshold.false_alarms;
    let best = judged.iter().map(value).fold(f32::NEG_INFINITY, f32::max);
    let equals: Vec<&Threshold> =
        judged.iter().filter(|threshold| value(threshold) >= best - 1e-6).collect();
    let middle = equals.get(equals.len() / 2).copied().copied();
    middle.unwrap_or(Threshold { on: 0.5, found: 0.0, false_alarms: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_clear_sides_it_stands_in_the_middle() {
        let threshold = choose(&[0.9, 0.92, 0.99], &[0.01, 0.2, 0.5, 0.5]);
        assert!((threshold.on - 0.7).abs() < 0.02, "{threshold:?}");
        assert_eq!((threshold.found, threshold.false_alarms), (1.0, 0.0));
        // Nothing is known of other sounds: as if they scored up to 0.5.
        assert!((choose(&[0.9], &[]).on - 0.7).abs() < 0.02);
    }

    #[test]
    fn a_false_alarm_costs_more_than_a_miss() {
        // One of ten positives lies under a negative: it is given up.
        let positives = [0.5, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.87, 0.88];
        let mut negatives = vec![0.1; 99];
        negatives.push(0.6);
        let threshold = choose(&positives, &negatives);
        assert!(threshold.on > 0.6 && threshold.on <= 0.8, "{threshold:?}");
        assert_eq!((threshold.found, threshold.false_alarms), (0.9, 0.0));
    }

    #[test]
    fn it_stays_in_its_range_whatever_the_scores() {
        for (positives, negatives) in
            [(&[][..], &[][..]), (&[0.0, 0.1], &[1.0]), (&[1.0], &[1.0]), (&[f32::NAN], &[0.5])]
        {
            let threshold = choose(positives, negatives);
            assert!((0.5..=0.95).contains(&threshold.on), "{threshold:?}");
        }
    }
}
