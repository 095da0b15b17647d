//! Which clip holds which sound: a table of files and labels, or a folder for each class.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::columns::{Columns, DatasetError, Problems, Row};
use super::files::{audio_files, entries};

/// Folders that hold clips without any of the classes.
const NEGATIVES: [&str; 2] = ["_negatives", "_background"];
/// Bytes of a class name at most, as in a model file.
const NAME_BYTES_MAX: usize = 64;
/// Between the names in a label.
const SEPARATOR: char = '|';
/// After a name: the sound may be in the clip, nobody knows.
const MAYBE: char = '?';

/// Labelled clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// In the order in which a table first names them, or of the folders' names.
    pub classes: Vec<String>,
    pub clips: Vec<Clip>,
}

/// A recording, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    pub path: PathBuf,
    /// Indices of its classes, each once; none in a negative.
    pub labels: Vec<usize>,
    /// Indices of classes of which it isn't known whether they are in it.
    pub maybe: Vec<usize>,
    /// The part of a cross-validation that it belongs to.
    pub fold: Option<u32>,
    /// From and to, in seconds; without it the whole recording. Without an end in the table `to`
    /// is infinite.
    pub span_s: Option<(f64, f64)>,
}

impl Dataset {
    /// Reads a CSV file, or a folder with a subfolder for each class.
    ///
    /// A CSV file has a header line. Columns, in any order, others being ignored: `file` (or
    /// `filename`); `label` (or `category`), empty or several names joined by `|`, one that
    /// ends in `?` being in the clip or not; optionally `fold`, a whole number, and `start` and `end` in seconds. Files are relative to `root`, by
    /// default the table's own folder, or stand in the subfolder `audio` of it.
    ///
    /// In a folder, `_negatives` and `_background` hold clips without any of the classes. `root`
    /// is not used.
    ///
    /// # Errors
    /// With all that is wrong at once, files that are missing included. Whether they are audio is
    /// not looked at.
    pub fn read(path: &Path, root: Option<&Path>) -> Result<Self, DatasetError> {
        let dataset = if path.is_dir() { read_folder(path)? } else { read_csv(path, root)? };
        if dataset.clips.is_empty() {
            let mut problems = Problems::default();
            problems.add("there is no clip in it");
            problems.none_in(path)?;
        }
        Ok(dataset)
    }
}

/// Class names and their indices, in the order of their first use.
#[derive(Default)]
struct Classes {
    names: Vec<String>,
    indices: HashMap<String, usize>,
}

impl Classes {
    fn index(&mut self, name: &str) -> Result<usize, String> {
        if let Some(&index) = self.indices.get(name) {
            return Ok(index);
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "{name:?} is no class name: 1 to {NAME_BYTES_MAX} printable characters"
            ));
        }
        let index = self.names.len();
        self.names.push(name.to_owned());
        self.indices.insert(name.to_owned(), index);
        Ok(index)
    }

    /// Indices of the names in a label, and of those that may be right.
    fn labels(&mut self, label: &str) -> Result<[Vec<usize>; 2], String> {
        let mut labels = [Vec::new(), Vec::new()];
        let [sure, maybe] = &mut labels;
        for name in label.split(SEPARATOR).map(str::trim).filter(|name| !name.is_empty()) {
            match name.strip_suffix(MAYBE) {
                Some(name) => maybe.push(self.index(name.trim_end())?),
                None => sure.push(self.index(name)?),
            }
        }
        for indices in &mut labels {
            indices.sort_unstable();
            indices.dedup();
        }
        Ok(labels)
    }
}

fn read_folder(folder: &Path) -> Result<Dataset, DatasetError> {
    let unreadable = |error| DatasetError::Unreadable { path: folder.to_owned(), error };
    let (mut classes, mut clips, mut problems) =
        (Classes::default(), Vec::new(), Problems::default());
    for entry in entries(folder).map_err(unreadable)? {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !path.is_dir() || name.starts_with('.') {
            continue;
        }
        let is_negative = NEGATIVES.contains(&name.as_str());
        let labels = match is_negative {
            true => Ok(Vec::new()),
            false => classes.index(&name).map(|class| vec![class]),
        };
        match (labels, audio_files(&path)) {
            (Err(problem), _) => problems.add(problem),
            (_, Err(error)) => problems.add(error.to_string()),
            (Ok(labels), Ok(files)) => clips.extend(files.into_iter().map(|path| Clip {
                path,
                labels: labels.clone(),
                maybe: Vec::new(),
                fold: None,
                span_s: None,
            })),
        }
    }
    if classes.names.is_empty() {
        problems.add("no subfolder in it: a class is a subfolder with its clips");
    }
    problems.none_in(folder)?;
    Ok(Dataset { classes: classes.names, clips })
}

