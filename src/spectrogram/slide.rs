//! The newest columns of a stream, as a window that slides over it.

use super::image::Image;

/// Keeps the last 227 columns and says when the next window is due.
pub struct Slide {
    bands: usize,
    hop_columns: usize,
    /// The kept columns one after the other, a ring of whole columns.
    pixels: Vec<u8>,
    /// Columns taken since the last reset.
    taken: u64,
    /// `taken` at the last window.
    last_window: Option<u64>,
}

impl Slide {
    /// Windows every `hop_columns` columns of `bands` pixels.
    pub fn new(bands: usize, hop_columns: usize) -> Self {
        Self {
            bands,
            hop_columns: hop_columns.max(1),
            pixels: vec![0; bands * Image::SIDE],
            taken: 0,
            last_window: None,
        }
    }

    /// Takes a column, the lowest band first. True when a window is due: at the first moment that
    /// 227 columns are there, and every hop from then on.
    pub fn push(&mut self, column: &[u8]) -> bool {
        let slot = (self.taken % Image::SIDE as u64) as usize * self.bands;
        if let Some(place) = self.pixels.get_mut(slot..slot + self.bands) {
            for (pixel, &value) in place.iter_mut().zip(column) {
                *pixel = value;
            }
        }
        self.taken += 1;
        let due = match self.last_window {
            Some(last) => self.taken - last >= self.hop_columns as u64,
            None => self.taken >= Image::SIDE as u64,
        };
        if due {
            self.last_window = Some(self.taken);
        }
        due
    }

    /// The window that ends with the newest column. Before 227 columns have come, the rest of
    /// the image, on the right, is digital silence.
    pub fn image(&self) -> Image {
        let filled = self.taken.min(Image::SIDE as u64);
        let columns = (self.taken - filled..self.taken).filter_map(|column| {
            let slot = (column % Image::SIDE as u64) as usize * self.bands;
            self.pixels.get(slot..slot + self.bands)
        });
        Image::from_columns(columns)
    }

    /// Whether the end of a stream still owes a window: when none has been shown, or when half a
    /// hop or more has come since.
    pub fn owes_a_window(&self) -> bool {
        match self.last_window {
            Some(last) => 2 * (self.taken - last) >= self.hop_columns as u64,
            None => self.taken > 0,
        }
    }

    /// Whether a window has been due since the last reset.
    pub fn has_shown(&self) -> bool {
        self.last_window.is_some()
    }

    /// Forgets everything: the next column is a first one.
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
        let mut slide = Slide::new(227, 23);
        assert_eq!(columns(300, &mut slide), [226, 249, 272, 295]);
        let bottom: Vec<u8> = slide.image().rows().next_back().unwrap().to_vec();
        let expected: Vec<u8> = (73..300).map(|n: usize| n as u8).collect();
        assert_eq!(bottom, expected);
        assert!(!slide.owes_a_window(), "four columns are less than half a hop");
        columns(12, &mut slide);
        assert!(slide.owes_a_window());
    }

    #[test]
    fn a_short_stream_is_followed_by_silence() {
        let mut slide = Slide::new(227, 23);
        assert!(columns(10, &mut slide).is_empty());
        let bottom: Vec<u8> = slide.image().rows().next_back().unwrap().to_vec();
        assert_eq!(bottom[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(bottom[10..].iter().all(|&pixel| pixel == 0));
        slide.reset();
        assert!(!slide.owes_a_window());
    }
}
