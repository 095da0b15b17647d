//! How different two colours look: Delta E 2000. The only home of `palette`.

use palette::color_difference::Ciede2000 as _;
use palette::white_point::D65;
use palette::{IntoColor as _, Lab, Srgb};

/// CIEDE2000 (Sharma, Wu, Dalal 2005) of two colours in sRGB of 0 to 255, white D65. About 1 is
/// just seen.
pub fn delta_e(one: [u8; 3], other: [u8; 3]) -> f64 {
    lab(one).difference(lab(other))
}

fn lab([red, green, blue]: [u8; 3]) -> Lab<D65, f64> {
    Srgb::new(red, green, blue).into_format::<f64>().into_color()
}

/// The mean over pairs of pixels; `None` of none.
pub fn mean_delta_e(pairs: impl Iterator<Item = ([u8; 3], [u8; 3])>) -> Option<f64> {
    let (sum, count) = pairs.fold((0.0, 0_u64), |(sum, count), (one, other)| {
        (sum + if one == other { 0.0 } else { delta_e(one, other) }, count + 1)
    });
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 34 pairs that Sharma, Wu and Dalal published to check programs with: L, a, b of both,
    /// and the difference.
    const SHARMA: [[f64; 7]; 34] = [
        [50.0, 2.6772, -79.7751, 50.0, 0.0, -82.7485, 2.0425],
        [50.0, 3.1571, -77.2803, 50.0, 0.0, -82.7485, 2.8615],
        [50.0, 2.8361, -74.0200, 50.0, 0.0, -82.7485, 3.4412],
        [50.0, -1.3802, -84.2814, 50.0, 0.0, -82.7485, 1.0000],
        [50.0, -1.1848, -84.8006, 50.0, 0.0, -82.7485, 1.0000],
        [50.0, -0.9009, -85.5211, 50.0, 0.0, -82.7485, 1.0000],
        [50.0, 0.0, 0.0, 50.0, -1.0, 2.0, 2.3669],
        [50.0, -1.0, 2.0, 50.0, 0.0, 0.0, 2.3669],
        [50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0009, 7.1792],
        [50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0010, 7.1792],
        [50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0011, 7.2195],
        [50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0012, 7.2195],
        [50.0, -0.0010, 2.4900, 50.0, 0.0009, -2.4900, 4.8045],
        [50.0, -0.0010, 2.4900, 50.0, 0.0010, -2.4900, 4.8045],
        [50.0, -0.0010, 2.4900, 50.0, 0.0011, -2.4900, 4.7461],
        [50.0, 2.5, 0.0, 50.0, 0.0, -2.5, 4.3065],
        [50.0, 2.5, 0.0, 73.0, 25.0, -18.0, 27.1492],
        [50.0, 2.5, 0.0, 61.0, -5.0, 29.0, 22.8977],
        [50.0, 2.5, 0.0, 56.0, -27.0, -3.0, 31.9030],
        [50.0, 2.5, 0.0, 58.0, 24.0, 15.0, 19.4535],
        [50.0, 2.5, 0.0, 50.0, 3.1736, 0.5854, 1.0000],
        [50.0, 2.5, 0.0, 50.0, 3.2972, 0.0, 1.0000],
        [50.0, 2.5, 0.0, 50.0, 1.8634, 0.5757, 1.0000],
        [50.0, 2.5, 0.0, 50.0, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ];

    #[test]
    fn differences_are_the_published_ones() {
        for [l1, a1, b1, l2, a2, b2, expected] in SHARMA {
            let found = Lab::<D65, f64>::new(l1, a1, b1).difference(Lab::new(l2, a2, b2));
            assert!((found - expected).abs() < 1e-4, "{l1} {a1} {b1}: {found}, {expected}");
        }
    }

    #[test]
    fn colours_of_photos_are_taken_as_srgb() {
        // scikit-image 0.26: deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).
        let pairs = [
            ([255, 255, 255], [0, 0, 0], 100.0),
            ([200, 100, 50], [190, 110, 60], 5.3),
            ([10, 20, 30], [10, 20, 30], 0.0),
        ];
        for (one, other, expected) in pairs {
            let found = delta_e(one, other);
            assert!((found - expected).abs() < 0.06, "{one:?}: {found}, {expected}");
        }
        assert_eq!(mean_delta_e(std::iter::empty()), None);
        let mean = mean_delta_e([([0; 3], [0; 3]), ([0; 3], [255; 3])].into_iter());
        assert!((mean.unwrap() - 50.0).abs() < 0.03);
    }
}
