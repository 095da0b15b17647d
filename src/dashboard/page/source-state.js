// The nine states of a source in words. `tone` says how loudly they are shown: `bad` means that nothing is heard
// although it should be.

const STATES = {
  opening: { label: "Opening", tone: "calm", words: "The input is being opened." },
  running: { label: "Listening", tone: "good", words: "" },
  muted: {
    label: "Muted", tone: "bad",
    words: "Only digital silence comes. Is the microphone switched off, or its volume at zero?",
  },
  stalled: { label: "Stalled", tone: "bad", words: "The input is open, but no sound comes from it." },
  lost: { label: "Lost", tone: "bad", words: "The input ended or failed. Hearken will open it again." },
  backing_off: {
    label: "Lost, retrying", tone: "bad", words: "The input cannot be heard. Hearken waits before its next attempt.",
  },
  failed: {
    label: "Failed", tone: "bad", words: "It can never work as it is configured: config.toml needs a change.",
  },
  ended: { label: "Ended", tone: "calm", words: "The recording was heard to its end." },
  off: { label: "Off", tone: "calm", words: "Listening is switched off." },
};

/** Label, tone and words of a state; a newer daemon may have one that this page does not know. */
export const describe = (state) => STATES[state] ?? { label: state, tone: "calm", words: "" };
