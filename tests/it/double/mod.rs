//! A disk that remembers what was synced, and fails on command.
//!
//! It keeps apart what the page cache shows, what the device would give back, and what survives a
//! power cut: of everything that was not synced, any part may survive, even single sectors of a
//! write, or the second of two renames without the first. A write that syncs itself makes no other
//! write durable. A failed sync loses the bytes for good while the cache goes on showing them, as
//! ext4 does.

pub mod clients;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use post_gres_rs::wal::block::{BLOCK_BYTES, Block, bytes_of};
use post_gres_rs::wal::disk::{Access, Disk, DiskFile};

/// What a drive writes in one piece.
const SECTOR_BYTES: usize = 512;

/// What happens at the call that is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and does nothing.
    Error(ErrorKind),
    /// A write puts down a part and fails; any other call fails.
    Short,
    /// The next sync fails, and its bytes are lost to the device.
    LostSync,
    /// Power is cut before the call: nothing works from then on.
    PowerCut,
    /// A sync says that it is done, and is not; the tests must notice it.
    Lie,
}

/// The prepared segment of [`clients::options`].
const PREPARED: &str = "/log/wal_file.next";

/// The file that notes how far that log is durable.
pub const WITNESS: &str = "/log/wal_file.durable";

/// Something that happens in the middle of a call.
pub type Act = Box<dyn FnOnce() + Send>;

/// The double.
#[derive(Clone, Default)]
pub struct DoubleDisk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    gate_changed: Condvar,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: HashMap<PathBuf, usize>,
    durable_names: HashMap<PathBuf, usize>,
    /// Changes of names since the directory was synced.
    pending_names: Vec<NameChange>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    faulted: bool,
    /// Whether calls on [`WITNESS`], and those for free space, neither count nor fail.
    spares_others: bool,
    power_is_off: bool,
    /// The least time that a commit takes.
    commit_takes: Duration,
    /// While set, a commit waits.
    gate_closed: bool,
    /// While set, a sync of the thread that syncs beside the batches waits.
    syncer_held: bool,
    /// The thread whose next call panics.
    panics_in: Option<String>,
    waiting_at_gate: usize,
    /// How many more segments may be prepared; any number if it is `None`.
    preparations: Option<usize>,
    /// Which threads have asked for a sync apart from a write.
    synced_by: Vec<ThreadId>,
    /// Power is cut right after a rename to a name that ends like this.
    last_rename: Option<&'static str>,
    /// Writes to the file of this name put down something else.
    garbled: Option<PathBuf>,
    /// What happens before the write to the file of this name at this offset.
    before_write: Option<(PathBuf, u64, Act)>,
    /// The next rename meets a full disk.
    refuses_rename: bool,
    /// How many blocks there are for files; any number if it is `None`.
    blocks: Option<usize>,
}

#[derive(Clone, Default)]
struct Inode {
    cache: Vec<u8>,
    device: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// The blocks that it takes up.
    blocks: BTreeSet<usize>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Clone)]
