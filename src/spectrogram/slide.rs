//! The newest spectra of a stream, as a window that slides over it.

use super::image::Image;

/// Keeps the spectra of the last 227 columns and says when the next window is due.
pub struct Slide {
    channels: usize,
    /// Spectra of a window.
    window: u64,
    /// Spectra from one window to the next.
    hop: u64,
    /// The kept spectra one after the other, as a ring.
    pixels: Vec<u8>,
    /// Spectra taken since the last reset.
    taken: u64,
    /// `taken` at the last window.
    last_window: Option<u64>,
}

impl Slide {
    /// Windows every `hop_columns` columns of `channels` spectra, of 227 pixels each.
    pub fn new(channels: usize, hop_columns: usize) -> Self {
        let window = channels * Image::SIDE;
        Self {
            channels,
            window: window as u64,
            hop: (channels * hop_columns.max(1)) as u64,
            pixels: vec![0; window * Image::SIDE],
            taken: 0,
            last_window: None,
        }
    }

    /// Takes a spectrum, the lowest band first. True when a window is due: at the first moment
    /// that 227 columns are there, and every hop from then on.
    pub fn push(&mut self, spectrum: &[u8]) -> bool {
        let slot = self.slot(self.taken);
        if let Some(place) = self.pixels.get_mut(slot) {
            for (pixel, &value) in place.iter_mut().zip(spectrum) {
                *pixel = value;
            }
        }
        self.taken += 1;
        let due = match self.last_window {
            Some(last) => self.taken - last >= self.hop,
            None => self.taken >= self.window,
        };
        if due {
            self.last_window = Some(self.taken);
        }
        due
    }

    /// The window that ends with the newest spectrum. Before 227 columns have come, the rest of
    /// the image, on the right, is digital silence.
    pub fn image(&self) -> Image {
        let kept = self.taken.saturating_sub(self.window)..self.taken;
        let spectra = kept.filter_map(|spectrum| self.pixels.get(self.slot(spectrum)));
        Image::from_spectra(self.channels, spectra)
    }

    /// Where a spectrum lies in the ring.
    fn slot(&self, spectrum: u64) -> std::ops::Range<usize> {
        let start = (spectrum % self.window.max(1)) as usize * Image::SIDE;
        start..start + Image::SIDE
    }

    /// Whether the end of a stream still owes a window: when none has been shown, or when half a
    /// hop or more has come since.
    pub fn owes_a_window(&self) -> bool {
        match self.last_window {
            Some(last) => 2 * (self.taken - last) >= self.hop,
            None => self.taken > 0,
        }
    }

    /// Whether a window has been due since the last reset.
    pub fn has_shown(&self) -> bool {
        self.last_window.is_some()
    }

    /// Forgets everything: the next spectrum is a first one.
    pub fn reset(&mut self) {
        self.taken = 0;
        self.last_window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(count: usize, slide: &mut Slide) -> Vec<usize> {
        (0..count).filter(|&n| slide.push(&[n as u8; 227])).collect()
    }

    #[test]
    fn the_first_window_is_full_and_the_others_follow_every_hop() {
        let mut slide = Slide::new(1, 23);
        assert_eq!(columns(300, &mut slide), [226, 249, 272, 295]);
        let bottom: Vec<u8> = slide.image().rows().last().unwrap().to_vec();
        let expected: Vec<u8> = (73..300).map(|n: usize| n as u8).collect();
        assert_eq!(bottom, expected);
        assert!(!slide.owes_a_window(), "four columns are less than half a hop");
        columns(12, &mut slide);
        assert!(slide.owes_a_window());
    }

    #[test]
    fn three_spectra_make_a_column() {
        let mut slide = Slide::new(3, 23);
        assert_eq!(columns(3 * 260, &mut slide), [680, 749]);
        let rows: Vec<Vec<u8>> = slide.image().rows().map(<[u8]>::to_vec).collect();
        for (channel, rows) in rows.chunks(227).enumerate() {
            let expected = (33..260).map(|n: usize| (3 * n + channel) as u8);
            assert!(rows[0].iter().copied().eq(expected));
        }
    }

    #[test]
    fn a_short_stream_is_followed_by_silence() {
        let mut slide = Slide::new(1, 23);
        assert!(columns(10, &mut slide).is_empty());
        let bottom: Vec<u8> = slide.image().rows().last().unwrap().to_vec();
        assert_eq!(bottom[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(bottom[10..].iter().all(|&pixel| pixel == 0));
        slide.reset();
        assert!(!slide.owes_a_window());
    }
}
