//! Tables of what sounds where in recordings: the same form as for training, a row a sound with
//! `file`, `start`, `end` and `label`. A recording without any of the classes is a row with its
//! name alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::events::TrueEvent;
use crate::data::columns::{DatasetError, to_csv};
use crate::data::table::Dataset;

/// What sounds in a recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Annotated {
    pub events: Vec<TrueEvent>,
    /// Classes that may sound in it: they are not counted there.
    pub unknown: Vec<usize>,
}

/// Recordings with their sounds, in the order of their names.
pub type Annotations = BTreeMap<PathBuf, Annotated>;

/// Reads a table. Sounds of other classes than `classes` are left out; indices are into these. A
/// sound without `start` and `end` is taken to fill its recording.
///
/// # Errors
/// With all that is wrong with the table.
pub fn read(
    path: &Path,
    root: Option<&Path>,
    classes: &[impl AsRef<str>],
) -> Result<Annotations, DatasetError> {
    let dataset = Dataset::read(path, root)?;
    let known: Vec<Option<usize>> = dataset
        .classes
        .iter()
        .map(|name| classes.iter().position(|class| class.as_ref() == name))
        .collect();
    let mut annotations = Annotations::new();
    for clip in dataset.clips {
        let (onset_s, offset_s) = clip.span_s.unwrap_or((0.0, f64::INFINITY));
        let class = |&label: &usize| known.get(label).copied().flatten();
        let classes = clip.labels.iter().filter_map(class);
        let events = classes.map(|class| TrueEvent { class, onset_s, offset_s });
        let recording = annotations.entry(clip.path).or_default();
        recording.events.extend(events);
        recording.unknown.extend(clip.maybe.iter().filter_map(class));
    }
    Ok(annotations)
}

/// The table of these recordings, as CSV.
pub fn to_table(recordings: &[(String, Vec<TrueEvent>)], classes: &[impl AsRef<str>]) -> Vec<u8> {
    let mut rows = vec![["file", "start", "end", "label"].map(str::to_owned)];
    for (file, events) in recordings {
        let class = |event: &TrueEvent| classes.get(event.class).map_or("", AsRef::as_ref);
        let row = |event: &TrueEvent| {
            let (from, to) = (format!("{:.3}", event.onset_s), format!("{:.3}", event.offset_s));
            [file.clone(), from, to, class(event).to_owned()]
        };
        rows.extend(events.iter().map(row));
        if events.is_empty() {
            rows.push([file.clone(), String::new(), String::new(), String::new()]);
        }
    }
    to_csv(rows.iter().map(|row| row.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_other_classes_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let event = |class, onset_s, offset_s| TrueEvent { class, onset_s, offset_s };
        let recordings = [
            ("a, b.wav".to_owned(), vec![event(1, 1.5, 2.25), event(0, 4.0, 4.125)]),
            ("silent.wav".to_owned(), vec![]),
        ];
        for (name, _) in &recordings {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let table = folder.path().join("events.csv");
        std::fs::write(&table, to_table(&recordings, &["dog", "siren"])).unwrap();
        let read_as = |classes: &[&str]| {
            let read = read(&table, None, classes).unwrap();
            read.into_values().map(|recording| recording.events).collect::<Vec<_>>()
        };
        assert_eq!(read_as(&["dog", "siren"]), [recordings[0].1.clone(), vec![]]);
        std::fs::write(folder.path().join("unsure.csv"), "file,label\nsilent.wav,siren?|dog\n")
            .unwrap();
        let unsure = read(&folder.path().join("unsure.csv"), None, &["dog", "siren"]).unwrap();
        let recording = unsure.into_values().next().unwrap();
        assert_eq!((recording.events.len(), recording.unknown), (1, vec![1]));
        assert_eq!(read_as(&["rain", "dog"]), [vec![event(1, 4.0, 4.125)], vec![]]);
    }
}
