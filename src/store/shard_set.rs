//! The shards that one step needs, each once, in ascending order: every thread that takes several locks takes
//! them in this order, so that no two wait for each other.

use smallvec::SmallVec;

/// One bit for each shard.
#[derive(Default)]
pub struct ShardSet(SmallVec<[u64; 4]>);

impl ShardSet {
    /// These shards, in whatever order and however often they are named.
    pub fn of(shards: impl Iterator<Item = usize>) -> ShardSet {
        let mut set = ShardSet::default();
        for shard in shards {
            let (word, bit) = place(shard);
            if set.0.len() <= word {
                set.0.resize(word + 1, 0);
            }
            set.0[word] |= bit;
        }
        set
    }

    /// Its shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * BITS + bit)
            })
        })
    }

    /// How many shards of it come before this one, which is in it.
    pub fn rank(&self, shard: usize) -> usize {
        let (word, bit) = place(shard);
        debug_assert!(self.0[word] & bit != 0, "it is in the set");
        let before: u32 = self.0[..word].iter().map(|bits| bits.count_ones()).sum();
        (before + (self.0[word] & (bit - 1)).count_ones()) as usize
    }
}

const BITS: usize = u64::BITS as usize;

fn place(shard: usize) -> (usize, u64) {
    (shard / BITS, 1 << (shard % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_its_shards_in_order_and_knows_the_place_of_each() {
        for shards in [&[][..], &[0], &[7, 0, 7, 3], &[1023, 64, 63, 65, 0, 64, 127, 128]] {
            let set = ShardSet::of(shards.iter().copied());
            let mut expected = shards.to_vec();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
            for (place, shard) in expected.iter().enumerate() {
                assert_eq!(set.rank(*shard), place);
            }
        }
    }
}
