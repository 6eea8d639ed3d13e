//! The Merkle tree over the rows of the log (RFC 6962, section 2.1), which only grows.
//!
//! This module owns the hashing, the proofs and their verification. Always true: a [`Tree`] answers
//! from what was pushed; leaves that come back from the store for a proof are held against the root
//! of their group, so that a row that changed on disk makes no proof rather than a wrong one. The
//! verifying functions are total: sizes and proofs come from peers.

mod proof;

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::id::Digest;

pub use proof::{verify_consistency, verify_inclusion};

/// Leaves of one group, of which a complete one is kept as its root only: 1,000,000 rows are 128 KB.
pub const GROUP: u64 = 256;

/// Returns the hash of a leaf: SHA-256(0x00 || bytes). The prefix keeps a leaf from passing for a node.
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
}

/// Returns the indexes (from 0) of the leaves of the group that holds `index`, were it complete.
pub fn group_of(index: u64) -> Range<u64> {
    let start = index - index % GROUP;
    start..start.saturating_add(GROUP)
}

/// The end of a growing tree: the roots of its largest complete subtrees, at most 64 of them.
///
/// It is all that a reader of a whole log needs: appending and the root, no proofs.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    /// From the left, the largest first; one for each bit that is set in `size`.
    complete: Vec<Digest>,
}

impl Frontier {
    pub fn push(&mut self, leaf: Digest) {
        let mut root = leaf;
        for _ in 0..self.size.trailing_ones() {
            root = self.complete.pop().map_or(root, |left| node(left, root));
        }
        self.complete.push(root);
        self.size += 1;
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the root of all leaves so far; of none it is the SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let smallest_first = self.complete.iter().rev().copied();
        smallest_first.reduce(|right, left| node(left, right)).unwrap_or_else(|| Digest::of(&[]))
    }
}

