//! Names close to one that was mistyped, among what the person may ask for anyway: tells nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::policy::There;
use crate::access::{Principal, Ruling, Target};
use crate::config::Directory;
use crate::id::TargetId;
use crate::time::Timestamp;

/// Names shown at most.
const MOST: usize = 3;

/// Returns the names that `name` may have been meant to be, nearest first, from the person's own
/// targets only: those where policy rules some action other than a denial for some login. Compares with
/// thousands of names, so beside the event loop.
pub async fn nearby(directory: Arc<Directory>, who: Principal, name: &str) -> Vec<String> {
    // Hostile names may be long; no target's is.
    let name = name.chars().take(128).collect::<String>().to_ascii_lowercase();
    // One that panicked would only leave the hint out.
    tokio::task::spawn_blocking(move || among_own(&directory, &who, &name)).await.unwrap_or_default()
}

/// Own kinds first: how long it takes tells nothing of what is not theirs.
fn among_own(directory: &Directory, who: &Principal, name: &str) -> Vec<String> {
    let now = Timestamp::now();
    let allowed = if name.chars().count() < 4 { 1 } else { 2 };
    let own = directory.kinds.iter().filter(|kind| is_own(directory, who, &kind.like, now));
    let names = own.flat_map(|kind| &kind.targets).flat_map(|target| std::iter::once(&target.id).chain(&target.aliases));
    let near: BTreeSet<(usize, &TargetId)> =
        names.map(|known| (distance(name, known.as_str()), known)).filter(|(distance, _)| *distance <= allowed).collect();
    near.into_iter().map(|(_, name)| name.to_string()).take(MOST).collect()
}

/// Whether the person may ask for anything on this target now: an action whatever the command, or a
/// command that policy names. What they may with their second factor is theirs, whether they gave it yet
/// or not.
pub fn is_own(directory: &Directory, who: &Principal, target: &Target, now: Timestamp) -> bool {
    let policy = &directory.policy;
    let may = |login, case| {
        let question = There { who, target, login, first_time: false, now }.about(case);
        !matches!(policy.rule(&question), Ruling::Deny(_)) || policy.lacks_second_factor(&question)
    };
    target.accounts(who.person()).iter().any(|login| policy.cases().any(|case| may(login, case)))
}

/// Insertions, deletions, changes and swaps of neighbours that make one name the other (optimal
/// string alignment); anything beyond 2 is only "far".
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut least = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_near_and_other_names_are_not() {
        assert_eq!(distance("web1", "web-1"), 1);
        assert_eq!(distance("wbe-1", "web-1"), 1);
        assert_eq!(distance("web-1", "web-1"), 0);
        assert_eq!(distance("", "ab"), 2);
        assert!(distance("web-1", "db-1") == 2, "{}", distance("web-1", "db-1"));
        assert!(distance("web-1", "mail-3") > 2);
    }
}
