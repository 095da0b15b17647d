//! Scores of clips as a table: what another system says of the same clips.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::columns::{Columns, DatasetError, Problems, Row, to_csv};
use super::table::Clip;

/// Scores by clip.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreTable {
    pub classes: Vec<String>,
    /// Rows by the file's name; clips of one name are told apart by folder and start.
    rows: HashMap<String, Vec<Scored>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Scored {
    file: PathBuf,
    start_ms: i64,
    scores: Vec<f32>,
}

impl ScoreTable {
    /// Reads a CSV file: `file` (or `filename`), optionally `start` in seconds for parts of a
    /// recording, and a column of scores for each class; a higher score is a better match.
    ///
    /// # Errors
    /// With all that is wrong at once.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let mut problems = Problems::default();
        let table = Columns::read(path, &mut problems)?;
        let file = table.need(&["file", "filename"], &mut problems);
        let start = table.find(&["start"]);
        let is_class = |column: &usize| Some(*column) != file && Some(*column) != start;
        let columns: Vec<usize> = (0..table.header.len()).filter(is_class).collect();
        let classes: Vec<String> =
            columns.iter().filter_map(|&column| table.header.get(column)).cloned().collect();
        let mut rows: HashMap<String, Vec<Scored>> = HashMap::new();
        for row in &table.rows {
            match scored(row, file.unwrap_or_default(), start, &columns) {
                Ok(scored) => rows.entry(file_name(&scored.file)).or_default().push(scored),
                Err(problem) => problems.add_line(row.line, problem),
            }
        }
        problems.none_in(path)?;
        Ok(Self { classes, rows })
    }

    /// The scores of a clip: of the row whose `file` is the clip's path or the end of it.
    pub fn scores(&self, clip: &Clip) -> Option<&[f32]> {
        let same = |scored: &&Scored| {
            scored.start_ms == start_ms(clip) && clip.path.ends_with(&scored.file)
        };
        let scored = self.rows.get(&file_name(&clip.path))?.iter().find(same)?;
        Some(&scored.scores)
    }

    /// Clips and their scores in the form that [`ScoreTable::read`] reads. Files are named from
    /// the folder on that all clips have in common.
    pub fn to_csv(classes: &[String], clips: &[(&Clip, &[f32])]) -> Vec<u8> {
        let root = common_folder(clips.iter().map(|(clip, _)| clip.path.as_path()));
        let has_parts = clips.iter().any(|(clip, _)| clip.span_s.is_some());
        let start = has_parts.then_some("start");
        let header: Vec<String> =
            ["file"].into_iter().chain(start).map(str::to_owned).chain(classes.to_vec()).collect();
        let row = |(clip, scores): &(&Clip, &[f32])| {
            let file = clip.path.strip_prefix(&root).unwrap_or(&clip.path).display().to_string();
            let start = has_parts.then(|| format!("{:.3}", start_ms(clip) as f64 / 1_000.0));
            let scores = scores.iter().map(ToString::to_string);
            [file].into_iter().chain(start).chain(scores).collect()
        };
        let records: Vec<Vec<String>> =
            std::iter::once(header).chain(clips.iter().map(row)).collect();
        to_csv(records.iter().map(|record| record.iter().map(String::as_str)))
    }
}

fn scored(
    row: &Row,
    file: usize,
    start: Option<usize>,
    columns: &[usize],
) -> Result<Scored, String> {
    let number = |text: &str| match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{text:?} is no number")),
    };
    let start_s = row.given(start).map(number).transpose()?.unwrap_or(0.0);
    let scores = columns.iter().map(|&column| number(row.get(column)).map(|score| score as f32));
    Ok(Scored {
        file: PathBuf::from(row.get(file)),
        start_ms: (start_s * 1_000.0).round() as i64,
        scores: scores.collect::<Result<Vec<f32>, String>>()?,
    })
}

fn start_ms(clip: &Clip) -> i64 {
    (clip.span_s.map_or(0.0, |(start_s, _)| start_s) * 1_000.0).round() as i64
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The deepest folder that all paths lie in.
fn common_folder<'a>(mut paths: impl Iterator<Item = &'a Path>) -> PathBuf {
    let first = paths.next().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    paths.fold(first, |mut folder, path| {
        while !path.starts_with(&folder) && folder.pop() {}
        folder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(path: &str, start_s: Option<f64>) -> Clip {
        let span_s = start_s.map(|start_s| (start_s, f64::INFINITY));
        Clip { path: path.into(), labels: Vec::new(), maybe: Vec::new(), fold: None, span_s }
    }

    fn read(bytes: &[u8]) -> Result<ScoreTable, DatasetError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        ScoreTable::read(file.path())
    }

    #[test]
    fn what_is_written_is_found_again() {
        let clips = [
            clip("/d/x/a.wav", None),
            clip("/d/y/a.wav", Some(1.5)),
            clip("/d/y/a.wav", Some(0.0)),
            clip("/d/y/z/b.wav", None),
        ];
        let scores: [[f32; 2]; 4] = [[0.1, 0.9], [0.25, 0.5], [1.0, 0.0], [0.125, 1e-6]];
        let pairs: Vec<(&Clip, &[f32])> =
            clips.iter().zip(&scores).map(|(clip, scores)| (clip, scores.as_slice())).collect();
        let classes = ["dog".to_owned(), "cat, wild".to_owned()];
        let bytes = ScoreTable::to_csv(&classes, &pairs);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("\ny/z/b.wav,0.000,0.125,"), "{text}");
        let table = read(&bytes).unwrap();
        assert_eq!(table.classes, classes);
        for (clip, scores) in pairs {
            assert_eq!(table.scores(clip), Some(scores));
        }
        assert_eq!(table.scores(&clip("/d/y/a.wav", Some(3.0))), None);
        assert_eq!(table.scores(&clip("/d/q/a.wav", None)), None);
    }

    #[test]
    fn a_file_by_itself_is_named_alone() {
        let clip = clip("some/where/a.wav", None);
        let bytes = ScoreTable::to_csv(&["dog".to_owned()], &[(&clip, &[0.5])]);
        assert_eq!(bytes, b"file,dog\na.wav,0.5\n");
    }

    #[test]
    fn bad_scores_are_named_with_their_lines() {
        let error = read(b"file,dog\na.wav,1\nb.wav,much\nc.wav,NaN\n").unwrap_err().to_string();
        for words in ["line 3: \"much\"", "line 4: \"NaN\""] {
            assert!(error.contains(words), "{error}");
        }
        assert!(read(b"clip,dog\na.wav,1\n").unwrap_err().to_string().contains("`file`"));
    }
}
