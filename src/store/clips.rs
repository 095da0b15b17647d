//! Sounds as FLAC files, each written whole or not at all, the oldest deleted when there are too many.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use flacenc::bitsink::ByteSink;
use flacenc::component::BitRepr as _;
use flacenc::error::Verify as _;
use flacenc::source::MemSource;

use super::folder::prepare_folder;

const BITS: usize = 16;
/// What unfinished files end in.
const UNFINISHED: &str = "part";
const ENDING: &str = "flac";

/// One channel of samples as a FLAC file.
///
/// # Errors
/// When the sample rate is not one that FLAC can say.
pub fn flac(samples: &[i16], sample_rate_hz: u32) -> Result<Vec<u8>, String> {
    let config = flacenc::config::Encoder::default();
    let config = config.into_verified().map_err(|(_, error)| error.to_string())?;
    let samples: Vec<i32> = samples.iter().copied().map(i32::from).collect();
    let source = MemSource::from_samples(&samples, 1, BITS, sample_rate_hz as usize);
    let block = config.block_size;
    let mut stream = flacenc::encode_with_fixed_block_size(&config, source, block)
        .map_err(|error| error.to_string())?;
    // The last block may be shorter, and does not count for this (RFC 9639, 8.2); decoders take
    // what does not fit together for another kind of stream.
    stream.stream_info_mut().set_block_sizes(block, block).map_err(|error| error.to_string())?;
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|error| error.to_string())?;
    Ok(sink.as_slice().to_vec())
}

/// Writes a clip under a name of its own, for the owner alone.
///
/// # Errors
/// When it could not be written; nothing is left of it then.
pub fn write_clip(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    prepare_folder(folder)?;
    let path = folder.join(name);
    let unfinished = path.with_extension(UNFINISHED);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    });
    if written.is_err() {
        // It may never have been made; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Deletes the oldest clips until the others take at most `size_max` bytes, and what an earlier
/// process left unfinished. Returns the names of the clips that went.
///
/// # Errors
/// When the folder can't be looked through.
pub fn limit_clips(folder: &Path, size_max: u64) -> io::Result<Vec<String>> {
    let mut clips: Vec<(SystemTime, u64, std::path::PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some(ENDING) => {
                let Ok(file) = fs::metadata(&path) else { continue };
                clips.push((file.modified().unwrap_or(SystemTime::UNIX_EPOCH), file.len(), path));
            }
            Some(UNFINISHED) => drop(fs::remove_file(&path)),
            _ => {}
        }
    }
    clips.sort();
    let mut total: u64 = clips.iter().map(|(_, bytes, _)| bytes).sum();
    let mut gone = Vec::new();
    for (_, bytes, path) in clips {
        if total <= size_max {
            break;
        }
        if fs::remove_file(&path).is_ok() {
            total -= bytes;
            gone.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_written_whole_and_the_oldest_go() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("clips");
        let samples: Vec<i16> = (0..48_000).map(|n| ((n * 37) % 20_000) as i16 - 10_000).collect();
        let bytes = flac(&samples, 48_000).unwrap();
        assert_eq!(bytes[..4], *b"fLaC");
        assert!(bytes.len() < samples.len() * 2, "{}", bytes.len());
        for n in 0..4 {
            write_clip(&folder, &format!("{n}.flac"), &bytes).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            let file = fs::File::options().write(true).open(folder.join(format!("{n}.flac")));
            file.unwrap().set_modified(at).unwrap();
        }
        fs::write(folder.join("left.part"), "x").unwrap();
        fs::write(folder.join("notes.txt"), "x").unwrap();
        let gone = limit_clips(&folder, 2 * bytes.len() as u64 + 10).unwrap();
        assert_eq!(gone, ["0.flac", "1.flac"]);
        let mut left: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["2.flac", "3.flac", "notes.txt"]);
        fs::write(base.path().join("file"), "").unwrap();
        assert!(write_clip(&base.path().join("file"), "a.flac", &bytes).is_err());
    }
}
