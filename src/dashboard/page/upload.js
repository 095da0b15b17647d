// Sends a file with progress, which fetch cannot tell of, and knows which files can be sent.

import { errorOf, noAnswer } from "./api.js";
import { tell } from "./state.js";

const SIZE_MAX = 32 * 1024 * 1024;
const ENDINGS = {
  sound: ["wav", "aif", "aiff", "flac", "mp3", "ogg", "oga"],
  photo: ["jpg", "jpeg", "png", "tif", "tiff", "webp"],
};

export const ACCEPTED = Object.values(ENDINGS).flat().map((ending) => `.${ending}`).join(",");

/** "sound" or "photo"; null for what is neither. The ending counts first: browsers take .ogg for a video. */
export function kindOf(file) {
  const ending = file.name.split(".").at(-1).toLowerCase();
  const kind = Object.keys(ENDINGS).find((one) => ENDINGS[one].includes(ending));
  if (kind) return kind;
  if (file.type.startsWith("audio/")) return "sound";
  return file.type.startsWith("image/") ? "photo" : null;
}

/** Why a file need not even be sent, or null. */
export function refusal(file) {
  if (kindOf(file) === null) {
    return "This is neither a sound (WAV, AIFF, FLAC, MP3, Ogg) nor a photo (JPEG, PNG, TIFF, WebP).";
  }
  if (file.size > SIZE_MAX) return `The file has ${(file.size / 1048576).toFixed(1)} MiB; at most 32 are taken.`;
  return file.size === 0 ? "The file is empty." : null;
}

/** Posts a file. `progress` hears of the sent part, 0 to 1; the answer is a blob with a way to its headers. */
export function upload(path, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", path);
    call.responseType = "blob";
    call.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    call.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    call.onerror = () => reject(noAnswer());
    call.onload = async () => {
      if (call.status === 200) {
        resolve({ body: call.response, header: (name) => call.getResponseHeader(name) });
        return;
      }
      if (call.status === 401) tell("unauthorised");
      reject(explained(errorOf(call.status, call.getResponseHeader("Retry-After"), await call.response.text())));
    };
    signal.addEventListener("abort", () => call.abort());
    call.send(file);
  });
}

const WORDS = {
  413: "The file is too large: at most 32 MiB, and 10 minutes of sound, are taken.",
  415: "The file is of no kind that can be read.",
  429: "Hearken has enough files in hand.",
};

// The daemon's sentence knows more; what the status means goes in front of it.
function explained(error) {
  if (WORDS[error.status]) error.message = `${WORDS[error.status]} ${error.message}`;
  return error;
}