/// The tree of a log as its owner holds it: roots of complete groups and the leaves of the last one.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    frontier: Frontier,
    groups: Vec<Digest>,
    tail: Vec<Digest>,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, leaf: Digest) {
        self.frontier.push(leaf);
        self.tail.push(leaf);
        if self.size().is_multiple_of(GROUP) {
            self.groups.push(root_of(&self.tail));
            self.tail.clear();
        }
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Proves that the first `old` leaves (1 to [`Self::size`]) are still the same (RFC 6962, section 2.1.2).
    ///
    /// `group` is the leaves of [`group_of`]`(old)`; it is not looked at, and may be empty, where `old`
    /// is a multiple of [`GROUP`] or that group is not complete yet. None: `old` is out of range, or
    /// `group` is not what was pushed.
    pub fn consistency(&self, old: u64, group: &[Digest]) -> Option<Vec<Digest>> {
        if old == 0 || old > self.size() {
            return None;
        }
        let group = if old.is_multiple_of(GROUP) { &[] } else { self.held_against_root(old, group)? };
        let (mut rest, mut proof) = (0..self.size(), Vec::new());
        while rest.end != old {
            let middle = middle(&rest);
            if old <= middle {
                proof.push(self.subtree(middle..rest.end, group)?);
                rest.end = middle;
            } else {
                proof.push(self.subtree(rest.start..middle, group)?);
                rest.start = middle;
            }
        }
        if rest.start > 0 {
            proof.push(self.subtree(rest, group)?);
        }
        proof.reverse();
        Some(proof)
    }

    /// Proves that the leaf at `index` (from 0) is in this tree (RFC 6962, section 2.1.1).
    ///
    /// `group` as for [`Self::consistency`]: the leaves of [`group_of`]`(index)` if that is complete.
    pub fn inclusion(&self, index: u64, group: &[Digest]) -> Option<Vec<Digest>> {
        if index >= self.size() {
            return None;
        }
        let group = self.held_against_root(index, group)?;
        let (mut rest, mut proof) = (0..self.size(), Vec::new());
        while rest.end - rest.start > 1 {
            let middle = middle(&rest);
            if index < middle {
                proof.push(self.subtree(middle..rest.end, group)?);
                rest.end = middle;
            } else {
                proof.push(self.subtree(rest.start..middle, group)?);
                rest.start = middle;
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// Returns the leaves of the group around `index`, the given ones only if they have its root.
    fn held_against_root<'a>(&'a self, index: u64, given: &'a [Digest]) -> Option<&'a [Digest]> {
        match self.groups.get(usize::try_from(index / GROUP).ok()?) {
            None => Some(&self.tail),
            Some(root) => (given.len() as u64 == GROUP && root_of(given) == *root).then_some(given),
        }
    }

    /// Returns the root of a range that the recursion of RFC 6962 can ask for: whole groups, the tail,
    /// or what is inside of the one group whose leaves are given.
    fn subtree(&self, range: Range<u64>, group: &[Digest]) -> Option<Digest> {
        let at = usize::try_from(range.start / GROUP).ok()?;
        let within = usize::try_from(range.start % GROUP).ok()?;
        let long = range.end - range.start;
        if long > GROUP {
            let middle = middle(&range);
            return Some(node(self.subtree(range.start..middle, group)?, self.subtree(middle..range.end, group)?));
        }
        match self.groups.get(at) {
            Some(root) if long == GROUP => Some(*root),
            Some(_) => Some(root_of(group.get(within..)?.get(..long as usize)?)),
            None => Some(root_of(self.tail.get(within..)?.get(..long as usize)?)),
        }
    }
}

fn node(left: Digest, right: Digest) -> Digest {
    Digest(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

fn root_of(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|&leaf| frontier.push(leaf));
    frontier.root()
}

/// Returns where RFC 6962 cuts a range of two or more: after the largest power of two that is smaller.
fn middle(range: &Range<u64>) -> u64 {
    range.start + (1 << (range.end - range.start - 1).ilog2())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
                node(naive(left), naive(right))
            }
        }
    }

    fn leaves(n: u64) -> Vec<Digest> {
        (0..n).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    fn tree(leaves: &[Digest]) -> Tree {
        let mut tree = Tree::new();
        leaves.iter().for_each(|&leaf| tree.push(leaf));
        tree
    }

    fn group(leaves: &[Digest], index: u64) -> &[Digest] {
        let range = group_of(index);
        let end = leaves.len().min(range.end as usize);
        leaves.get(range.start as usize..end).unwrap_or(&[])
    }

    #[test]
    fn roots_are_those_of_the_reference_tree_of_certificate_transparency() {
        let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        assert_eq!(tree.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (input, root) in inputs.iter().zip(roots) {
            tree.push(leaf(&data_encoding::HEXLOWER.decode(input.as_bytes()).unwrap()));
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn every_proof_up_to_the_third_group_verifies() {
        let all = leaves(600);
        let roots: Vec<Digest> = (0..=600).map(|n| naive(&all[..n])).collect();
        for n in (1..=20).chain([255, 256, 257, 511, 513, 600]) {
            let some = &all[..n as usize];
            let tree = tree(some);
            assert_eq!(tree.root(), roots[n as usize]);
            for m in 1..=n {
                let proof = tree.consistency(m, group(some, m)).unwrap();
                assert!(verify_consistency((m, roots[m as usize]), (n, tree.root()), &proof), "{m} of {n}");
                let proof = tree.inclusion(m - 1, group(some, m - 1)).unwrap();
                assert!(verify_inclusion(m - 1, some[m as usize - 1], (n, tree.root()), &proof), "{m} of {n}");
            }
        }
    }

    #[test]
    fn leaves_that_changed_on_disk_make_no_proof() {
        let mut all = leaves(300);
        let tree = tree(&all);
        all[7] = leaf(b"changed");
        assert_eq!(tree.inclusion(3, group(&all, 3)), None);
        assert_eq!(tree.consistency(3, group(&all, 3)), None);
        assert_eq!(tree.consistency(3, &[]), None);
        assert!(tree.consistency(256, &[]).is_some());
        assert!(tree.inclusion(299, &[]).is_some());
        assert_eq!((tree.consistency(0, &[]), tree.consistency(301, &[]), tree.inclusion(300, &[])), (None, None, None));
    }

    #[test]
    fn a_proof_that_ends_below_the_root_is_refused() {
        // The root of two leaves, passed off as that of a larger tree.
        let (l, two) = (leaves(2), naive(&leaves(2)));
        assert!(verify_consistency((1, l[0]), (2, two), &[l[1]]) && verify_inclusion(0, l[0], (2, two), &[l[1]]));
        assert!(!verify_consistency((1, l[0]), (4, two), &[l[1]]));
        assert!(!verify_inclusion(0, l[0], (4, two), &[l[1]]));
        assert!(!verify_inclusion(0, l[0], (2, l[0]), &[]));
    }

    /// Every way to spoil a proof by one hash: one bit, one less, one more.
    fn spoiled(proof: &[Digest], at: usize, bit: u8) -> Vec<Vec<Digest>> {
        let mut longer = proof.to_vec();
        longer.insert(at % (proof.len() + 1), Digest([bit; 32]));
        if proof.is_empty() {
            return vec![longer];
        }
        let (mut changed, mut shorter) = (proof.to_vec(), proof.to_vec());
        changed[at % proof.len()].0[usize::from(bit) % 32] ^= 1 << (bit % 8);
        shorter.remove(at % proof.len());
        vec![longer, changed, shorter]
    }

    proptest! {
        #[test]
        fn only_the_very_proof_verifies((n, m, other) in (2u64..600).prop_flat_map(|n| (Just(n), 1..=n, 1..=n)), at in 0usize..12, bit: u8) {
            let all = leaves(n);
            let tree = tree(&all);
            let root = |m: u64| naive(&all[..m as usize]);
            let bad = Digest([bit; 32]);

            let proof = tree.consistency(m, group(&all, m)).unwrap();
            prop_assert!(verify_consistency((m, root(m)), (n, root(n)), &proof));
            prop_assert!(!verify_consistency((m, bad), (n, root(n)), &proof));
            prop_assert!(!verify_consistency((m, root(m)), (n, bad), &proof));
            prop_assert!(other == m || !verify_consistency((other, root(other)), (n, root(n)), &proof));
            prop_assert!(other == n || !verify_consistency((m, root(m)), (other, root(other)), &proof));
            for wrong in spoiled(&proof, at, bit) {
                prop_assert!(!verify_consistency((m, root(m)), (n, root(n)), &wrong));
            }

            let (i, j) = (m - 1, other - 1);
            let proof = tree.inclusion(i, group(&all, i)).unwrap();
            prop_assert!(verify_inclusion(i, all[i as usize], (n, root(n)), &proof));
            prop_assert!(!verify_inclusion(i, bad, (n, root(n)), &proof));
            prop_assert!(!verify_inclusion(i, all[i as usize], (n, bad), &proof));
            prop_assert!(i == j || !verify_inclusion(j, all[i as usize], (n, root(n)), &proof));
            prop_assert!(other == n || !verify_inclusion(i, all[i as usize], (other, root(other)), &proof));
            for wrong in spoiled(&proof, at, bit) {
                prop_assert!(!verify_inclusion(i, all[i as usize], (n, root(n)), &wrong));
            }
        }

        #[test]
        fn hostile_sizes_and_proofs_are_refused_and_no_panic(a: u64, b: u64, bytes in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
            let proof: Vec<Digest> = bytes.into_iter().map(Digest).collect();
            for (m, n) in [(a, b), (b, a), (0, a), (a, u64::MAX), (u64::MAX, u64::MAX), (1 << 63, u64::MAX), (1, u64::MAX)] {
                prop_assert!(!verify_consistency((m, leaf(b"m")), (n, leaf(b"n")), &proof));
                prop_assert!(!verify_inclusion(m, leaf(b"m"), (n, leaf(b"n")), &proof));
            }
            prop_assert!(group_of(a).contains(&a) || group_of(a).end == u64::MAX);
        }
    }
}
