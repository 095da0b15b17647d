//! What a network learns from, whatever its task: images and the outputs wanted for them.

/// Some examples, ready for a network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// `n x channels x 227 x 227` pixels of 0 to 255, the rows in the order of the recipe.
    pub images: Vec<f32>,
    /// `n x outputs`: what the network should say. For classes 0 to 1; they need not add up to 1,
    /// and an example of no class is all 0.
    pub targets: Vec<f32>,
}

/// An example that could not be made: training can't go on with this data.
#[derive(Debug, thiserror::Error)]
#[error("example {index}: {why}")]
pub struct ExampleError {
    pub index: usize,
    pub why: String,
}

/// A set of examples that are made when they are asked for. Shared by the threads that make them.
pub trait Examples: Send + Sync {
    /// How many there are in an epoch.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Outputs an example has.
    fn outputs(&self) -> usize;

    /// The examples at `indices`. The same seed (given when the set was made), epoch and index
    /// always give the same example, whichever others are asked for with it.
    fn batch(&self, epoch: u32, indices: &[usize]) -> Result<Batch, ExampleError>;
}
