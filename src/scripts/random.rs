//! `math.random`: the generator of drand48, as in Redis, so that a seed gives the same numbers everywhere.

/// The state, of which the lower 48 bits count.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

const MASK: u64 = (1 << 48) - 1;

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u32) -> Random {
        Random(u64::from(seed) << 16 | 0x330e)
    }

    /// The next number of 31 bits.
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & MASK;
        (self.0 >> 17) as u32
    }

    /// The next number from 0 to before 1.
    pub fn fraction(&mut self) -> f64 {
        const MOST: u32 = i32::MAX as u32;
        f64::from(self.next() % MOST) / f64::from(MOST)
    }
}
