//! A file of another format at the log's path, and how a log takes its place.
//!
//! What the records in such a file are is not known here; whoever knows reads the bytes and fills the
//! new log. A crash at any moment leaves either that file, untouched, or the whole new log (promise 4).

use std::sync::Arc;

use super::disk::{Access, Disk};
use super::files::{self, Files};
use super::reader::Reader;
use super::segment::Names;
use super::{Options, Refused, Wal};

/// The largest file of another format that is read whole, to be imported: the seed's program was
/// for learning, and 1 GiB is some thirty million of its records.
const LARGEST_FOREIGN_BYTES: u64 = 1 << 30;

impl Wal {
    /// Whether at the log's path there is a file that is not empty and no segment.
    pub fn stands_foreign(disk: &dyn Disk, options: &Options) -> anyhow::Result<bool> {
        let found = files::find(disk, &Names::new(&options.path), options.has_served())?;
        Ok(matches!(found, Files::Foreign))
    }

    /// The bytes of the file at the log's path, which is to be replaced.
    pub fn read_foreign(disk: &dyn Disk, options: &Options) -> anyhow::Result<Vec<u8>> {
        let path = &options.path;
        let names = Names::new(path);
        let kept = names.imported();
        anyhow::ensure!(
            !disk
                .list(names.directory())?
                .iter()
                .any(|found| found.file_name() == kept.file_name()),
            "{}: is in the way; it was kept by an earlier import. Nothing was changed. Move it away",
            kept.display()
        );
        let file = disk.open(path, Access::Direct)?;
        file.sync()?;
        let mut reader = Reader::new(&*file, 0)?;
        let len = reader.file_bytes();
        anyhow::ensure!(
            len <= LARGEST_FOREIGN_BYTES,
            "{}: {len} bytes are too many to import; the limit is {LARGEST_FOREIGN_BYTES}",
            path.display()
        );
        Ok(reader.bytes(0, len as usize)?.to_vec())
    }

    /// Begins a log with the records that `fill` appends and commits, in place of the file at its
    /// path, which is kept as `<path>.imported`. A crash leaves either that file, untouched, or
    /// the whole new log.
    pub fn replace_foreign(
        disk: Arc<dyn Disk>,
        options: Options,
        fill: &mut dyn FnMut(&mut Wal) -> Result<(), Refused>,
    ) -> anyhow::Result<()> {
        let names = Names::new(&options.path);
        let making = names.importing();
        let made = Wal::unlinked(disk.clone(), names.clone(), options, &making)
            .map_err(anyhow::Error::from)
            .and_then(|mut wal| Ok(fill(&mut wal).and_then(|()| Ok(wal.sync()?))?));
        if let Err(error) = made {
            // Half a log is nothing that a refused start may leave. What the disk has to say was said.
            drop(disk.remove(&making));
            return Err(error);
        }
        // Only a whole log may have the name under which a start would go on with it.
        disk.rename(&making, &names.next())?;
        disk.sync_directory(names.directory())?;
        disk.rename(names.active(), &names.imported())?;
        disk.sync_directory(names.directory())?;
        disk.rename(&names.next(), names.active())?;
        disk.sync_directory(names.directory())?;
        Ok(())
    }
}
