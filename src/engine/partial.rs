//! Changes of a part of a long value, in a batch.
//!
//! Such a value is changed in place: the batch has a partial change, and no copy of the value. If a later command of the
//! same batch asks for more than its length and its expiry, or than a few of its bytes, the value is made, once, and kept up
//! to date from then on; the log still gets the partial change.

use super::altered::partial_bytes;
use super::batch::Sums;
use super::batch_view::{BatchView, MADE_BYTES};
use super::changes::Found;
use super::layer::Layer;
use crate::command::{Change, Database, Edit, Mutation, Patch, Refusal, Shape, Space, View};
use crate::entry::Entry;
use crate::store::Store;

/// A shorter value is logged as a whole when a part of it changes. A record of it fits into one block of the log with
/// the others of a small batch, so that nothing is gained before, and a SET leaves nothing to be asked. (The results of INCR
/// have at most 20 bytes.) Copying so much takes some 50 ns.
const LEAST_ALTERED: usize = 1 << 10;

impl BatchView<'_> {
    /// See [`Edit::patch`].
    pub(super) fn change_part(
        &mut self,
        key: &[u8],
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let old = self.shape(key).expect("the command has found it");
        let patch = Patch { key, before: old.length, offset, bytes };
        let new = Shape { length: patch.length(), ..old };
        if self.is_altered_whole(key, old, bytes.len()) {
            return self.derive((key, key), new.length, new.expiry, &|old, value| {
                value[..old.len()].copy_from_slice(old);
                value[offset..][..bytes.len()].copy_from_slice(bytes);
            });
        }
        self.announce(key, new.length, new.expiry)?;
        self.look_through(bytes.len())?;
        self.alter(Change::Patch(patch).to_mutation(), new)
    }

    /// See [`Edit::expire`].
    pub(super) fn change_expiry(&mut self, key: &[u8], at: Option<i64>) -> Result<(), Refusal> {
        let old = self.shape(key).expect("the command has found it");
        if self.is_altered_whole(key, old, 0) {
            return self
                .derive((key, key), old.length, at, &|old, value| value.copy_from_slice(old));
        }
        self.alter(Change::Expire(key, at).to_mutation(), Shape { expiry: at, ..old })
    }

    /// Whether a change of a part of this many bytes is logged as a whole value: if that is short, or if the command's
    /// or transaction's partial changes of the key are longer by now.
    fn is_altered_whole(&self, key: &[u8], old: Shape, bytes: usize) -> bool {
        let before = self.batch.altered_bytes(self.space(), key);
        old.length < LEAST_ALTERED || (before > 0 && before + bytes > old.length)
    }

    /// Adds a partial change, after which the entry has this shape.
    fn alter(&mut self, mutation: Mutation, shape: Shape) -> Result<(), Refusal> {
        if !self.batch.takes.allows(&mutation) {
            return Err(Refusal::NoRoom);
        }
        let grown = self.grown_with(&mutation, shape.bytes_with(mutation.key().len()))?;
        if self.batch.events.is_on() {
            self.note_events(&mutation)?;
        }
        let (space, Sums { bytes, used }) = (self.space(), self.batch.sums);
        let bytes = bytes + partial_bytes(&mutation);
        let sums = Sums { bytes, used: (used + grown).max(0) };
        self.batch.add(sums).alter(space, mutation, shape, grown);
        Ok(())
    }

    /// The topmost layer with a change of a key.
    fn top_of(&mut self, key: &[u8]) -> usize {
        let space = self.space();
        let is_changed = |layer: &mut Layer| layer.find(space, key) != Found::Unchanged;
        self.batch.layers.iter_mut().rposition(is_changed).expect("it was found")
    }

    /// The entry of a key whose last change is partial. It is made if nobody has asked for it yet.
    pub(super) fn whole(&mut self, key: &[u8]) -> &Entry {
        let (space, store, top) = (self.space(), self.store, self.top_of(key));
        let layers = &mut self.batch.layers;
        let (_, altered) = layers[top].altered(space, key).expect("its last change is partial");
        let Shape { length, expiry } = altered.shape;
        if altered.whole().is_none() {
            let layers = &mut layers[..=top];
            let mut made = None;
            with_base(layers, store, (space, key), |layers, base| {
                let fill = |value: &mut [u8]| fill(layers, (space, key), base, 0, value);
                made = Some(Entry::filled(key, length, expiry, fill));
            });
            layers[top].keep_whole(space, key, made.expect("a base is shown"));
            self.batch.note_made(length, MADE_BYTES);
        }
        let altered = self.batch.layers[top].altered(space, key);
        altered.and_then(|(_, altered)| altered.whole()).expect("it was kept")
    }

    /// A part of the value of a key whose last change is partial, within its end.
    pub(super) fn altered_part(&mut self, key: &[u8], from: usize, to: usize) -> Vec<u8> {
        let (space, store, top) = (self.space(), self.store, self.top_of(key));
        let layers = &mut self.batch.layers[..=top];
        if !layers[top].may_look_through(space, key) {
            return self.whole(key).value()[from..to].to_vec();
        }
        let mut part = vec![0; to - from];
        with_base(layers, store, (space, key), |layers, base| {
            fill(layers, (space, key), base, from, &mut part);
        });
        part
    }
}

/// Shows the value that a key has without its partial changes, and the layers in which these are, from the bottom up.
fn with_base(
    layers: &mut [Layer],
    store: &dyn Store,
    (space, key): (Space, &[u8]),
    mut show: impl FnMut(&[Layer], &[u8]),
) {
    const THERE: &str = "a partial change is one of a value that is there";
    let is_changed = |layer: &mut Layer| layer.find_base(space, key) != Found::Unchanged;
    match layers.iter_mut().rposition(is_changed) {
        Some(lowest) => {
            let layers = &layers[lowest..];
            show(layers, layers[0].base(space, key).expect(THERE).value());
        }
        None => store.get(Database::Space(space), key, &mut |entry| {
            show(layers, entry.expect(THERE).value());
        }),
    }
}

/// Fills `part`, which begins at `from` in a value, with the bytes of the base and those that these layers write over them.
fn fill(layers: &[Layer], (space, key): (Space, &[u8]), base: &[u8], from: usize, part: &mut [u8]) {
    write_over(part, from, 0, base);
    let altered = layers.iter().filter_map(|layer| layer.altered(space, key));
    for patch in altered.flat_map(|(changes, altered)| changes.patches(altered)) {
        write_over(part, from, patch.offset, &patch.bytes);
    }
}

/// Copies those of some bytes, which begin at `offset` in a value, that are in the part of it which begins at `from`.
fn write_over(part: &mut [u8], from: usize, offset: usize, bytes: &[u8]) {
    let (first, end) = (offset.max(from), (offset + bytes.len()).min(from + part.len()));
    if first < end {
        part[first - from..end - from].copy_from_slice(&bytes[first - offset..end - offset]);
    }
}
