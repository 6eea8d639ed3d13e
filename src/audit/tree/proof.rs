//! Verification of proofs that came from elsewhere: total on any sizes and hashes. The tests are with the
//! tree that makes the proofs.

use super::node;
use crate::id::Digest;

/// Says whether the tree `new` (size and root) begins with the tree `old` (RFC 9162, section 2.1.4.2).
///
/// A tree without leaves is the beginning of all and proves nothing: false.
pub fn verify_consistency(old: (u64, Digest), new: (u64, Digest), proof: &[Digest]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return old_root == new_root && proof.is_empty();
    }
    // A complete old tree is itself the first node of the proof and is not sent.
    let (first, rest) = match proof.split_first() {
        None => return false,
        Some(_) if old_size.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (*first, rest),
    };
    let mut climb = Climb { at: old_size - 1, last: new_size - 1 };
    climb.up(climb.at.trailing_ones());
    let (mut old, mut new) = (first, first);
    for &sibling in rest {
        match climb.step() {
            None => return false,
            Some(Side::Left) => (old, new) = (node(sibling, old), node(sibling, new)),
            Some(Side::Right) => new = node(new, sibling),
        }
    }
    climb.last == 0 && old == old_root && new == new_root
}

/// Says whether `leaf` stands at `index` (from 0) of `tree`, size and root (RFC 9162, section 2.1.3.2).
///
/// The size must come from a signed checkpoint: some proofs hold for a neighbouring size as well.
pub fn verify_inclusion(index: u64, leaf: Digest, tree: (u64, Digest), proof: &[Digest]) -> bool {
    let (size, root) = tree;
    if index >= size {
        return false;
    }
    let mut climb = Climb { at: index, last: size - 1 };
    let mut hash = leaf;
    for &sibling in proof {
        match climb.step() {
            None => return false,
            Some(Side::Left) => hash = node(sibling, hash),
            Some(Side::Right) => hash = node(hash, sibling),
        }
    }
    climb.last == 0 && hash == root
}

/// The side on which the next hash of a proof is joined.
enum Side {
    Left,
    Right,
}

/// A node's place in its level and that of the level's last node (`fn` and `sn` of RFC 9162).
struct Climb {
    at: u64,
    last: u64,
}

impl Climb {
    fn up(&mut self, levels: u32) {
        self.at = self.at.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }

    /// Joins one hash; none where the root is reached already.
    fn step(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        if self.at & 1 == 0 && self.at != self.last {
            self.up(1);
            return Some(Side::Right);
        }
        // The last node of a level without a sibling moves up as it is until it has one.
        self.up(self.at.trailing_zeros());
        self.up(1);
        Some(Side::Left)
    }
}
