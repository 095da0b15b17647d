//! Starting weights: what another program's training left behind, put into a network by the
//! names of its layers.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::architecture::{Architecture, adapt};
use crate::network::{Layers, Op, Weight};

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// Why starting weights can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StartingError {
    #[error("weights {path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("weights {path}: not a NumPy archive (.npz) or a safetensors file: {why}")]
    Format { path: PathBuf, why: String },
    #[error("weights {path}: `{name}` is {found:?}, the network's is {wanted:?}")]
    Shape { path: PathBuf, name: String, found: Vec<usize>, wanted: Vec<usize> },
    #[error("weights {path}: none of their names is one of the network's, as `{example}` is")]
    Strange { path: PathBuf, example: String },
}

/// What became of the network's weights.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Names of the network's weights that came from the file.
    pub filled: Vec<String>,
    /// Names of those that stay as they were: the file has none of that name, or it is the last
    /// layer, with another number of outputs.
    pub left: Vec<String>,
}

/// Puts the weights in the file at `path` (`.npz` or `.safetensors`) into `layers` of that plan, by
/// name. The last layer stays as it is if the file's has another number of outputs.
pub fn fill(
    layers: &mut Layers,
    path: &Path,
    architecture: Architecture,
) -> Result<Filled, StartingError> {
    let mut found = read(path)?;
    let [channels, ..] = layers.input;
    adapt(architecture, channels, &mut found);
    let head: Vec<String> = layers.head().map(|head| head.weights.clone()).unwrap_or_default();
    let constants = constants(layers);
    let mut result = Filled::default();
    for (name, weight) in layers.weights.iter_mut().filter(|(name, _)| !constants.contains(name)) {
        match found.remove(name) {
            Some(new) if new.shape == weight.shape => *weight = new,
            Some(new) if !head.contains(name) => {
                let (path, name) = (path.to_owned(), name.clone());
                let (found, wanted) = (new.shape, weight.shape.clone());
                return Err(StartingError::Shape { path, name, found, wanted });
            }
            _ => {
                result.left.push(name.clone());
                continue;
            }
        }
        result.filled.push(name.clone());
    }
    if result.filled.is_empty() {
        let example = result.left.pop().unwrap_or_default();
        return Err(StartingError::Strange { path: path.to_owned(), example });
    }
    Ok(result)
}

/// Weights that are part of the plan and not of what was learnt.
fn constants(layers: &Layers) -> Vec<String> {
    let fixed = |op: &Op| matches!(op, Op::MatMulLeft | Op::MatMulRight);
    let nodes = layers.nodes.iter().filter(|node| fixed(&node.op));
    nodes.flat_map(|node| node.weights.clone()).collect()
}

fn read(path: &Path) -> Result<BTreeMap<String, Weight>, StartingError> {
    let unreadable = |error| StartingError::Unreadable { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let weights = if bytes.starts_with(b"PK") { npz(&bytes) } else { tensors(&bytes) };
    weights.map_err(|why| StartingError::Format { path: path.to_owned(), why })
}

fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Weight>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut weights = BTreeMap::new();
    for (name, tensor) in tensors.tensors() {
        let kind = match tensor.dtype() {
            Dtype::F32 => "<f4",
            Dtype::F64 => "<f8",
            // Counters and the like.
            _ => continue,
        };
        let values = values(kind, tensor.data()).unwrap_or_default();
        weights.insert(name, Weight { shape: tensor.shape().to_vec(), values });
    }
    Ok(weights)
}

/// A zip archive of NumPy arrays, each named as its tensor.
fn npz(bytes: &[u8]) -> Result<BTreeMap<String, Weight>, String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut weights = BTreeMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = file.name().map_err(|error| error.to_string())?;
        let name = name.trim_end_matches(".npy").to_owned();
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut content)
            .map_err(|error| format!("{name}: {error}"))?;
        let array = npy(&content).ok_or_else(|| format!("{name} is no NumPy array"))?;
        weights.extend(array.map(|weight| (name, weight)));
    }
    Ok(weights)
}

/// A NumPy array of format 1 to 3; `Some(None)` if it holds no floating-point numbers.
///
/// The header is a Python dictionary of three fixed keys in one line. Libraries that read it bring
/// a parser generator along.
fn npy(content: &[u8]) -> Option<Option<Weight>> {
    let rest = content.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (length, rest) = if version.first() == Some(&1) {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
    };
    let (header, data) = rest.split_at_checked(length)?;
    let header = std::str::from_utf8(header).ok()?;
    let after = |key: &str| Some(header.split_once(key)?.1.trim_start_matches([':', ' ']));
    let kind = after("'descr'")?.strip_prefix('\'')?.split('\'').next()?;
    let shape = after("'shape'")?.strip_prefix('(')?.split(')').next()?;
    let numbers = shape.split(',').map(str::trim).filter(|number| !number.is_empty());
    let shape = numbers.map(|number| number.parse().ok()).collect::<Option<Vec<usize>>>()?;
    let Some(values) = values(kind, data) else { return Some(None) };
    let fits = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b)) == Some(values.len());
    let row_by_row = after("'fortran_order'")?.starts_with("False") || shape.len() < 2;
    (fits && row_by_row).then_some(Some(Weight { shape, values }))
}

