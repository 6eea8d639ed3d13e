//! Which channel requests pass (PURE). Everything not named here is refused.

/// What happens to an environment variable that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Env {
    /// Goes on to the target.
    Pass,
    /// Is the reason for the request and never goes on.
    Reason,
    /// Names the preset that is asked for, and never goes on.
    Preset,
    /// Is for the console, and never goes on.
    Console,
    Refuse,
}

/// More variables than this are refused.
pub const MAX_ENV: usize = 64;
/// Longer values are refused.
pub const MAX_ENV_VALUE: usize = 4 * 1024;
/// Longer commands are refused.
pub const MAX_EXEC: usize = 32 * 1024;

/// Rules on an environment variable by its name (`users.md` 12; git sends GIT_PROTOCOL).
pub fn env(name: &str) -> Env {
    match name {
        "COUNTERSIGN_REASON" | "LC_COUNTERSIGN_REASON" => Env::Reason,
        "COUNTERSIGN_PRESET" | "LC_COUNTERSIGN_PRESET" => Env::Preset,
        "NO_COLOR" => Env::Console,
        "LANG" | "TERM" | "COLORTERM" | "GIT_PROTOCOL" => Env::Pass,
        _ if name.starts_with("LC_") && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => Env::Pass,
        _ => Env::Refuse,
    }
}

/// Signals by their names (RFC 4254 6.10; `sig-name@domain` for others): short, or not passed on.
pub fn is_signal(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// Terminal names as they stand in terminfo.
pub fn is_term(term: &str) -> bool {
    term.len() <= 64 && term.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'))
}

/// Sizes that a terminal can have; a resize beyond is ignored.
pub fn is_size(cols: u32, rows: u32) -> bool {
    cols <= 10_000 && rows <= 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_passes() {
        assert_eq!(env("LC_ALL"), Env::Pass);
        assert_eq!(env("GIT_PROTOCOL"), Env::Pass);
        assert_eq!(env("LC_COUNTERSIGN_REASON"), Env::Reason);
        assert_eq!(env("LC_COUNTERSIGN_PRESET"), Env::Preset);
        assert_eq!(env("NO_COLOR"), Env::Console);
        for refused in ["LD_PRELOAD", "PATH", "LC_ALL=x", "LC_\n", "BASH_ENV", "SSH_AUTH_SOCK", ""] {
            assert_eq!(env(refused), Env::Refuse, "{refused:?}");
        }
    }
}