enum NameChange {
    Put(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl DoubleDisk {
    /// Lets call number `at` from now on fail.
    pub fn fail_at(&self, at: usize, fault: Fault) {
        let mut state = self.0.state.lock();
        state.fault = Some((state.calls + at, fault));
        state.faulted = false;
    }

    /// The same for the next call on the log itself; calls of other threads on other files do not count.
    pub fn fail_log(&self, fault: Fault) {
        self.0.state.lock().spares_others = true;
        self.fail_at(1, fault);
    }

    /// Cuts the power right after the next rename to a name that ends with `suffix`.
    pub fn cut_power_after_rename_to(&self, suffix: &'static str) {
        self.0.state.lock().last_rename = Some(suffix);
    }

    /// From now on writes to the file of this name report success, and put down other bytes.
    pub fn garble(&self, path: &Path) {
        self.0.state.lock().garbled = Some(path.to_owned());
    }

    /// Does something before the file of this name is written to at `offset`, once.
    pub fn before_write_to(&self, path: &Path, offset: u64, act: Act) {
        self.0.state.lock().before_write = Some((path.to_owned(), offset, act));
    }

    /// The next rename fails, because the directory has no room for the name.
    pub fn refuse_next_rename(&self) {
        self.0.state.lock().refuses_rename = true;
    }

    /// Whether that rename has yet to come.
    pub fn refuses_rename(&self) -> bool {
        self.0.state.lock().refuses_rename
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.0.state.lock().power_is_off
    }

    /// Whether that call has come.
    pub fn has_failed(&self) -> bool {
        self.0.state.lock().faulted
    }

    /// Whether there is a file of this name and length that no power cut takes.
    pub fn has_durable(&self, path: &str, bytes: usize) -> bool {
        let state = self.0.state.lock();
        let inode = state.durable_names.get(Path::new(path)).map(|&inode| &state.inodes[inode]);
        inode.is_some_and(|inode| inode.durable.len() == bytes && inode.pending.is_empty())
    }

    /// How often the calling thread has asked for a sync apart from a write.
    pub fn syncs_from_here(&self) -> usize {
        let here = std::thread::current().id();
        self.0.state.lock().synced_by.iter().filter(|&&by| by == here).count()
    }

    /// Gives the disk room for files of this many bytes; any number with `None`.
    pub fn limit(&self, bytes: Option<u64>) {
        self.0.state.lock().blocks = bytes.map(|bytes| bytes as usize / BLOCK_BYTES);
    }

    /// Bytes that all files take up.
    pub fn used_bytes(&self) -> u64 {
        (self.0.state.lock().used() * BLOCK_BYTES) as u64
    }

    /// Makes each commit take at least this long.
    pub fn slow_down(&self, commit_takes: Duration) {
        self.0.state.lock().commit_takes = commit_takes;
    }

    /// Holds all commits until the gate is opened.
    pub fn close_gate(&self) {
        self.0.state.lock().gate_closed = true;
    }

    /// Lets commits pass.
    pub fn open_gate(&self) {
        self.0.state.lock().gate_closed = false;
        self.0.gate_changed.notify_all();
    }

    /// Holds the syncs that go on beside the batches, or lets them pass.
    pub fn hold_syncer(&self, held: bool) {
        self.0.state.lock().syncer_held = held;
        self.0.gate_changed.notify_all();
    }

    /// Lets the next call of the thread of this name panic.
    pub fn panic_in(&self, thread: &str) {
        self.0.state.lock().panics_in = Some(thread.to_owned());
    }

    /// Waits until a commit waits at the gate, or a sync that is held.
    pub fn wait_for_commit_at_gate(&self) {
        let mut state = self.0.state.lock();
        while state.waiting_at_gate == 0 {
            self.0.gate_changed.wait(&mut state);
        }
    }

    /// Lets this many segments be prepared from now on, and holds further ones; none are held with `None`.
    pub fn allow_preparations(&self, preparations: Option<usize>) {
        self.0.state.lock().preparations = preparations;
        self.0.gate_changed.notify_all();
    }

    /// How often anyone has asked for a sync apart from a write.
    pub fn syncs(&self) -> usize {
        self.0.state.lock().synced_by.len()
    }

    /// A disk as it may be found after the power was cut now: all that was synced, and what
    /// `survives` says of the rest.
    pub fn after_power_cut(&self, survives: &mut dyn FnMut() -> bool) -> DoubleDisk {
        let state = self.0.state.lock();
        let mut names = state.durable_names.clone();
        for change in &state.pending_names {
            if survives() {
                change.apply(&mut names);
            }
        }
        let named: BTreeSet<usize> = names.values().copied().collect();
        let found = |(number, inode): (usize, &Inode)| match named.contains(&number) {
            true => inode.after_power_cut(survives),
            // A file without a name cannot be found.
            false => Inode::default(),
        };
        let inodes = state.inodes.iter().enumerate().map(found).collect();
        DoubleDisk::found(inodes, names)
    }

    /// The disk as another process finds it, when this one was killed and the power stayed on.
    pub fn after_kill(&self) -> DoubleDisk {
        let state = self.0.state.lock();
        let disk = DoubleDisk::found(state.inodes.clone(), state.names.clone());
        disk.0.state.lock().blocks = state.blocks;
        disk.0.state.lock().durable_names = state.durable_names.clone();
        disk.0.state.lock().pending_names = state.pending_names.clone();
        disk
    }

    fn found(inodes: Vec<Inode>, names: HashMap<PathBuf, usize>) -> DoubleDisk {
        let state = State { inodes, durable_names: names.clone(), names, ..State::default() };
        DoubleDisk(Arc::new(Shared { state: Mutex::new(state), gate_changed: Condvar::new() }))
    }

    /// All files by name.
    pub fn files(&self) -> HashMap<PathBuf, Vec<u8>> {
        let state = self.0.state.lock();
        let content =
            |(path, &inode): (&PathBuf, &usize)| (path.clone(), state.inodes[inode].device.clone());
        state.names.iter().map(content).collect()
    }

    /// A disk that holds these files, all durable.
    pub fn with_files(files: &HashMap<PathBuf, Vec<u8>>) -> DoubleDisk {
        let mut names = HashMap::new();
        let mut inodes = Vec::new();
        for (path, bytes) in files {
            names.insert(path.clone(), inodes.len());
            let (cache, device, durable) = (bytes.clone(), bytes.clone(), bytes.clone());
            let blocks = (0..bytes.len().div_ceil(BLOCK_BYTES)).collect();
            inodes.push(Inode { cache, device, durable, pending: Vec::new(), blocks });
        }
        DoubleDisk::found(inodes, names)
    }

    /// Counts a call, and says what is to go wrong with it.
    fn call(state: &mut State, is_sync: bool) -> io::Result<Option<Fault>> {
        state.calls += 1;
        let here = std::thread::current();
        assert!(
            here.name() != state.panics_in.as_deref() || here.name().is_none(),
            "as was asked for"
        );
        if state.power_is_off {
            return Err(io::Error::other("the power is off"));
        }
        let Some((at, fault)) = state.fault else {
            return Ok(None);
        };
        // A liar lies for ever; everything else goes wrong once.
        if state.calls < at || (state.calls > at && fault != Fault::Lie) {
            return Ok(None);
        }
        state.faulted = true;
        match fault {
            Fault::LostSync if !is_sync => {
                state.fault = Some((state.calls + 1, fault));
                state.faulted = false;
                Ok(None)
            }
            Fault::Error(kind) => Err(kind.into()),
            Fault::PowerCut => {
                state.power_is_off = true;
                Err(io::Error::other("the power is off"))
            }
            fault => Ok(Some(fault)),
        }
    }

    fn plain_call(state: &mut State) -> io::Result<()> {
        match DoubleDisk::call(state, false)? {
            None | Some(Fault::Lie) => Ok(()),
            Some(_) => Err(io::Error::other("injected")),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut HashMap<PathBuf, usize>) {
        match self {
            NameChange::Put(path, inode) => drop(names.insert(path.clone(), *inode)),
            NameChange::Rename(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            NameChange::Remove(path) => drop(names.remove(path)),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                bytes.resize(bytes.len().max(at + written.len()), 0);
                bytes[*at..at + written.len()].copy_from_slice(written);
            }
            Change::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|&inode| self.inodes[inode].blocks.len()).sum()
    }

    /// Takes these blocks of a file, or as many of them as there are.
    fn take_blocks(&mut self, inode: usize, at: usize, bytes: usize) -> io::Result<()> {
        let wanted = at / BLOCK_BYTES..(at + bytes).div_ceil(BLOCK_BYTES);
        let mut free = self.blocks.map_or(usize::MAX, |all| all.saturating_sub(self.used()));
        for block in wanted {
            if !self.inodes[inode].blocks.contains(&block) {
                free = free.checked_sub(1).ok_or(ErrorKind::StorageFull)?;
                self.inodes[inode].blocks.insert(block);
            }
        }
        Ok(())
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        if let Change::SetLen(len) = change {
            self.blocks.retain(|&block| block < len.div_ceil(BLOCK_BYTES));
        }
        change.apply(&mut self.cache);
        change.apply(&mut self.device);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Makes one write durable, with the file's length, as `RWF_DSYNC` does.
    fn sync_written(&mut self, at: usize, written: &[u8]) {
        let (lens, mut writes): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|change| matches!(change, Change::SetLen(_)));
        lens.iter().for_each(|len| len.apply(&mut self.durable));
        Change::Write(at, written.to_vec()).apply(&mut self.durable);
        // An earlier write that is still on its way cannot undo it.
        for change in &mut writes {
            if let Change::Write(earlier, bytes) = change {
                let (from, to) =
                    (at.max(*earlier), (at + written.len()).min(*earlier + bytes.len()));
                if from < to {
                    bytes[from - *earlier..to - *earlier]
                        .copy_from_slice(&written[from - at..to - at]);
                }
            }
        }
        writes.retain(|change| match change {
            Change::Write(earlier, bytes) => {
                *earlier < at || *earlier + bytes.len() > at + written.len()
            }
            Change::SetLen(_) => true,
        });
        self.pending = writes;
    }

    fn lose(&mut self) {
        self.pending.clear();
        self.device = self.durable.clone();
    }

    fn after_power_cut(&self, survives: &mut dyn FnMut() -> bool) -> Inode {
        let mut device = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Write(at, bytes) => {
                    for (sector, piece) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if survives() {
                            let at = at + sector * SECTOR_BYTES;
                            Change::Write(at, piece.to_vec()).apply(&mut device);
                        }
                    }
                }
                Change::SetLen(_) if survives() => change.apply(&mut device),
                Change::SetLen(_) => {}
            }
        }
        let (cache, durable) = (device.clone(), device.clone());
        let blocks = (0..device.len().div_ceil(BLOCK_BYTES)).collect();
        Inode { cache, device, durable, pending: Vec::new(), blocks }
    }
}

