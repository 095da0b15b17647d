//! The colours of power: matplotlib's magma (CC0), dark for quiet and light for loud. Its
//! lightness rises evenly, so that equal steps in decibels look equal, also in grey and to
//! colour-blind eyes.

/// Magma at nine evenly spaced points; straight lines in sRGB between them. A CSS
/// `linear-gradient` of the same stops has the same colours.
pub(super) const STOPS: [[u8; 3]; 9] = [
    [0x00, 0x00, 0x04],
    [0x1d, 0x11, 0x47],
    [0x51, 0x12, 0x7c],
    [0x83, 0x26, 0x81],
    [0xb6, 0x36, 0x79],
    [0xe6, 0x51, 0x64],
    [0xfb, 0x88, 0x61],
    [0xfe, 0xc2, 0x87],
    [0xfc, 0xfd, 0xbf],
];

/// The sRGB colour of a pixel value; 0 is the quietest.
pub(super) fn color(value: u8) -> [u8; 3] {
    let scaled = u32::from(value) * (STOPS.len() - 1) as u32;
    let (stop, part) = ((scaled / 255) as usize, scaled % 255);
    let below = STOPS.get(stop).copied().unwrap_or_default();
    let above = STOPS.get(stop + 1).copied().unwrap_or(below);
    let mut mixed = below;
    for (out, (&low, &high)) in mixed.iter_mut().zip(below.iter().zip(&above)) {
        *out = ((u32::from(low) * (255 - part) + u32::from(high) * part + 127) / 255) as u8;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE 1976 lightness of an sRGB colour (IEC 61966-2-1, D65), 0 to 100.
    fn lightness(color: [u8; 3]) -> f64 {
        let linear = color.map(|byte| {
            let c = f64::from(byte) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        let y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        if y <= 216.0 / 24_389.0 { y * 24_389.0 / 27.0 } else { 116.0 * y.cbrt() - 16.0 }
    }

    #[test]
    fn lightness_never_falls_and_rises_evenly() {
        let all: Vec<f64> = (0..=255).map(|value| lightness(color(value))).collect();
        // Bytes are rounded, so neighbours may tie; three steps on, it must be lighter.
        assert!(all.windows(2).all(|pair| pair[1] > pair[0] - 0.2), "{all:?}");
        assert!(all.windows(4).all(|four| four[3] > four[0]), "{all:?}");
        // Magma is even in CAM02-UCS, whose lightness is not quite CIE's: hence the tolerance.
        let mean = (all[255] - all[0]) / 255.0;
        for (value, steps) in all.windows(33).enumerate() {
            let rise = (steps[32] - steps[0]) / 32.0 / mean;
            assert!(
                (0.7..1.35).contains(&rise),
                "from value {value} it rises by {rise} of the mean"
            );
        }
    }

    #[test]
    fn the_ends_are_the_first_and_last_stop() {
        assert_eq!(color(0), STOPS[0]);
        assert_eq!(color(255), STOPS[8]);
    }
}
