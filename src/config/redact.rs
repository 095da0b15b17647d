//! Hiding what may be a secret in text that people and logs get to see.

/// What stands in a secret's place.
const HIDDEN: &str = "<hidden>";

/// Words that announce a secret in a command's arguments.
const SECRET_WORDS: [&str; 8] =
    ["password", "passwd", "passphrase", "token", "secret", "authorization", "api_key", "apikey"];

/// `text` without the user, password and query of a URL that it holds. `rtsp://user:pass@host/` is
/// the usual way to name a camera.
pub(super) fn hide_in_text(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // Up to the last `@`, so that a password which holds `/`, `?` or `@` is hidden as well.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => (format!("{HIDDEN}@"), rest),
        None => (String::new(), rest),
    };
    match rest.split_once('?') {
        Some((path, _)) => format!("{scheme}://{user}{path}?{HIDDEN}"),
        None => format!("{scheme}://{user}{rest}"),
    }
}

/// The address of a web server alone, without a user and without what follows the host.
pub(super) fn hide_path(text: &str) -> String {
    let text = hide_in_text(text);
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(start..).and_then(|rest| rest.find(['/', '?', '#']));
    match end.map(|end| start + end) {
        Some(end) => format!("{}/{HIDDEN}", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A command's arguments without what may be a secret: parts of URLs, and what a word like
/// `password` or `token` announces, in the same argument or the next.
pub(super) fn hide_in_argv(argv: &[String]) -> Vec<String> {
    let mut is_announced = false;
    let mut shown = Vec::with_capacity(argv.len());
    for argument in argv {
        let lower = argument.to_ascii_lowercase();
        let announces = SECRET_WORDS.iter().any(|word| lower.contains(word));
        let holds_value = argument.contains(['=', ':']);
        let is_hidden = is_announced || (announces && holds_value);
        shown.push(if is_hidden { HIDDEN.to_owned() } else { hide_in_text(argument) });
        is_announced = announces && !holds_value;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_hidden() {
        for (text, expected) in [
            ("rtsp://cam.local/stream", "rtsp://cam.local/stream"),
            ("rtsp://me:pw@cam.local/stream", "rtsp://<hidden>@cam.local/stream"),
            ("rtsp://me:p@/w?@cam.local/s", "rtsp://<hidden>@cam.local/s"),
            ("http://cam/?user=me&pw=x", "http://cam/?<hidden>"),
            ("me@home", "me@home"),
        ] {
            assert_eq!(hide_in_text(text), expected);
        }
    }

    #[test]
    fn of_an_address_the_host_is_shown() {
        for (text, expected) in [
            ("https://h", "https://h"),
            ("https://h/a/b", "https://h/<hidden>"),
            ("https://me:pw@h/a?b", "https://<hidden>@h/<hidden>"),
            ("h/a", "h/<hidden>"),
            ("htps://h?a", "htps://h/<hidden>"),
        ] {
            assert_eq!(hide_path(text), expected);
        }
    }

    #[test]
    fn announced_secrets_of_arguments_are_hidden() {
        let argv = [
            "get",
            "--password",
            "x",
            "--token=y",
            "-headers",
            "Authorization: Bearer z",
            "-i",
            "a",
        ];
        let shown = hide_in_argv(&argv.map(str::to_owned));
        assert_eq!(shown, ["get", "--password", HIDDEN, HIDDEN, "-headers", HIDDEN, "-i", "a"]);
    }
}
