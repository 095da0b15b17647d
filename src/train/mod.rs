//! Training: labelled clips to augmented images, a last layer or a whole network fitted to them.

pub mod adapt;
pub mod architecture;
pub mod augment;
pub mod embed;
pub mod examples;
pub mod fit;
pub mod head;
pub mod library;
pub mod noises;
pub mod photos;
pub mod remember;
pub mod shares;
pub mod sounds;
pub mod split;
pub mod starting;
pub mod threshold;
