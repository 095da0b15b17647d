//! Photographs for training and evaluation: which there are, and their pixels.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::parallel::in_parallel;
use crate::colour::{Shift, ShiftModel};
use crate::data::photos::{Listed, photos};
use crate::picture::{Format, Photo};
use crate::train::photos::Picture;

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Args)]
pub struct PhotosArgs {
    /// Photos: a CSV (file[,R,G,B][,clean][,split]) of shifted or clean ones, or a folder of clean
    /// ones
    pub data: PathBuf,
    /// Folder that the CSV's files are relative to; default: its own
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Only rows of the CSV whose column `split` says so
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Photos that are worked on at the same time; default: as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

/// What is done to the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A value is added to each channel as it is stored
    Offset,
    /// Each channel's light is multiplied (von Kries)
    Gain,
}

impl Kind {
    pub fn model(self) -> ShiftModel {
        match self {
            Self::Offset => ShiftModel::Offset,
            Self::Gain => ShiftModel::Gain,
        }
    }
}

impl PhotosArgs {
    /// Which photos there are.
    pub fn list(&self) -> anyhow::Result<Vec<Listed>> {
        Ok(photos(&self.data, self.root.as_deref(), self.split.as_deref())?)
    }

    /// All of them in memory, those without colour left out. Also says how many these were.
    pub fn load(&self, model: ShiftModel) -> anyhow::Result<(Vec<Picture>, usize)> {
        let listed = self.list()?;
        let found = in_parallel(
            self.jobs,
            listed.len(),
            || Ok(()),
            |index, ()| {
                let Some(listed) = listed.get(index) else { bail!("no photo {index}") };
                let photo = read(&listed.path)?;
                if photo.is_grey() {
                    return Ok(None);
                }
                let (width, height, rgb) = photo.rgb8();
                let shift = listed.shift.map(|values| Shift::from_shown(model, values));
                Ok(Some(Picture { width, height, rgb, shift }))
            },
        )?;
        let pictures: Vec<Picture> = found.into_iter().flatten().collect();
        let grey = listed.len() - pictures.len();
        Ok((pictures, grey))
    }
}

/// Reads a photo; the error names it.
pub fn read(path: &Path) -> anyhow::Result<Photo> {
    let name = || format!("{}", path.display());
    let bytes = read_bytes(path)?;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    Photo::read(&bytes, Format::of_ending(&ending)).with_context(name)
}

fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let name = || format!("{}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(name)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(name)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{}: a photo of over {} MiB is not read", path.display(), FILE_BYTES_MAX >> 20);
    }
    Ok(bytes)
}
