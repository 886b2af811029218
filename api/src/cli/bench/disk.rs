//! What a durable write costs here: a message waits for two of them, so a slow disk explains slow messages.

use std::{
    io::{Seek as _, SeekFrom, Write as _},
    time::Instant,
};

use super::report::{Row, reference};
use crate::cli::failure::Failure;

/// About what a message's transaction writes.
const BYTES: usize = 24 * 1024;
/// The file is written over and over, as a database's log is.
const PLACES: usize = 64;
const WRITES: usize = 400;

/// Writes and flushes in the directory for temporary files, where the measured servers keep theirs.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn measure() -> Result<Vec<Row>, Failure> {
    let failed = |error: std::io::Error| Failure::local_fault("DISK", error.to_string());
    // Named like a database: what has no name may be flushed cheaper.
    let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
    file.write_all(&vec![0; BYTES * PLACES]).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let mut micros = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let bytes = [u8::try_from(number % 251).unwrap_or_default(); BYTES];
        let place = u64::try_from(number % PLACES * BYTES).unwrap_or_default();
        let begun = Instant::now();
        file.seek(SeekFrom::Start(place))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.as_file().sync_data())
            .map_err(failed)?;
        micros.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    micros.sort_by(f64::total_cmp);
    Ok(vec![Row {
        metric: "a durable write of 24 KiB, p50",
        unit: "ms",
        measured: micros.get(WRITES / 2).copied().unwrap_or_default(),
        raw: Some(reference::DURABLE_TRANSACTION_MS),
        goal: None,
        higher_is_better: false,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_takes_time() {
        let rows = measure().unwrap_or_else(|_| panic!("the disk can be written"));
        assert!(matches!(rows.as_slice(), [row] if row.measured > 0.0));
    }
}
