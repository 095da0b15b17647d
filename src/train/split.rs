//! Which clips learn together and which are held back: stratified by class, with the clips of one
//! recording on one side, so that a recording is never judged by its own other half. Pure.

use std::collections::BTreeMap;
use std::path::Path;

/// The recording that a clip was cut from, told by its name. In the manner of ESC-50
/// (`fold-recording-take-class`) it is the second field; else it is the name without a number at
/// its end (`doorbell-3` and `doorbell-4` are of one recording, and so are `hall_01` and `hall_02`).
pub fn recording(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fields: Vec<&str> = stem.split('-').collect();
    if let [fold, recording, take, class] = fields.as_slice()
        && [fold, recording, class].into_iter().all(|field| is_number(field))
        && take.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        return (*recording).to_owned();
    }
    match stem.rsplit_once(['-', '_']) {
        Some((recording, number)) if is_number(number) && !recording.is_empty() => {
            recording.to_owned()
        }
        _ => stem.into_owned(),
    }
}

/// Deals clips to `folds` folds, evenly in each class. A clip is its class (`None`: a negative)
/// and its recording. Clips of one recording go together. But where that would hold back too much,
/// of a class that is of one recording alone or of a recording of more than two clips a fold, its
/// clips go in runs of neighbours, one run a fold.
pub fn deal(clips: &[(Option<usize>, String)], folds: usize, seed: u64) -> Vec<usize> {
    let folds = folds.max(1);
    let mut classes: BTreeMap<Option<usize>, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
    for (index, (class, recording)) in clips.iter().enumerate() {
        classes.entry(*class).or_default().entry(recording).or_default().push(index);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fold_of = vec![0; clips.len()];
    let mut dealt: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = vec![0_usize; folds];
    for recordings in classes.into_values() {
        let alone = recordings.len() == 1;
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (recording, clips) in recordings {
            let cut = alone || clips.len() > 2 * folds;
            let run = if cut { clips.len().div_ceil(folds) } else { clips.len() };
            groups.extend(
                clips.chunks(run).map(|run| (if cut { "" } else { recording }, run.to_vec())),
            );
        }
        random.shuffle(&mut groups);
        groups.sort_by_key(|(_, clips)| std::cmp::Reverse(clips.len()));
        let mut in_class = vec![0_usize; folds];
        for (recording, clips) in groups {
            let emptiest = (0..folds).min_by_key(|&fold| (in_class.get(fold), total.get(fold)));
            // A recording with several classes in it stays where its first class went.
            let known = dealt.get(recording).copied().filter(|_| !recording.is_empty());
            let fold = known.or(emptiest).unwrap_or(0);
            dealt.insert(recording, fold);
            for counts in [&mut in_class, &mut total] {
                counts.iter_mut().skip(fold).take(1).for_each(|count| *count += clips.len());
            }
            for clip in clips {
                fold_of.iter_mut().skip(clip).take(1).for_each(|slot| *slot = fold);
            }
        }
    }
    fold_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_recording() {
        for (name, expected) in [
            ("1-100032-A-0.ogg", "100032"),
            ("a/3-100210-B-36.wav", "100210"),
            ("doorbell-3.wav", "doorbell"),
            ("hall_door_01.flac", "hall_door"),
            ("doorbell-20250102-101500-07.wav", "doorbell-20250102-101500"),
            ("102305-6-0-12.ogg", "102305-6-0"),
            ("kettle.wav", "kettle"),
            ("-7.wav", "-7"),
            ("my sound", "my sound"),
        ] {
            assert_eq!(recording(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn folds_are_even_in_each_class_and_keep_recordings_together() {
        // Three classes of 20 clips, two a recording, and 8 negatives.
        let mut clips = Vec::new();
        for class in 0..3 {
            clips.extend((0..20).map(|n| (Some(class), format!("{class}-{}", n / 2))));
        }
        clips.extend((0..8).map(|n| (None, format!("street {n}"))));
        let folds = deal(&clips, 4, 7);
        assert_eq!(deal(&clips, 4, 7), folds);
        assert_ne!(deal(&clips, 4, 8), folds);
        for pair in clips.chunks(2).zip(folds.chunks(2)).take(30) {
            assert_eq!(pair.1[0], pair.1[1], "{:?}", pair.0);
        }
        for fold in 0..4 {
            for class in [Some(0), Some(1), Some(2), None] {
                let held = |i: &usize| folds[*i] == fold && clips[*i].0 == class;
                let count = (0..clips.len()).filter(held).count();
                let expected = if class.is_some() { 4..=6 } else { 2..=2 };
                assert!(expected.contains(&count), "{count} of {class:?} in fold {fold}");
            }
        }
    }

    #[test]
    fn a_class_of_one_recording_is_split_all_the_same() {
        let clips: Vec<_> = (0..8).map(|_| (Some(0), "doorbell".to_owned())).collect();
        let folds = deal(&clips, 4, 1);
        assert!((0..4).all(|fold| folds.iter().filter(|&&f| f == fold).count() == 2), "{folds:?}");
        assert!(folds.chunks(2).all(|pair| pair[0] == pair[1]), "neighbours together: {folds:?}");
        let one_of_many = |n| (None, if n < 20 { "room".to_owned() } else { format!("noise {n}") });
        let folds = deal(&(0..40).map(one_of_many).collect::<Vec<_>>(), 4, 1);
        assert!(folds[..20].chunks(5).all(|run| run.iter().all(|fold| *fold == run[0])));
        assert_eq!(folds[..20].iter().filter(|&&fold| fold == 0).count(), 5, "{folds:?}");
        assert!(deal(&[], 4, 1).is_empty());
    }

    #[test]
    fn a_recording_with_two_classes_stays_together() {
        let mut clips: Vec<_> = (0..12).map(|n| (Some(n % 2), format!("r{}", n / 2))).collect();
        clips.push((Some(0), "other".to_owned()));
        let folds = deal(&clips, 3, 2);
        assert!(folds.chunks(2).take(6).all(|pair| pair[0] == pair[1]), "{folds:?}");
    }
}