/// Little-endian floating-point numbers, if that is what `kind` says.
fn values(kind: &str, data: &[u8]) -> Option<Vec<f32>> {
    match kind {
        "<f4" => Some(data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
        "<f8" => {
            let double = |&bytes| f64::from_le_bytes(bytes) as f32;
            Some(data.as_chunks().0.iter().map(double).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two linear layers, `f`, then `w` of `outputs` x 2 and `b`.
    fn network(outputs: usize) -> Layers {
        let mut layers = Layers::new([2, 1, 1]);
        let first = vec![("f".to_owned(), Weight::zeros(&[2, 2]))];
        layers.push(Op::Gemm, &[Layers::INPUT], first, "first");
        let weights = vec![
            ("w".to_owned(), Weight::zeros(&[outputs, 2])),
            ("b".to_owned(), Weight::zeros(&[outputs])),
        ];
        layers.push(Op::Gemm, &["first"], weights, "out");
        layers
    }

    /// A file as `numpy.savez` writes it: version 1, header padded with spaces.
    fn saved(folder: &Path, arrays: &[(&str, &str, &str, Vec<u8>)]) -> PathBuf {
        let path = folder.join("weights.npz");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, kind, shape, data) in arrays {
            let header =
                format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}    \n");
            let options = zip::write::SimpleFileOptions::default();
            archive.start_file(format!("{name}.npy"), options).unwrap();
            let mut content = b"\x93NUMPY\x01\x00".to_vec();
            content.extend((header.len() as u16).to_le_bytes());
            content.extend(header.bytes());
            content.extend(data);
            std::io::Write::write_all(&mut archive, &content).unwrap();
        }
        archive.finish().unwrap();
        path
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn weights_are_found_by_name_and_another_head_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let doubles = [1.0_f64, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let path = saved(
            folder.path(),
            &[
                ("f", "<f8", "(2, 2)", doubles),
                ("w", "<f4", "(3, 2)", floats(&[1.0; 6])),
                ("b", "<f4", "(3,)", floats(&[5.0, 6.0, 7.0])),
                ("steps", "<i8", "()", vec![0; 8]),
            ],
        );
        let mut same = network(3);
        let filled = fill(&mut same, &path, Architecture::Dense).unwrap();
        assert_eq!(filled.left, Vec::<String>::new());
        assert_eq!(same.weights["f"].values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(same.weights["b"].values, [5.0, 6.0, 7.0]);
        let mut other = network(4);
        let filled = fill(&mut other, &path, Architecture::Dense).unwrap();
        assert_eq!((filled.filled, filled.left), (vec!["f".into()], vec!["b".into(), "w".into()]));
        assert_eq!(other.weights["w"], Weight::zeros(&[4, 2]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut layers = network(3);
        let mut refused = |name, shape| {
            let path = saved(folder.path(), &[(name, "<f4", shape, floats(&[1.0; 4]))]);
            fill(&mut layers, &path, Architecture::Dense).unwrap_err().to_string()
        };
        let error = refused("f", "(4, 1)");
        assert!(error.contains("`f` is [4, 1], the network's is [2, 2]"), "{error}");
        let error = refused("g", "(4, 1)");
        assert!(error.contains("none of their names"), "{error}");
        let error = refused("f", "(9, 9)");
        assert!(error.contains("f is no NumPy array"), "{error}");
        let path = folder.path().join("nonsense");
        std::fs::write(&path, b"nonsense").unwrap();
        let error = fill(&mut layers, &path, Architecture::Dense).unwrap_err().to_string();
        assert!(error.contains("not a NumPy archive"), "{error}");
    }

    #[test]
    fn safetensors_are_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let data = floats(&[1.0, 2.0, 3.0, 4.0]);
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 2], &data).unwrap();
        std::fs::write(&path, safetensors::serialize([("f", view)], None).unwrap()).unwrap();
        let mut layers = network(3);
        assert_eq!(fill(&mut layers, &path, Architecture::Dense).unwrap().filled, ["f"]);
        assert_eq!(layers.weights["f"].values, [1.0, 2.0, 3.0, 4.0]);
    }
}
