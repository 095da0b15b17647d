//! What the JPEG decoder does not tell: it fills what a cut file lacks with grey, and takes four
//! inks for three lights.

/// Why a JPEG file is better left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It has no end.
    Truncated,
    /// Cyan, magenta, yellow, black.
    FourInks,
}

/// Looks through the segments up to the image's data (ITU-T T.81, annex B), then for the marker
/// of its end.
pub(super) fn flaw(bytes: &[u8]) -> Option<Flaw> {
    let mut at = 2;
    let mut components = None;
    loop {
        // Bytes of 0xFF may fill up the room before a marker.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) else {
            return Some(Flaw::Truncated);
        };
        let is_frame = (0xc0..=0xcf).contains(&marker) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if is_frame {
            components = bytes.get(at + 9).copied();
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            break;
        }
    }
    // Within the data, 0xFF is followed by 0 or the number of a restart.
    let data = bytes.get(at..).unwrap_or_default();
    let has_end = data.windows(2).any(|pair| pair == [0xff, 0xd9]);
    match (components, has_end) {
        (_, false) => Some(Flaw::Truncated),
        (Some(4), true) => Some(Flaw::FourInks),
        _ => None,
    }
}
