//! Memory in whole, aligned blocks, the only thing the log reads and writes.
//!
//! Direct I/O wants buffers, offsets and lengths aligned to the device's block. Here the type
//! carries that, so that no call site can get it wrong: a [`Block`] is 4 KiB at a 4 KiB boundary,
//! and a [`BlockBuffer`] is bytes that happen to live in blocks, zero-padded to the last one.

use bytemuck::{Pod, Zeroable};

/// Bytes in a block: the page of every file system and the physical sector of every disk in use. A
/// batch starts on a block of its own, so that no block of a durable batch is ever written again.
/// `src/scaling.md` has what smaller ones would give, and endanger.
pub const BLOCK_BYTES: usize = 4096;

/// One block of a file, in memory.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4096))]
pub struct Block([u8; BLOCK_BYTES]);

impl Block {
    /// A block of zeros: what a prepared segment is made of.
    pub const ZERO: Block = Block([0; BLOCK_BYTES]);
}

/// The bytes of `blocks`.
pub fn bytes_of(blocks: &[Block]) -> &[u8] {
    bytemuck::cast_slice(blocks)
}

/// A growing run of bytes that can be handed to the disk as blocks.
///
/// - `filled <= blocks.len() * BLOCK_BYTES`.
/// - Bytes past `filled` may be stale until [`BlockBuffer::padded`] has zeroed them.
#[derive(Default)]
pub struct BlockBuffer {
    blocks: Vec<Block>,
    filled: usize,
}

impl BlockBuffer {
    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.filled;
        self.resize(start + bytes.len());
        self.as_mut_bytes()[start..].copy_from_slice(bytes);
    }

    /// Sets the number of bytes; new ones have arbitrary values.
    pub fn resize(&mut self, filled: usize) {
        let blocks = filled.div_ceil(BLOCK_BYTES);
        if blocks > self.blocks.len() {
            self.blocks.resize(blocks.max(self.blocks.len() * 2), Block::ZERO);
        }
        self.filled = filled;
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[..self.filled]
    }

    /// The bytes so far, to be changed in place.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.filled]
    }

    /// The bytes so far as whole blocks, the last one padded with zeros.
    pub fn padded(&mut self) -> &[Block] {
        let blocks = self.filled.div_ceil(BLOCK_BYTES);
        assert!(blocks <= self.blocks.len(), "what is filled is in the blocks");
        let whole: &mut [u8] = bytemuck::cast_slice_mut(&mut self.blocks[..blocks]);
        whole[self.filled..].fill(0);
        &self.blocks[..blocks]
    }

    /// At least `count` blocks to read into; [`BlockBuffer::resize`] then records how much was
    /// read.
    pub fn room(&mut self, count: usize) -> &mut [Block] {
        if count > self.blocks.len() {
            self.blocks.resize(count, Block::ZERO);
        }
        &mut self.blocks[..count]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Memory that it takes up.
    pub fn capacity(&self) -> usize {
        self.blocks.capacity() * BLOCK_BYTES
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Empties it, and gives memory beyond `keep_bytes` back, so that the memory of one huge value
    /// is not kept for ever.
    pub fn clear(&mut self, keep_bytes: usize) {
        self.filled = 0;
        self.blocks.truncate(keep_bytes.div_ceil(BLOCK_BYTES));
        self.blocks.shrink_to(keep_bytes.div_ceil(BLOCK_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zero_even_after_longer_bytes() {
        let mut buffer = BlockBuffer::default();
        buffer.extend_from_slice(&[7; 5000]);
        buffer.clear(usize::MAX);
        buffer.extend_from_slice(b"short");
        let blocks = buffer.padded();
        assert_eq!(blocks.len(), 1);
        assert_eq!(&bytes_of(blocks)[..5], b"short");
        assert!(bytes_of(blocks)[5..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_block_is_aligned_for_direct_io() {
        let blocks = vec![Block::ZERO; 3];
        assert_eq!(blocks.as_ptr().addr() % BLOCK_BYTES, 0);
    }
}
