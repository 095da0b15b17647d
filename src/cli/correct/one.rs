//! One photo: read, corrected, written.

use std::path::{Path, PathBuf};

use super::Writing;
use super::places::Place;
use crate::chart::{Side, compare};
use crate::cli::output;
use crate::cli::photos::read;
use crate::correct::{Correction, Corrector, Decision, Settings};
use crate::picture::{Photo, encode_rgb};

/// The longer side of a preview's pictures in pixels.
const PREVIEW_SIDE: u32 = 640;

/// What became of a photo.
pub struct Ended {
    pub correction: Correction,
    /// The files that were written, or would have been.
    pub out: Option<PathBuf>,
    pub preview: Option<PathBuf>,
}

/// Corrects a file into another.
pub fn of_file(
    place: &Place,
    corrector: &mut Corrector,
    settings: &Settings,
    writing: &Writing,
) -> anyhow::Result<Ended> {
    let mut photo = match read(&place.photo) {
        Ok(photo) => photo,
        // The caller names the photo.
        Err(error) => return Err(unnamed(error)),
    };
    if !writing.dry_run {
        // Before any work is done.
        output::check_free(&place.out, writing.force)?;
    }
    let before = match writing.preview && !photo.is_grey() {
        true => Some(photo.thumbnail(PREVIEW_SIDE)?),
        false => None,
    };
    let correction = corrector.correct(&mut photo, settings)?;
    let mut ended = Ended { correction, out: None, preview: None };
    if correction.decision != Decision::Corrected {
        return Ok(ended);
    }
    ended.out = Some(place.out.clone());
    ended.preview = before.is_some().then(|| place.preview.clone());
    if writing.dry_run {
        return Ok(ended);
    }
    if let Some(folder) = place.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let preview = match &before {
        Some(before) => {
            output::check_free(&place.preview, writing.force)?;
            Some(picture(&place.photo, before, &photo, &correction)?)
        }
        None => None,
    };
    output::write_file(&place.out, &photo.write(writing.quality)?, writing.force)?;
    if let Some(preview) = preview {
        output::write_file(&place.preview, &preview, writing.force)?;
    }
    Ok(ended)
}

/// Corrects a photo in memory. `None` stands for the bytes that were given: it is left alone.
pub fn of_bytes(
    bytes: &[u8],
    corrector: &mut Corrector,
    settings: &Settings,
    quality: u8,
) -> anyhow::Result<(Ended, Option<Vec<u8>>)> {
    let mut photo = Photo::read(bytes, None)?;
    let correction = corrector.correct(&mut photo, settings)?;
    let ended = Ended { correction, out: None, preview: None };
    let is_changed = correction.decision == Decision::Corrected;
    Ok((ended, is_changed.then(|| photo.write(quality)).transpose()?))
}

/// The cause of an error about a photo, without the photo's name.
fn unnamed(error: anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.root_cause())
}

fn picture(
    path: &Path,
    (width, height, before): &(u32, u32, Vec<u8>),
    photo: &Photo,
    correction: &Correction,
) -> anyhow::Result<Vec<u8>> {
    let (after_width, after_height, after) = photo.thumbnail(PREVIEW_SIDE)?;
    let side = |name, width: u32, height: u32, rgb| Side {
        name,
        width: width as usize,
        height: height as usize,
        rgb,
    };
    let sides = [
        side("before", *width, *height, before.as_chunks().0),
        side("after", after_width, after_height, after.as_chunks().0),
    ];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let words = super::report::words(correction);
    let picture = compare(&name, &words, sides).map_err(anyhow::Error::msg)?;
    Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
}