struct DoubleFile {
    disk: DoubleDisk,
    inode: usize,
    access: Access,
}

impl DoubleFile {
    fn call(&self, state: &mut State, is_sync: bool) -> io::Result<Option<Fault>> {
        let is_witness = state.names.get(Path::new(WITNESS)) == Some(&self.inode);
        if state.spares_others && is_witness {
            return Ok(None);
        }
        DoubleDisk::call(state, is_sync)
    }

    fn sync_now(&self, state: &mut State, sync: impl FnOnce(&mut Inode)) -> io::Result<()> {
        match self.call(state, true)? {
            None => sync(&mut state.inodes[self.inode]),
            Some(Fault::Lie) => {}
            Some(Fault::LostSync) => {
                state.inodes[self.inode].lose();
                return Err(io::Error::other("the sync failed"));
            }
            Some(_) => return Err(io::Error::other("injected")),
        }
        Ok(())
    }

    fn write_now(&self, state: &mut State, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.call(state, false)?;
        let written = match fault {
            None | Some(Fault::Lie) => bytes,
            Some(_) => &bytes[..bytes.len() / 2],
        };
        state.take_blocks(self.inode, offset as usize, written.len())?;
        let mut put_down = written.to_vec();
        let garbled = state.garbled.as_ref().and_then(|path| state.names.get(path));
        if garbled == Some(&self.inode) {
            put_down.iter_mut().for_each(|byte| *byte ^= 1);
        }
        state.inodes[self.inode].change(Change::Write(offset as usize, put_down));
        match written.len() == bytes.len() {
            true => Ok(()),
            false => Err(ErrorKind::WriteZero.into()),
        }
    }
}

