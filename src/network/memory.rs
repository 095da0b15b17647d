//! What a network was trained on, as it remembers it: some embeddings that travel in the model
//! file. Who adds classes to the network later has the sounds at hand that the new ones are not.

use prost::Message as _;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use super::artifact::ModelError;

/// The key in `metadata_props`. Without the prefix of the model's metadata: what is remembered
/// depends on the layers before the last one, and stays true when that is replaced.
const KEY: &str = "hearken_memory";
/// Bytes of a memory at most, a fraction of a usual network.
const BYTES_MAX: usize = 256 << 10;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Embeddings of one length, to 8 bits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    pub embeddings: Vec<Vec<f32>>,
}

impl Memory {
    /// How many embeddings of `features` values there is room for.
    pub fn room(features: usize) -> usize {
        (BYTES_MAX / features.max(1)).saturating_sub(8)
    }

    /// What a model file remembers; nothing, if it has no memory.
    ///
    /// # Errors
    /// When the file is no ONNX file, or the memory is damaged.
    pub fn of(onnx: &[u8]) -> Result<Self, ModelError> {
        let proto = decode(onnx)?;
        let Some(entry) = proto.metadata_props.iter().find(|entry| entry.key == KEY) else {
            return Ok(Self::default());
        };
        let damaged = || ModelError::Metadata { key: "memory", why: "it is damaged".to_owned() };
        let (features, text) = entry.value.split_once(':').ok_or_else(damaged)?;
        let features: usize = features.parse().map_err(|_| damaged())?;
        let bytes = from_text(text).ok_or_else(damaged)?;
        Self::unpacked(features, &bytes).ok_or_else(damaged)
    }

    /// The ONNX file with this memory in the place of any that it had. Embeddings beyond
    /// [`Memory::room`] are left out.
    ///
    /// # Errors
    /// When the file is no ONNX file.
    pub fn put_into(&self, onnx: &[u8]) -> Result<Vec<u8>, ModelError> {
        let mut proto = decode(onnx)?;
        proto.metadata_props.retain(|entry| entry.key != KEY);
        if let Some(features) = self.embeddings.first().map(Vec::len).filter(|&length| length > 0) {
            let value = format!("{features}:{}", to_text(&self.packed(features)));
            proto.metadata_props.push(StringStringEntryProto { key: KEY.to_owned(), value });
        }
        Ok(proto.encode_to_vec())
    }

    /// Least value and step of each feature as little-endian floats, then a byte a value.
    fn packed(&self, features: usize) -> Vec<u8> {
        let fitting = self.embeddings.iter().filter(|values| values.len() == features);
        let kept: Vec<&Vec<f32>> = fitting.take(Self::room(features)).collect();
        let mut scales = Vec::with_capacity(features);
        for feature in 0..features {
            let values = || kept.iter().filter_map(|values| values.get(feature).copied());
            let least = values().fold(f32::INFINITY, f32::min);
            let most = values().fold(f32::NEG_INFINITY, f32::max);
            scales.push((least, (most - least) / 255.0));
        }
        let of_scales = scales.iter().flat_map(|&(least, step)| [least, step]);
        let mut bytes: Vec<u8> = of_scales.flat_map(f32::to_le_bytes).collect();
        for values in kept {
            let pairs = values.iter().zip(&scales);
            // A step of 0 gives no number, which becomes 0.
            bytes
                .extend(pairs.map(|(value, (least, step))| ((value - least) / step).round() as u8));
        }
        bytes
    }

    fn unpacked(features: usize, bytes: &[u8]) -> Option<Self> {
        let (scales, values) = bytes.split_at_checked(features.checked_mul(8)?)?;
        if features == 0 || values.len() % features != 0 {
            return None;
        }
        let floats: Vec<f32> =
            scales.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let value = |(byte, [least, step]): (&u8, &[f32; 2])| least + step * f32::from(*byte);
        let row = |row: &[u8]| row.iter().zip(floats.as_chunks().0).map(value).collect();
        Some(Self { embeddings: values.chunks_exact(features).map(row).collect() })
    }
}

