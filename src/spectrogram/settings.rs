//! How several channels become the one that is analysed.

/// Which channel of a source is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelChoice {
    /// The mean of all channels.
    #[default]
    Mix,
    /// The first channel only; the others are ignored.
    First,
}
