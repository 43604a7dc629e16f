//! What a server's files take up on disk: blocks that are allocated, not lengths, so that space
//! that was prepared for later counts, and holes do not.

use std::fs;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::server::OUTPUT_FILE;

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// All files below `directory` together, except what the server printed.
pub fn allocated_bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == OUTPUT_FILE {
            continue;
        }
        // A running server deletes files and directories between one look and the next.
        let found = entry.metadata().and_then(|metadata| match metadata.is_dir() {
            true => allocated_bytes(&entry.path()),
            false => Ok(metadata.blocks() * BLOCK_BYTES),
        });
        bytes += match found {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            found => found?,
        };
    }
    Ok(bytes)
}
