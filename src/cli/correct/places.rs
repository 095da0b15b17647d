//! Which photos are meant, and where their results go.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::{Outcome, Usage, output};
use crate::data::files::search;
use crate::data::photos::is_photo;

/// What is added to the name of a preview.
const PREVIEW: &str = "_preview.png";

/// A photo and where its results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub photo: PathBuf,
    pub out: PathBuf,
    pub preview: PathBuf,
}

/// Files as they are, folders with all folders within, patterns as the shell would have done it.
/// In folders, what earlier runs wrote is passed over. What can't be read is said.
pub fn places(
    paths: &[PathBuf],
    out_dir: Option<&Path>,
    suffix: &str,
) -> anyhow::Result<(Vec<Place>, Outcome)> {
    let mut places = Vec::new();
    let mut outcome = Outcome::Done;
    let mut complain = |what: String| {
        output::complain(&what);
        outcome = Outcome::SomeFailed;
    };
    for path in paths {
        let mut found: Vec<PathBuf> = Vec::new();
        for path in matches(path)? {
            if !path.is_dir() {
                places.push(place(&path, None, out_dir, suffix));
                continue;
            }
            let before = found.len();
            search(&path, &is_photo, &mut found, &mut |folder, error| {
                complain(format!("{}: {error}", folder.display()));
            });
            if found.len() == before {
                complain(format!("{}: no photo in this folder", path.display()));
            }
            let ours = |photo: &&PathBuf| !is_ours(photo, suffix);
            let new = found.iter().skip(before).filter(ours);
            places.extend(new.map(|photo| place(photo, Some(&path), out_dir, suffix)));
        }
    }
    Ok((places, outcome))
}

/// The files and folders that a pattern means; what is there needs no pattern.
fn matches(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    if path.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let found = glob::glob(&text).map_err(|error| Usage(format!("{text}: {error}")))?;
    let found: Vec<PathBuf> = found.collect::<Result<_, _>>().context("a folder of the pattern")?;
    // Nothing matches: the name itself is what can't be found.
    Ok(if found.is_empty() { vec![path.to_owned()] } else { found })
}

/// Whether an earlier run wrote it.
fn is_ours(photo: &Path, suffix: &str) -> bool {
    let name = photo.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.ends_with(PREVIEW) || (!suffix.is_empty() && stem.ends_with(suffix))
}

fn place(photo: &Path, within: Option<&Path>, out_dir: Option<&Path>, suffix: &str) -> Place {
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}{suffix}");
    if let Some(ending) = photo.extension() {
        name = format!("{name}.{}", ending.to_string_lossy());
    }
    // The folders within a folder are kept.
    let parent = photo.parent().unwrap_or(Path::new(""));
    let inner = within.and_then(|folder| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
    let folder = out_dir.map_or_else(|| parent.to_owned(), |out| out.join(inner));
    let preview = folder.join(format!("{stem}{suffix}{PREVIEW}"));
    Place { photo: photo.to_owned(), out: folder.join(name), preview }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_beside_or_in_the_same_folders_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("sub")).unwrap();
        for name in
            ["a.JPG", "a_corrected.JPG", "sub/b.png", "sub/b_corrected_preview.png", "c.txt"]
        {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let of = |path: &Path, out: Option<&Path>| {
            let (places, outcome) = places(&[path.to_owned()], out, "_corrected").unwrap();
            assert_eq!(outcome, Outcome::Done);
            let shown = |p: &PathBuf| p.strip_prefix(root).unwrap_or(p).display().to_string();
            places.iter().map(|place| (shown(&place.photo), shown(&place.out))).collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let beside = [pair("a.JPG", "a_corrected.JPG"), pair("sub/b.png", "sub/b_corrected.png")];
        assert_eq!(of(root, None), beside);
        let out = Path::new("/out");
        let there =
            [pair("a.JPG", "/out/a_corrected.JPG"), pair("sub/b.png", "/out/sub/b_corrected.png")];
        assert_eq!(of(root, Some(out)), there);
        assert_eq!(of(&root.join("su*/b.png"), None), beside[1..]);
        assert_eq!(of(&root.join("none*.png"), None)[0].0, "none*.png");
        // Asked for by name, it is done.
        assert_eq!(of(&root.join("a_corrected.JPG"), None).len(), 1);
    }
}
