//! Files of comma-separated values with a header line, read by the names of their columns. The
//! only home of `csv`.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A larger table is not read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Problems that are shown; of the others only the number.
const PROBLEMS_SHOWN: usize = 10;

/// Labelled data, or a table of scores, that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Not there, or not readable: may be otherwise another time.
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// The table, or the folder, has to be put right.
    #[error("{}: {problems}", path.display())]
    Wrong { path: PathBuf, problems: Problems },
    /// Nothing to work with.
    #[error("{}: no audio file in this folder", path.display())]
    NoAudio { path: PathBuf },
}

/// All that is wrong with a table. Shows at most ten, each on a line of its own.
#[derive(Debug, Default)]
pub struct Problems {
    shown: Vec<String>,
    count: usize,
}

impl Problems {
    /// Something is wrong with the table as a whole.
    pub fn add(&mut self, what: impl Into<String>) {
        self.count += 1;
        if self.shown.len() < PROBLEMS_SHOWN {
            self.shown.push(what.into());
        }
    }

    /// Something is wrong in a line, counted from 1.
    pub fn add_line(&mut self, line: u64, what: impl fmt::Display) {
        self.add(format!("line {line}: {what}"));
    }

    /// `Ok` when nothing is wrong with the table at `path`.
    ///
    /// # Errors
    /// [`DatasetError::Wrong`] with all problems.
    pub fn none_in(self, path: &Path) -> Result<(), DatasetError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(DatasetError::Wrong { path: path.to_owned(), problems: self })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([only], 1) = (self.shown.as_slice(), self.count) {
            return f.write_str(only);
        }
        write!(f, "{} problems", self.count)?;
        for problem in &self.shown {
            write!(f, "\n  {problem}")?;
        }
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// A table in memory: fields are trimmed.
pub struct Columns {
    pub header: Vec<String>,
    pub rows: Vec<Row>,
}

/// One record, with as many fields as the header.
pub struct Row {
    /// Where it begins in the file, counted from 1.
    pub line: u64,
    fields: Vec<String>,
}

impl Row {
    /// The field in this column; empty where there is no such column.
    pub fn get(&self, column: usize) -> &str {
        self.fields.get(column).map_or("", String::as_str)
    }

    /// The field in a column that a table may lack; `None` where it lacks it or the field is empty.
    pub fn given(&self, column: Option<usize>) -> Option<&str> {
        column.map(|column| self.get(column)).filter(|field| !field.is_empty())
    }
}

impl Columns {
    /// Reads a whole table. Rows that are not readable are added to `problems`.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(path: &Path, problems: &mut Problems) -> Result<Self, DatasetError> {
        let unreadable = |error| DatasetError::Unreadable { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            problems.add(format!("a table of over {} MiB is not read", FILE_BYTES_MAX >> 20));
            bytes.clear();
        }
        Ok(Self::parse(&bytes, problems))
    }

    fn parse(bytes: &[u8], problems: &mut Problems) -> Self {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let words = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
        let header = match reader.headers() {
            Ok(header) => words(header),
            Err(error) => {
                problems.add_line(1, error);
                return Self { header: Vec::new(), rows: Vec::new() };
            }
        };
        let mut rows = Vec::new();
        for record in reader.into_records() {
            match record {
                Ok(record) => rows.push(Row {
                    line: record.position().map_or(0, |place| line_of(place, bytes)),
                    fields: words(&record),
                }),
                // The library's error names the line itself.
                Err(error) => problems.add(error.to_string()),
            }
        }
        Self { header, rows }
    }

    /// The place of the first column that has one of these names, whatever the case.
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        let named = |name: &str| self.header.iter().position(|h| h.eq_ignore_ascii_case(name));
        names.iter().find_map(|name| named(name))
    }

    /// Like [`Columns::find`], for a column that must be there.
    pub fn need(&self, names: &[&str], problems: &mut Problems) -> Option<usize> {
        let found = self.find(names);
        if found.is_none() {
            let (names, header) = (names.join("` or `"), self.header.join(", "));
            problems.add_line(1, format!("no column `{names}` (there are: {header})"));
        }
        found
    }
}

/// The line that a record begins in. The library's own place lies before the line feed, and the
/// empty lines, that precede it.
fn line_of(place: &csv::Position, bytes: &[u8]) -> u64 {
    let rest = bytes.get(place.byte() as usize..).unwrap_or_default();
    let before = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    place.line() + before.filter(|&&byte| byte == b'\n').count() as u64
}

/// Records as a file's content, quoted where needed (RFC 4180 with bare line feeds).
pub fn to_csv<'a, R>(records: impl Iterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item = &'a str>,
{
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for record in records {
        // Writing to memory can't fail, and any number of fields is allowed.
        let _ = writer.write_record(record);
    }
    writer.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_rows_know_their_line() {
        let text = "\u{feff}Label, file\n dog ,\"a, b.wav\"\n\n\"two\nlines\",c.wav\n,d.wav\n";
        let mut problems = Problems::default();
        let table = Columns::parse(text.as_bytes(), &mut problems);
        problems.none_in(Path::new("t.csv")).unwrap();
        let windows =
            Columns::parse(text.replace('\n', "\r\n").as_bytes(), &mut Problems::default());
        let lines = |table: &Columns| table.rows.iter().map(|row| row.line).collect::<Vec<u64>>();
        assert_eq!(lines(&windows), lines(&table));
        let (label, file) = (table.find(&["label"]), table.find(&["filename", "file"]).unwrap());
        assert_eq!(table.find(&["fold"]), None);
        let rows: Vec<_> =
            table.rows.iter().map(|row| (row.line, row.given(label), row.get(file))).collect();
        let expected =
            [(2, Some("dog"), "a, b.wav"), (4, Some("two\nlines"), "c.wav"), (6, None, "d.wav")];
        assert_eq!(rows, expected);
    }

    #[test]
    fn bad_rows_are_all_reported_and_the_others_read() {
        let mut text = b"file,label\n".to_vec();
        (0..20).for_each(|_| text.extend(b"only one field\n"));
        text.extend(b"\xff\xfe,dog\na.wav,cat\n");
        let mut problems = Problems::default();
        let table = Columns::parse(&text, &mut problems);
        assert_eq!(table.rows.len(), 1);
        assert_eq!(table.need(&["file", "filename"], &mut problems), Some(0));
        assert_eq!(table.need(&["start"], &mut problems), None);
        let error = problems.none_in(Path::new("t.csv")).unwrap_err().to_string();
        assert!(error.starts_with("t.csv: 22 problems\n"), "{error}");
        assert!(error.contains("line: 2") && error.ends_with("and 12 more"), "{error}");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let records = [["file", "a\"b"], ["x, y", "1"]];
        let bytes = to_csv(records.into_iter());
        let table = Columns::parse(&bytes, &mut Problems::default());
        assert_eq!(table.header, records[0]);
        assert_eq!(table.rows[0].get(0), "x, y");
    }

    proptest::proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn any_table_is_read_or_refused(
            head in "(file|label|fold|start|end|,|\"|\n|[a-zé]){0,12}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let bytes = [head.as_bytes(), b"\n", &body].concat();
            let table = Columns::parse(&bytes, &mut Problems::default());
            proptest::prop_assert!(table.rows.len() <= bytes.len());
        }
    }
}
