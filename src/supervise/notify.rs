//! What systemd is told: ready, status text, watchdog, reloading, stopping. The only user of the
//! `sd-notify` crate. Outside systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Longest status text, in bytes; systemd takes a datagram of a few kilobytes.
const STATUS_BYTES_MAX: usize = 1024;

/// The line to the service manager that started this process, if one did (`$NOTIFY_SOCKET`).
#[derive(Debug, Clone)]
pub struct Notifier {
    watchdog_interval: Option<Duration>,
}

impl Notifier {
    /// Reads `$WATCHDOG_USEC` and `$WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let timeout = sd_notify::watchdog_enabled();
        Self { watchdog_interval: timeout.and_then(ping_interval) }
    }

    /// How often to call [`Notifier::watchdog`]: a third of the time after which systemd ends
    /// a silent service. `None`: no watchdog is set.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog_interval
    }

    /// Start-up, or a reload, is finished.
    pub fn ready(&self) {
        send(&[NotifyState::Ready]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        send(&[NotifyState::Status(&one_line(status))]);
    }

    /// All is well. To be called only for work that was really done.
    pub fn watchdog(&self) {
        send(&[NotifyState::Watchdog]);
    }

    /// A reload begins; [`Notifier::ready`] must follow, whether it succeeded or not.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            // systemd 253 and later tell this reload from an earlier one by the time.
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("cannot read the monotonic clock: {error}"),
        }
    }

    /// The service is on its way out.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }
}

/// A third of `timeout`: two pings may be late before the third is. `None` for no time at all.
fn ping_interval(timeout: Duration) -> Option<Duration> {
    (!timeout.is_zero()).then_some(timeout / 3)
}

/// `text` without line breaks and other control characters, which would begin another field of
/// the message (a device may be named anything), cut to [`STATUS_BYTES_MAX`].
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(STATUS_BYTES_MAX));
    for character in text.chars() {
        let shown = if character.is_control() { ' ' } else { character };
        if line.len() + shown.len_utf8() > STATUS_BYTES_MAX {
            break;
        }
        line.push(shown);
    }
    line
}

/// Sends without waiting for an answer. A failure is logged: nothing else can be done about it.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_three_times_within_the_timeout() {
        assert_eq!(ping_interval(Duration::from_secs(30)), Some(Duration::from_secs(10)));
        assert_eq!(ping_interval(Duration::ZERO), None);
    }

    #[test]
    fn a_status_cannot_smuggle_in_another_field() {
        assert_eq!(one_line("mic\nREADY=1\r\0end"), "mic READY=1  end");
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        let line = one_line(&"é".repeat(STATUS_BYTES_MAX));
        assert_eq!(line.len(), STATUS_BYTES_MAX);
        assert!(line.chars().all(|c| c == 'é'));
        assert_eq!(one_line(&format!("x{line}")).len(), STATUS_BYTES_MAX - 1);
    }
}