/// Where the table's columns are.
struct Places {
    file: usize,
    label: usize,
    fold: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
}

fn read_csv(path: &Path, root: Option<&Path>) -> Result<Dataset, DatasetError> {
    let mut problems = Problems::default();
    let table = Columns::read(path, &mut problems)?;
    let file = table.need(&["file", "filename"], &mut problems);
    let label = table.need(&["label", "category"], &mut problems);
    let (mut classes, mut clips) = (Classes::default(), Vec::new());
    if let (Some(file), Some(label)) = (file, label) {
        let (fold, start, end) =
            (table.find(&["fold"]), table.find(&["start"]), table.find(&["end"]));
        let places = Places { file, label, fold, start, end };
        let root = root.or(path.parent()).unwrap_or(Path::new("."));
        let mut found = Found { root, known: HashMap::new() };
        for row in &table.rows {
            match clip(row, &places, &mut found, &mut classes) {
                Ok(clip) => clips.push(clip),
                Err(problem) => problems.add_line(row.line, problem),
            }
        }
    }
    problems.none_in(path)?;
    Ok(Dataset { classes: classes.names, clips })
}

fn clip(
    row: &Row,
    places: &Places,
    found: &mut Found<'_>,
    classes: &mut Classes,
) -> Result<Clip, String> {
    let file = row.get(places.file);
    if file.is_empty() {
        return Err("it names no file".to_owned());
    }
    let fold = row.given(places.fold).map(|fold| {
        fold.parse().map_err(|_| format!("fold = {fold:?}: allowed is a whole number from 0"))
    });
    let [labels, maybe] = classes.labels(row.get(places.label))?;
    Ok(Clip {
        path: found.path(file)?,
        labels,
        maybe,
        fold: fold.transpose()?,
        span_s: span(row.given(places.start), row.given(places.end))?,
    })
}

fn span(start: Option<&str>, end: Option<&str>) -> Result<Option<(f64, f64)>, String> {
    let seconds = |name: &str, text: &str| match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("{name} = {text:?}: allowed are seconds from 0")),
    };
    let start_s = start.map(|text| seconds("start", text)).transpose()?;
    let end_s = end.map(|text| seconds("end", text)).transpose()?;
    match (start_s, end_s) {
        (None, None) => Ok(None),
        (start_s, end_s) => {
            let (start_s, end_s) = (start_s.unwrap_or(0.0), end_s.unwrap_or(f64::INFINITY));
            if start_s < end_s {
                return Ok(Some((start_s, end_s)));
            }
            Err(format!("start = {start_s} is not before end = {end_s}"))
        }
    }
}

/// Files of a table, looked for once each: many rows may name parts of one recording.
struct Found<'a> {
    root: &'a Path,
    known: HashMap<String, PathBuf>,
}