fn decode(onnx: &[u8]) -> Result<ModelProto, ModelError> {
    ModelProto::decode(onnx).map_err(|error| ModelError::NotOnnx(error.to_string()))
}

/// Base 64 (RFC 4648) without padding.
fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        let number = number << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            let value = number >> (18 - 6 * digit) & 63;
            text.push(DIGITS.get(value as usize).copied().map_or('A', char::from));
        }
    }
    text
}

fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let mut number = 0_u32;
        for digit in group {
            let value = DIGITS.iter().position(|known| known == digit)?;
            number = number << 6 | value as u32;
        }
        let number = number << (6 * (4 - group.len()));
        bytes.extend(number.to_be_bytes().iter().skip(1).take(group.len().checked_sub(1)?));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHIPPED: &[u8] = include_bytes!("../../models/sound.onnx");

    /// The shipped model without the memory that it comes with.
    fn bare() -> Vec<u8> {
        Memory::default().put_into(SHIPPED).unwrap()
    }

    #[test]
    fn embeddings_come_back_to_8_bits() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut embedding = || {
            (0..40)
                .map(|n| if n == 7 { 3.0 } else { random.f32() * n as f32 })
                .collect::<Vec<f32>>()
        };
        let memory = Memory { embeddings: (0..9).map(|_| embedding()).collect() };
        let model = memory.put_into(&bare()).unwrap();
        let found = Memory::of(&model).unwrap();
        assert_eq!(found.embeddings.len(), 9);
        for (found, expected) in found.embeddings.iter().zip(&memory.embeddings) {
            for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert!((found - expected).abs() <= n as f32 / 500.0, "{found} for {expected}");
            }
        }
        // Twice is the same as once, and nothing takes it away.
        assert_eq!(memory.put_into(&model).unwrap(), model);
        assert_eq!(Memory::default().put_into(&model).unwrap(), bare());
    }

    #[test]
    fn it_stays_when_the_last_layer_is_replaced_and_never_takes_more_than_its_room() {
        let embeddings = vec![vec![0.5; 1_000]; 1_000];
        let model = Memory { embeddings }.put_into(SHIPPED).unwrap();
        assert!(model.len() < bare().len() + BYTES_MAX * 3 / 2, "{}", model.len());
        let kept = Memory::of(&model).unwrap().embeddings.len();
        assert_eq!(kept, Memory::room(1_000));
        let headless = crate::network::Headless::from_onnx(&model).unwrap();
        let onnx = headless.with_head(headless.head()).unwrap();
        let artifact = crate::network::Artifact::read(&model).unwrap();
        let wrapped = crate::network::wrap(&onnx, &artifact.metadata).unwrap();
        assert_eq!(Memory::of(&wrapped).unwrap().embeddings.len(), kept);
    }

    #[test]
    fn no_memory_is_none_and_a_damaged_one_is_an_error() {
        assert!(!Memory::of(SHIPPED).unwrap().embeddings.is_empty(), "what ships has one");
        assert!(Memory::of(&bare()).unwrap().embeddings.is_empty());
        assert!(matches!(Memory::of(b"RIFF"), Err(ModelError::NotOnnx(_))));
        for value in
            ["", "3", "x:AAAA", "2:AAAA", "1:AAAAAAAAAAA*", "0:", "99999999999999999999:AA"]
        {
            let mut proto = decode(&bare()).unwrap();
            let entry = StringStringEntryProto { key: KEY.to_owned(), value: value.to_owned() };
            proto.metadata_props.push(entry);
            assert!(Memory::of(&proto.encode_to_vec()).is_err(), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn text_gives_the_bytes_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_text(&to_text(&bytes)), Some(bytes));
        }
    }
}
