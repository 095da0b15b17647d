//! Which photographs there are, and how they were shifted: a table, or a folder of clean ones.

use std::path::{Path, PathBuf};

use super::columns::{Columns, DatasetError, Problems, Row};
use super::files::{has_ending, search};

/// Endings of what is taken from a folder, in lower case.
pub const PHOTO_ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "tif", "tiff", "webp"];

/// A photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub path: PathBuf,
    /// Values of red, green and blue that were added or multiplied; `None`: it is clean.
    pub shift: Option<[f64; 3]>,
    /// The same photo before it was shifted.
    pub clean: Option<PathBuf>,
}

/// Reads a table, or a folder with all folders within, or a single photo.
///
/// The table is a CSV file with a header line. Columns, others being ignored: `file`; for shifted
/// photos `R`, `G` and `B` and perhaps `clean`, the photo before; perhaps `split`, of which only
/// the rows that say `split` are taken, if that is given. Files are relative to `root`, by default
/// the table's own folder.
///
/// # Errors
/// With all that is wrong at once, missing files included, and when there is no photo.
pub fn photos(
    path: &Path,
    root: Option<&Path>,
    split: Option<&str>,
) -> Result<Vec<Listed>, DatasetError> {
    let mut problems = Problems::default();
    let found = if path.is_dir() {
        folder(path, &mut problems)?
    } else if is_photo(path) {
        vec![Listed { path: path.to_owned(), shift: None, clean: None }]
    } else {
        let table = Columns::read(path, &mut problems)?;
        let root = root.or(path.parent()).unwrap_or(Path::new(""));
        rows(&table, root, split, &mut problems)
    };
    problems.none_in(path)?;
    if found.is_empty() {
        let mut problems = Problems::default();
        problems.add(match split {
            Some(split) => format!("there is no photo of the split {split:?} in it"),
            None => "there is no photo in it".to_owned(),
        });
        problems.none_in(path)?;
    }
    Ok(found)
}

/// Whether its name is that of a photo.
pub fn is_photo(path: &Path) -> bool {
    has_ending(path, &PHOTO_ENDINGS)
}

fn folder(path: &Path, problems: &mut Problems) -> Result<Vec<Listed>, DatasetError> {
    let mut files = Vec::new();
    search(path, &is_photo, &mut files, &mut |folder, error| {
        problems.add(format!("{}: {error}", folder.display()));
    });
    Ok(files.into_iter().map(|path| Listed { path, shift: None, clean: None }).collect())
}

fn rows(table: &Columns, root: &Path, split: Option<&str>, problems: &mut Problems) -> Vec<Listed> {
    let Some(file) = table.need(&["file", "filename"], problems) else { return Vec::new() };
    let channels = [["R", "red"], ["G", "green"], ["B", "blue"]].map(|names| table.find(&names));
    let (clean, split_column) = (table.find(&["clean"]), table.find(&["split"]));
    if split.is_some() && split_column.is_none() {
        problems.add("there is no column `split`");
    }
    let mut found = Vec::new();
    for row in &table.rows {
        if split.is_some() && row.given(split_column) != split {
            continue;
        }
        let path = root.join(row.get(file));
        let clean = row.given(clean).map(|clean| root.join(clean));
        for path in [Some(&path), clean.as_ref()].into_iter().flatten() {
            if !path.is_file() {
                problems.add_line(row.line, format!("there is no file {}", path.display()));
            }
        }
        match shift(row, channels) {
            Ok(shift) => found.push(Listed { path, shift, clean }),
            Err(why) => problems.add_line(row.line, why),
        }
    }
    found
}

fn shift(row: &Row, columns: [Option<usize>; 3]) -> Result<Option<[f64; 3]>, String> {
    let [Some(r), Some(g), Some(b)] = columns.map(|column| row.given(column)) else {
        let given = columns.iter().filter(|&&column| row.given(column).is_some()).count();
        return if given == 0 { Ok(None) } else { Err("R, G and B belong together".to_owned()) };
    };
    let mut values = [0.0; 3];
    for (value, text) in values.iter_mut().zip([r, g, b]) {
        *value = match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number.abs() <= 255.0 => number,
            _ => return Err(format!("{text:?} is no number of -255 to 255")),
        };
    }
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_folders_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["b.JPG", "a.png", "notes.txt"] {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let found = photos(root, None, None).unwrap();
        let names: Vec<_> = found.iter().map(|photo| photo.path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.JPG"]);
        let table = root.join("t.csv");
        std::fs::write(
            &table,
            "file,R,G,B,clean,split\na.png,1,-2.5,3,b.JPG,train\nb.JPG,,,,,val\n",
        )
        .unwrap();
        let found = photos(&table, None, None).unwrap();
        assert_eq!(found[0].shift, Some([1.0, -2.5, 3.0]));
        assert_eq!((found[0].clean.clone(), found[1].shift), (Some(root.join("b.JPG")), None));
        assert_eq!(photos(&table, None, Some("val")).unwrap(), found[1..]);
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str, split| {
            let table = folder.path().join("t.csv");
            std::fs::write(&table, text).unwrap();
            photos(&table, None, split).unwrap_err().to_string()
        };
        let found = error("file,R,G,B\nx.png,1,2,3\nt.csv,1,,3\nt.csv,1,2,900\n", None);
        for part in ["line 2: there is no file", "line 3: R, G and B belong", "line 4: \"900\""] {
            assert!(found.contains(part), "{found}");
        }
        assert!(error("name\nx\n", None).contains("no column `file`"));
        assert!(error("file\nt.csv\n", Some("val")).contains("no column `split`"));
        assert!(error("file,split\nt.csv,a\n", Some("val")).contains("the split \"val\""));
        assert!(photos(&folder.path().join("none"), None, None).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(photos(empty.path(), None, None).unwrap_err().to_string().contains("no photo"));
    }
}