impl Found<'_> {
    fn path(&mut self, file: &str) -> Result<PathBuf, String> {
        if let Some(path) = self.known.get(file) {
            return Ok(path.clone());
        }
        let candidates = [self.root.join(file), self.root.join("audio").join(file)];
        let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
            return Err(format!(
                "no file {file:?} in {} (or name its folder as the root)",
                self.root.display()
            ));
        };
        self.known.insert(file.to_owned(), path.clone());
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir, table: &str) -> Result<Dataset, DatasetError> {
        let path = folder.path().join("clips.csv");
        std::fs::write(&path, table).unwrap();
        Dataset::read(&path, None)
    }

    #[test]
    fn a_table_in_the_layout_of_esc_50() {
        let folder = folder(&["audio/1-1-A-0.ogg", "audio/2-7-A-3.ogg", "3.wav"]);
        let table = "filename,fold,target,category,esc10\n\
            1-1-A-0.ogg,1,0,dog,True\n3.wav,2,5,cat,False\n2-7-A-3.ogg,2,0,dog,True\n";
        let dataset = read(&folder, table).unwrap();
        assert_eq!(dataset.classes, ["dog", "cat"]);
        let labels: Vec<&[usize]> = dataset.clips.iter().map(|clip| &*clip.labels).collect();
        assert_eq!(labels, [[0], [1], [0]]);
        assert_eq!(dataset.clips[2].path, folder.path().join("audio/2-7-A-3.ogg"));
        assert_eq!(dataset.clips[2].fold, Some(2));
        assert_eq!(dataset.clips[2].span_s, None);
    }

    #[test]
    fn labels_may_be_many_or_none_and_clips_parts_of_a_file() {
        let folder = folder(&["a.wav"]);
        let table = "end,label,file,start,fold\n2.5,dog|cat| dog,a.wav,1,\n,,a.wav,,\n4,cat,a.wav,,3\n,dog,a.wav,4,\n";
        let dataset = read(&folder, table).unwrap();
        let clips: Vec<_> =
            dataset.clips.iter().map(|clip| (&*clip.labels, clip.span_s, clip.fold)).collect();
        type Read<'a> = (&'a [usize], Option<(f64, f64)>, Option<u32>);
        let expected: [Read<'_>; 4] = [
            (&[0, 1], Some((1.0, 2.5)), None),
            (&[], None, None),
            (&[1], Some((0.0, 4.0)), Some(3)),
            (&[0], Some((4.0, f64::INFINITY)), None),
        ];
        assert_eq!(clips, expected);
    }

    #[test]
    fn a_name_with_a_question_mark_is_not_known() {
        let folder = folder(&["a.wav"]);
        let dataset = read(&folder, "file,label\na.wav,rain | thunder ? |wind?\n").unwrap();
        assert_eq!(dataset.classes, ["rain", "thunder", "wind"]);
        assert_eq!((&*dataset.clips[0].labels, &*dataset.clips[0].maybe), (&[0][..], &[1, 2][..]));
    }

    #[test]
    fn the_root_may_be_another_folder() {
        let (table, sounds) = (folder(&[]), folder(&["x/a.wav"]));
        let path = table.path().join("clips.csv");
        std::fs::write(&path, "file,label\nx/a.wav,dog\n").unwrap();
        let dataset = Dataset::read(&path, Some(sounds.path())).unwrap();
        assert_eq!(dataset.clips[0].path, sounds.path().join("x/a.wav"));
        assert!(Dataset::read(&path, None).is_err());
    }

    #[test]
    fn all_problems_of_a_table_are_told_at_once() {
        let folder = folder(&["a.wav"]);
        let name = "n".repeat(65);
        let table = format!(
            "file,label,fold,start,end\nmissing.wav,dog,,,\n,dog,,,\na.wav,dog,one,,\n\
             a.wav,dog,,5,2\na.wav,dog,,-1,\na.wav,dog,,,NaN\na.wav,{name},,,\na.wav,dog|?,,,\na.wav,dog,,,\n"
        );
        let error = read(&folder, &table).unwrap_err().to_string();
        for words in [
            "8 problems",
            "line 2: no file \"missing.wav\"",
            "line 3: it names no file",
            "line 4: fold = \"one\"",
            "line 5: start = 5 is not before end = 2",
            "line 6: start = \"-1\"",
            "line 7: end = \"NaN\"",
            "line 8: \"nnn",
            "line 9: \"\" is no class name",
        ] {
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
        for (table, words) in [
            ("", "no column `file` or `filename`"),
            ("path,label\na.wav,dog\n", "there are: path, label"),
            ("file,label\n", "no clip"),
        ] {
            let error = read(&folder, table).unwrap_err().to_string();
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
    }

    #[test]
    fn a_folder_for_each_class() {
        let folder = folder(&[
            "dog/b.wav",
            "dog/more/a.ogg",
            "_negatives/street.flac",
            "_background/n.mp3",
            "cat/c.wav",
            ".cache/x.wav",
            "readme.txt",
        ]);
        let dataset = Dataset::read(folder.path(), None).unwrap();
        assert_eq!(dataset.classes, ["cat", "dog"]);
        let clips: Vec<_> = dataset
            .clips
            .iter()
            .map(|clip| {
                let name = clip.path.file_name().unwrap().to_str().unwrap();
                (name, clip.labels.first().copied())
            })
            .collect();
        let expected = [
            ("n.mp3", None),
            ("street.flac", None),
            ("c.wav", Some(0)),
            ("b.wav", Some(1)),
            ("a.ogg", Some(1)),
        ];
        assert_eq!(clips, expected);
    }

    #[test]
    fn folders_without_clips_are_named() {
        let empty = folder(&["dog/a.wav", "cat/notes.txt", "bird/.keep"]);
        let error = Dataset::read(empty.path(), None).unwrap_err().to_string();
        assert!(error.contains("cat") && error.contains("bird"), "{error}");
        let error = Dataset::read(folder(&["a.wav"]).path(), None).unwrap_err().to_string();
        assert!(error.contains("no subfolder"), "{error}");
        assert!(Dataset::read(Path::new("/no/such/table.csv"), None).is_err());
    }
}