impl Disk for DoubleDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(DoubleFile { disk: self.clone(), inode, access }))
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        let inode = match state.names.get(path) {
            Some(&inode) => {
                state.inodes[inode].change(Change::SetLen(0));
                inode
            }
            None => {
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.names.insert(path.to_owned(), inode);
                state.pending_names.push(NameChange::Put(path.to_owned(), inode));
                inode
            }
        };
        Ok(Box::new(DoubleFile { disk: self.clone(), inode, access }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        if std::mem::take(&mut state.refuses_rename) {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), inode);
        change.apply(&mut state.names);
        state.pending_names.push(change);
        state.power_is_off |=
            state.last_rename.is_some_and(|suffix| to.to_string_lossy().ends_with(suffix));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.pending_names.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        let inside = |path: &&PathBuf| path.parent() == Some(directory);
        Ok(state.names.keys().filter(inside).cloned().collect())
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        let mut state = self.0.state.lock();
        if !state.spares_others {
            DoubleDisk::plain_call(&mut state)?;
        }
        let free = |all: usize| (all.saturating_sub(state.used()) * BLOCK_BYTES) as u64;
        Ok(state.blocks.map_or(u64::MAX, free))
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if DoubleDisk::call(&mut state, false)? == Some(Fault::Lie) {
            return Ok(());
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

impl DiskFile for DoubleFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.state.lock().inodes[self.inode].cache.len() as u64)
    }

    fn read_at(&self, blocks: &mut [Block], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        let inode = &state.inodes[self.inode];
        let bytes = match self.access {
            Access::Direct => &inode.device,
            Access::Buffered => &inode.cache,
        };
        let wanted: &mut [u8] = bytemuck::cast_slice_mut(blocks);
        let there = &bytes[(offset as usize).min(bytes.len())..];
        let count = there.len().min(wanted.len());
        wanted[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        let is_this = |state: &State, path: &Path, at: u64| {
            at == offset && state.names.get(path) == Some(&self.inode)
        };
        let mut state = self.disk.0.state.lock();
        let due =
            state.before_write.as_ref().is_some_and(|(path, at, _)| is_this(&state, path, *at));
        let act = state.before_write.take_if(|_| due);
        drop(state);
        if let Some((_, _, act)) = act {
            act();
        }
        self.write_now(&mut self.disk.0.state.lock(), bytes_of(blocks), offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        let is_prepared = |state: &State| {
            state.names.get(Path::new(PREPARED)).is_some_and(|&inode| inode == self.inode)
        };
        while is_prepared(&state) && state.preparations == Some(0) {
            self.disk.0.gate_changed.wait(&mut state);
        }
        if is_prepared(&state) {
            state.preparations = state.preparations.map(|left| left - 1);
        }
        while state.syncer_held && std::thread::current().name() == Some("syncer") {
            state.waiting_at_gate += 1;
            self.disk.0.gate_changed.notify_all();
            self.disk.0.gate_changed.wait(&mut state);
            state.waiting_at_gate -= 1;
        }
        state.synced_by.push(std::thread::current().id());
        self.sync_now(&mut state, Inode::sync)
    }

    fn write_synced_at(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        let takes = self.disk.0.state.lock().commit_takes;
        std::thread::sleep(takes);
        let mut state = self.disk.0.state.lock();
        self.write_now(&mut state, bytes_of(blocks), offset)?;
        while state.gate_closed {
            state.waiting_at_gate += 1;
            self.disk.0.gate_changed.notify_all();
            self.disk.0.gate_changed.wait(&mut state);
            state.waiting_at_gate -= 1;
        }
        let written = bytes_of(blocks);
        self.sync_now(&mut state, |inode| inode.sync_written(offset as usize, written))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        state.inodes[self.inode].change(Change::SetLen(len as usize));
        Ok(())
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        DoubleDisk::plain_call(&mut state)?;
        state.take_blocks(self.inode, offset as usize, bytes as usize)?;
        let len = (offset + bytes) as usize;
        if state.inodes[self.inode].cache.len() < len {
            state.inodes[self.inode].change(Change::SetLen(len));
        }
        Ok(())
    }
}
